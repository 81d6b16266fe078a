"""A machine that runs systemd, where one can be booted."""

from collections.abc import Iterator

import pytest

from tests.service import booted


@pytest.fixture(scope="module")
def machine() -> Iterator[booted.Machine]:
    if (why := booted.obstacle()) is not None:
        pytest.skip(f"no machine with systemd: {why}")
    with booted.booted() as machine:
        yield machine
