"""What is given away: the wheel, the sdist and the repository, each as whoever gets it finds it."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

from release.packages import demo, try_hub
from release.steps import clean_environment

ROOT = Path(__file__).resolve().parent.parent
PAGE = "gpumon/hub/page"
BUILD_SECONDS = 600

# Each of these would be fetched while the page is shown; a link that somebody may follow would not.
OFF_SITE = r"(?:https?:|wss?:)?//"
LOADED = {
    ".html": rf"""(?:src|href|action|data|poster|srcset|content)\s*=\s*["']?\s*{OFF_SITE}""",
    ".css": rf"""(?:url\(|@import)\s*["']?\s*{OFF_SITE}""",
    ".js": rf"""(?:\b(?:fetch|import|importScripts|EventSource|WebSocket|Worker|sendBeacon|URL)\s*\(\s*|
        \b(?:from|import)\s*|\bsrc\s*[:=]\s*|url\(\s*)["'`]{OFF_SITE}""",
}

pytestmark = [pytest.mark.xdist_group("packaging"), pytest.mark.timeout(BUILD_SECONDS)]


def run(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Run a program to its end; what it printed, both streams, is shown when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this tree."""
    folder = tmp_path_factory.mktemp("packages")
    run(sys.executable, "-m", "hatchling", "build", "--directory", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(packages: Path) -> Path:
    return next(packages.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(packages: Path) -> Path:
    """The sdist, unpacked."""
    folder = packages / "sdist"
    with tarfile.open(next(packages.glob("*.tar.gz"))) as archive:
        # Python 3.11 has no filters before 3.11.4, and Python 3.12 warns where there is none.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    return next(folder.iterdir())


def names(wheel: Path) -> list[str]:
    with ZipFile(wheel) as archive:
        return archive.namelist()


def test_a_group_of_tests_stays_in_one_process(request: pytest.FixtureRequest) -> None:
    """Else each process builds each package anew."""
    if request.config.getoption("loadgroup", default=False):
        assert request.node.nodeid.endswith("@packaging")


def test_the_wheel_holds_the_package_with_its_types_and_its_page_and_nothing_else(wheel: Path) -> None:
    found = names(wheel)
    assert {"gpumon/py.typed", "gpumon/cli.py", f"{PAGE}/index.html", f"{PAGE}/licences.txt"} <= set(found)
    for kind in ("js", "css"):
        assert any(re.fullmatch(rf"{PAGE}/assets/[^/]+\.{kind}", name) for name in found), f"no {kind} in {found}"
    page = re.compile(r"gpumon_fleet-[\d.]+\.data/data/share/man/man1/gpumon\.1")
    (manual,) = filter(page.fullmatch, found)
    assert all(re.match(r"gpumon/|gpumon_fleet-[\d.]+\.dist-info/", name) for name in found if name != manual)
    assert not [name for name in found if re.search(r"node_modules|tests?/|\.map$|\.tsx?$|__pycache__", name)]


def test_the_page_in_the_wheel_loads_nothing_from_elsewhere(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        for name in names(wheel):
            kind = PurePosixPath(name).suffix
            if name.startswith(f"{PAGE}/") and kind in LOADED:
                found = re.findall(f"(?:{LOADED[kind]}).{{0,60}}", archive.read(name).decode(), re.VERBOSE)
                assert not found, f"{name} would load {found}"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (".html", '<script src="https://cdn.example/x.js">'),
        (".html", "<link href=//fonts.example/css>"),
        (".css", "@font-face{src:url(https://fonts.example/x.woff2)}"),
        (".css", '@import"https://fonts.example/css"'),
        (".js", 'import{h}from"https://esm.example/preact"'),
        (".js", 'await import("//esm.example/preact")'),
        (".js", "fetch(`https://api.example/`)"),
        (".js", 'new WebSocket("wss://api.example/")'),
        (".js", 'h("img",{src:"https://img.example/x.png"})'),
    ],
)
def test_what_would_be_loaded_from_elsewhere_is_recognised(kind: str, text: str) -> None:
    assert re.search(LOADED[kind], text, re.VERBOSE)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (".html", '<script src="/assets/x.js">'),
        (".css", "a{background:url(/x.svg)}"),
        (".js", 'fetch("/api/nodes")'),
        (".js", 'createElementNS("http://www.w3.org/2000/svg",x)'),
        (".js", 'h("a",{href:"https://docs.example/"})'),
    ],
)
def test_what_is_on_site_or_only_linked_is_no_load(kind: str, text: str) -> None:
    assert not re.search(LOADED[kind], text, re.VERBOSE)


def test_the_installed_wheel_runs_the_demo_and_serves_the_page(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, which borrows the dependencies only: this tree is out of reach."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python, gpumon = environment / "bin" / "python", environment / "bin" / "gpumon"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "borrowed.pth").write_text(
        f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n", encoding="utf-8"
    )
    clean = clean_environment(XDG_STATE_HOME=str(tmp_path / "state"))
    where = run(python, "-c", "import gpumon; print(gpumon.__file__)", cwd=tmp_path, environment=clean)
    assert Path(where.strip()).is_relative_to(site)

    clean["PATH"] = str(gpumon.parent)  # no Node, no npm, nothing else
    with demo(gpumon, tmp_path, clean) as url:
        assert try_hub(url) == len(("this machine", "simulated-1", "simulated-2", "simulated-3"))


def test_the_sdist_holds_the_sources_and_the_page_but_no_installed_packages(sdist: Path) -> None:
    for name in (
        "Makefile",
        "README.md",
        "LICENSE",
        "web/package-lock.json",
        "tests/setup/run-tests",
        "packaging/deb/build",
    ):
        assert (sdist / name).is_file(), name
    assert (sdist / PAGE / "index.html").is_file()
    assert not list(sdist.rglob("node_modules"))
    assert not list(sdist.rglob(".build"))


def test_the_sdist_builds_the_same_wheel_without_node(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """Its page is the one of its sources: no Node in the ``PATH``, none asked for, nothing fetched by npm."""
    code = (
        "import sys, hatchling.build as backend\n"
        "assert not backend.get_requires_for_build_wheel(), backend.get_requires_for_build_wheel()\n"
        "backend.build_wheel(sys.argv[1])\n"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    run(sys.executable, "-c", code, tmp_path, cwd=sdist, environment={**os.environ, "PATH": str(empty)})
    assert names(tmp_path / wheel.name) == names(wheel)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()
    assert not (sdist / "web" / "node_modules").exists()


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The files of the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    try:
        listed = run("git", "-c", f"safe.directory={ROOT}", "ls-files", "-z")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_nothing_third_party_is_in_the_repository(tracked: list[Path]) -> None:
    """Neither by its place nor by its looks: what people write has lines that people can read."""
    folders = {"node_modules", "vendor", "vendored", "third_party", "dist", "site-packages"}
    for path in tracked:
        name = path.relative_to(ROOT)
        assert not folders & set(name.parts), f"{name}: a folder of others' files"
        assert not re.search(r"\.min\.(js|css)$|\.map$|\.(whl|tgz|so|woff2?)$", name.name), f"{name}: made, not written"
        if path.suffix in {".js", ".mjs", ".ts", ".tsx", ".css", ".html", ".py", ".c"}:
            longest = max(map(len, path.read_text(encoding="utf-8").splitlines()), default=0)
            assert longest < 300, f"{name}: a line of {longest} characters looks minified"


def test_no_package_registry_is_named(tracked: list[Path]) -> None:
    """Which registry serves a machine is that machine's affair, also in the lock file."""
    registry = re.compile(rb'https?://[^\s"]*(?:registry|mirror|packages\.|/simple\b)|index[-_]url\s*=|"resolved"\s*:')
    for path in tracked:
        found = registry.search(path.read_bytes())
        assert not found, f"{path.relative_to(ROOT)} names {found[0].decode()}"
