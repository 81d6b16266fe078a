"""A hub with a folder, and those who have its token, a wrong one, or none."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gpumon.config import AuthSection, Config
from gpumon.hub.auth import TOKEN_FILE
from tests.hub.rawhttp import exchange, get
from tests.running import Site, running_hub


class LockedHub:
    """A hub that runs, and what opens it."""

    def __init__(self, site: Site, folder: Path, *, is_closed: bool) -> None:
        self.site = site
        self.is_closed = is_closed
        self.token = (folder / TOKEN_FILE).read_text().strip()
        self.origin = f"Origin: http://127.0.0.1:{site.port}"
        self.host = f"127.0.0.1:{site.port}"

    @property
    def bearer(self) -> str:
        return f"Authorization: Bearer {self.token}"

    async def log_in(self) -> str:
        """A session of its own: the header that names it."""
        body = json.dumps({"token": self.token})
        headers = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        answer = await exchange(self.site, get("/api/login", *headers, method="POST") + body.encode())
        assert answer.status == 204, answer
        return f"Cookie: {answer.head.partition('set-cookie: ')[2].partition(';')[0]}"


@asynccontextmanager
async def locked_hub(folder: Path, settings: AuthSection, config: Config | None = None) -> AsyncIterator[LockedHub]:
    """A hub with ``folder``, which keeps its token."""
    base = config or Config()
    whole = Config(nodes=base.nodes, hub=base.hub, auth=settings)
    async with running_hub(whole, state_folder=folder) as site:
        await site.get("/health")
        yield LockedHub(site, folder, is_closed=settings.viewers == "token")
