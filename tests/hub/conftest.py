from collections.abc import AsyncIterator

import pytest

from tests.running import Site, running_hub


@pytest.fixture
async def hub() -> AsyncIterator[Site]:
    """A hub without configuration. Modules that need another define their own."""
    async with running_hub() as site:
        yield site
