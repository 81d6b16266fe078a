"""What gpumon depends on can be installed without a compiler, on both processors and by every Python."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

from tests.packages.roots import stdout_of

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [told.rpartition(" ")[2] for told in PROJECT["classifiers"] if ":: Python :: 3." in told]
# Of the C libraries: Debian 10, RHEL 8 and whatever is newer.
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")

pytestmark = pytest.mark.timeout(600)  # the index may be slow


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_every_dependency_has_a_wheel(processor: str, python: str, tmp_path: Path) -> None:
    report = tmp_path / "report"
    stdout_of(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--dry-run"),
        *("--ignore-installed", "--target", tmp_path / "nowhere", "--only-binary=:all:", "--report", report),
        *("--implementation=cp", f"--python-version={python}"),
        *(f"--platform={name}_{processor}" for name in PLATFORMS),
        *PROJECT["dependencies"],
    )
    found = json.loads(report.read_text(encoding="utf-8"))["install"]
    files = [one["download_info"]["url"].rpartition("/")[2] for one in found]
    assert len(files) > len(PROJECT["dependencies"])
    assert all(name.endswith(".whl") for name in files)
    compiled = [name for name in files if not name.endswith("-none-any.whl")]
    assert compiled
    assert all(name.endswith(f"_{processor}.whl") for name in compiled)
