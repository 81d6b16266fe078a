"""Known weaknesses of what gpumon brings along: of its Python packages by pip-audit, of those in its page by npm.

Both ask services of others. Where one cannot be asked, that is no clean answer: it is :class:`UncheckedError`.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from release.steps import ROOT, FaultError, UncheckedError, finished

ACCEPTED: Final[dict[str, str]] = {}
"""Advisories that do not concern gpumon: by their id, with the reason."""


def of_python(pinned: Path) -> str:
    """Ask for each package of the file ``pinned``.

    Raises:
        FaultError: one has an advisory that is not accepted.
        UncheckedError: the service did not answer, or knows a package not at all.
    """
    command = (sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--disable-pip")
    done = finished((*command, "--no-deps", "--requirement", pinned))
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        raise UncheckedError(f"pip-audit: {_last_line(done.stderr) or f'status {done.returncode}'}") from None
    found = [
        f"{package['name']} {package['version']}: {advisory['id']}, mended in {_some(advisory['fix_versions'])}"
        for package in packages
        for advisory in package.get("vulns", [])
        if not {advisory["id"], *advisory.get("aliases", [])} & set(ACCEPTED)
    ]
    if found:
        raise FaultError("\n".join(found))
    if unknown := [package["name"] for package in packages if "skip_reason" in package]:
        told = f"{len(unknown)} of {len(packages)} packages: {_some(unknown)}"
        raise UncheckedError(f"pip-audit's service knows nothing of {told}")
    return f"none of {len(packages)} Python packages has one{_accepted()}"


def of_page() -> str:
    """Ask for what goes into the page. Raises as :func:`of_python` does."""
    command = (sys.executable, ROOT / "web" / "build_page.py", "npm", "audit", "--omit=dev", "--json")
    done = finished(command)
    said = done.stdout + done.stderr  # the script sends what npm says to the other stream
    report: dict[str, Any] = {}
    try:
        report = json.loads(said[said.index("{") : said.rindex("}") + 1])
        found: dict[str, Any] = report["vulnerabilities"]
    except (ValueError, KeyError):
        # Where npm was refused it says so in words, in place of what it was asked for.
        raise UncheckedError(f"npm audit: {report.get('message') or _last_line(said)}") from None
    if found:
        raise FaultError("\n".join(f"{name}: {weakness['severity']}" for name, weakness in found.items()))
    return "none of the page's packages has one"


def _accepted() -> str:
    return f" but for {', '.join(f'{one} ({why})' for one, why in ACCEPTED.items())}" if ACCEPTED else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "") if names else "none"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and "complete log" not in line]
    return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "no answer")
