"""What the tests of the packages share: each package is built once."""

import re
import sys
from pathlib import Path

import pytest

from tests.packages.roots import need_dpkg, stdout_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what ``packaging/frozen/build`` makes of this tree."""
    folder = tmp_path_factory.mktemp("frozen")
    stdout_of(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    (wheel,) = folder.glob("*.whl")
    stdout_of(ROOT / "packaging/frozen/build", folder / "out", wheel)
    return folder / "out"


@pytest.fixture(scope="session")
def package(frozen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this tree."""
    need_dpkg()
    folder = tmp_path_factory.mktemp("deb")
    quick = "env", "DPKG_DEB_COMPRESSOR_LEVEL=1"
    return Path(stdout_of(*quick, ROOT / "packaging/deb/build", frozen, folder).splitlines()[-1])


@pytest.fixture(scope="session")
def next_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a version to come, which brings another hub.json."""
    folder = tmp_path_factory.mktemp("next")
    stdout_of("dpkg-deb", "--raw-extract", package, folder / "tree")
    control = folder / "tree/DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)", r"\1+next", control.read_text(), flags=re.MULTILINE))
    (folder / "tree/etc/gpumon/hub.json").write_text('{"hub": {"port": 8082}}')
    stdout_of("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", folder / "tree", folder)
    return next(folder.glob("*.deb"))
