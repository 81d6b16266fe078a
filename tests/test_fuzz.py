"""The targets of the long fuzz take what they begin with: they run rarely, and what they stand on changes."""

import asyncio
from contextlib import closing

import pytest

from tests.long import fuzz


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_a_target_takes_its_seeds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(asyncio.new_event_loop()) as loop:  # which the target would keep until its process ends
        monkeypatch.setattr(asyncio, "new_event_loop", lambda: loop)
        target = fuzz.TARGETS[name]()
        for seed in [b"", *fuzz.SEEDS[name]]:
            target(seed)
