"""What ``make release-check`` looks at, as far as it is cheap; the rest of it takes environments of its own."""

import json
import subprocess
from pathlib import Path

import pytest

from release import advisories, bounds, versions
from release.steps import ROOT, FaultError, UncheckedError


def test_one_version_and_the_changelog_tells_of_it_first() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert versions.check(is_final=False).startswith(versions.version())


@pytest.mark.parametrize(
    ("heading", "final", "fault"),
    [
        ("## 9.9.9 (2026-01-31)", False, "tells of 9.9.9 first"),
        ("## {version} (soon)", False, "the date of"),
        ("## {version} (unreleased)", True, "still called unreleased"),
        ("## {version}", False, "no heading"),
    ],
)
def test_a_changelog_that_is_not_ready_is_a_fault(
    heading: str, final: bool, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _tree(tmp_path, heading)
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr(versions, "second_sources", list)
    with pytest.raises(FaultError, match=fault):
        versions.check(is_final=final)


def test_a_version_that_is_set_twice_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _tree(tmp_path, "## {version} (2026-01-31)")
    (tmp_path / "other.py").write_text(f'VERSION = "{versions.version()}"\n')
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr(versions, "run", lambda *_: "gpumon/__init__.py\0other.py\0")
    with pytest.raises(FaultError, match=r"again in other\.py"):
        versions.check(is_final=True)


def _tree(folder: Path, heading: str) -> None:
    version = versions.version()
    (folder / "gpumon").mkdir()
    (folder / "gpumon" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading.format(version=version)}\n")


def test_every_dependency_is_bounded_below() -> None:
    assert bounds.unbounded() == []
    assert not bounds.BOUNDED.match("aiohttp")
    assert not bounds.BOUNDED.match("aiohttp<4")


def said(monkeypatch: pytest.MonkeyPatch, output: str, errors: str = "") -> None:
    done = subprocess.CompletedProcess([], 1, output, errors)
    monkeypatch.setattr(advisories, "finished", lambda *_: done)


def test_an_advisory_is_a_fault_until_it_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    advisory = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"]}
    packages = {"dependencies": [{"name": "one", "version": "1.0", "vulns": [advisory]}]}
    said(monkeypatch, json.dumps(packages))
    with pytest.raises(FaultError, match=r"one 1\.0: PYSEC-1, mended in 2\.0"):
        advisories.of_python(Path())
    monkeypatch.setitem(advisories.ACCEPTED, "CVE-2026-1", "of a part that we do not use")
    assert "we do not use" in advisories.of_python(Path())


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        ('{"dependencies": [{"name": "one", "skip_reason": "not found"}]}', ""),
        ("", "ConnectionError: no route to host"),
        ("[]", ""),
    ],
)
def test_silence_of_the_service_is_not_taken_for_a_clean_answer(
    output: str, errors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(monkeypatch, output, errors)
    with pytest.raises(UncheckedError):
        advisories.of_python(Path())


def test_the_pages_packages_are_asked_for_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch, "", '{"vulnerabilities": {"preact": {"severity": "high"}}}')
    with pytest.raises(FaultError, match="preact: high"):
        advisories.of_page()
    said(monkeypatch, "", '{"vulnerabilities": {}}')
    assert "none" in advisories.of_page()
    said(monkeypatch, "", "npm error audit endpoint returned an error")
    with pytest.raises(UncheckedError, match="endpoint"):
        advisories.of_page()
    said(
        monkeypatch,
        "",
        '{\n"message": "405 Method Not Allowed",\n"error": {\n"summary": ""\n}\n}\nnpm error Look there',
    )
    with pytest.raises(UncheckedError, match="npm audit: 405 Method Not Allowed"):
        advisories.of_page()
