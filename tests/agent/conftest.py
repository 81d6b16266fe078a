from pathlib import Path

import pytest

from tests.agent.drivers import Driver


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A driver that obeys the test. Modules that need another kind define their own."""
    return Driver(tmp_path, monkeypatch)
