from pathlib import Path

import pytest

from gpumon.agent.pipe import Start
from tests.agent.drivers import Driver


@pytest.fixture(autouse=True)
def no_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever GPUs there really are, the kernel shows the reader none."""
    monkeypatch.setattr("gpumon.agent.reader.MACHINE", Start(root=str(tmp_path / "no machine")))


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A driver that obeys the test. Modules that need another kind define their own."""
    return Driver(tmp_path, monkeypatch)
