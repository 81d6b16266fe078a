"""Debian's Prometheus, which the tests run, and its promtool."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.running import free_port

UNPACKED = Path(__file__).parents[1] / ".build/prometheus/usr/bin"
"""Where tests/setup puts it, if it is not installed."""
PATH = os.pathsep.join([os.environ.get("PATH", ""), str(UNPACKED)])
PROMETHEUS = shutil.which("prometheus", path=PATH)
PROMTOOL = shutil.which("promtool", path=PATH)
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="Prometheus is not here (Debian: apt install prometheus)"
)


def promtool(*arguments: str, given: bytes = b"", folder: Path | None = None) -> str:
    """What promtool says; nothing wrong, or the test fails. Of metrics it says nothing if they are well."""
    assert PROMTOOL is not None
    ended = subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, cwd=folder, check=False)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said


class Prometheus:
    """A server that scrapes, and answers queries."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._session = session

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that answer, now. A query that is wrong fails the test."""
        async with self._session.get(f"{self._url}/api/v1/query", params={"query": expression}) as response:
            answer = await response.json()
            assert answer["status"] == "success", (expression, answer)
            found = answer["data"]["result"]
            assert isinstance(found, list)
            return found

    async def value(self, expression: str) -> float | None:
        """That of the only series; None where there is none."""
        found = await self.query(expression)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None

    async def targets(self) -> list[dict[str, Any]]:
        """What is scraped, and how that went."""
        async with self._session.get(f"{self._url}/api/v1/targets") as response:
            found = (await response.json())["data"]["activeTargets"]
            assert isinstance(found, list)
            return found

    async def is_ready(self) -> bool:
        try:
            async with self._session.get(f"{self._url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False


@contextmanager
def prometheus(file: Path, session: aiohttp.ClientSession) -> Iterator[Prometheus]:
    """One of this configuration; what it keeps lies beside that."""
    assert PROMETHEUS is not None
    port = free_port()
    options = [f"--config.file={file}", f"--storage.tsdb.path={file.parent / 'data'}", "--log.level=warn"]
    options += [f"--web.listen-address=127.0.0.1:{port}", "--web.console.templates=", "--web.console.libraries="]
    clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    with subprocess.Popen([PROMETHEUS, *options], stdout=sys.stderr, env=clean) as process:
        try:
            yield Prometheus(port, session)
        finally:
            process.kill()
