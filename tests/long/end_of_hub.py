"""A hub is told to end while 200 agents, 50 viewers by SSE, 50 by WebSocket and one that takes nothing are connected:
it says goodbye and is gone within 5 s, and its successor gets everything.

    python -m tests.long.end_of_hub                          2 minutes
"""

import argparse
import asyncio
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress

import aiohttp

from tests.long.harness import Agents, Hub, Run, script, wait_for

VIEWERS = 50


class Viewers:
    """Viewers in a thread of their own: how many look, and how each one's stream ended."""

    def __init__(self, url: str) -> None:
        self.looking = 0
        self.sse_ended = 0
        self.close_codes: list[int | None] = []
        self._url = url
        threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True).start()

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)) as session:
            works = [self._sse(session) for _ in range(VIEWERS)] + [self._stream(session) for _ in range(VIEWERS)]
            await asyncio.gather(*works)

    async def _sse(self, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{self._url}/api/events") as response:
            self.looking += 1
            with suppress(aiohttp.ClientError):
                async for _ in response.content.iter_any():
                    pass
        self.sse_ended += 1

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        async with session.ws_connect(f"{self._url}/api/stream", max_msg_size=0) as socket:
            self.looking += 1
            async for _ in socket:
                pass
            self.close_codes.append(socket.close_code)


def stuck_viewer(hub: Hub) -> socket.socket:
    """One that asks for the stream and never reads."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    viewer.connect((hub.address, hub.port))
    viewer.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return viewer


def ended_within(hub: Hub, seconds: float) -> float | None:
    """After how long the hub is gone."""
    began = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        hub.process.wait(seconds)
        return time.monotonic() - began
    return None


def main(run: Run, options: argparse.Namespace) -> None:
    hub = Hub(run)
    hub.start()
    agents = Agents(run, hub.url, options.agents)
    wait_for(lambda: hub.all_online(options.agents), "all agents", 90)
    viewers = Viewers(hub.url)
    with stuck_viewer(hub):
        wait_for(lambda: viewers.looking == 2 * VIEWERS, "all viewers", 60)
        time.sleep(10)
        began = time.monotonic()
        hub.send(signal.SIGTERM)
        took = ended_within(hub, 15)
        run.claim(took is not None and took <= 5, "the hub is gone within 5 s", f"{took or 99:.1f} s")
        run.claim(hub.process.returncode == 0, "exit status", hub.process.returncode)
    run.within(5, "every stream has ended", lambda: viewers.sse_ended + len(viewers.close_codes) == 2 * VIEWERS)
    run.claim(set(viewers.close_codes) <= {1012, 1001}, "close codes of the viewers", set(viewers.close_codes))
    texts = {event.text for event in agents.events(began, "failed") if event.text.startswith("closed")}
    run.claim(texts, "agents were told", sorted(texts))
    time.sleep(options.down)
    hub.start()
    run.within(20, "all agents are back", lambda: len(agents.first("connected", began)) == options.agents, patience=60)
    run.within(30, "everything is in", hub.has_all, patience=90)
    run.claim(not hub.ledger.repeated() and not hub.ledger.missing(), "nothing lost, nothing twice")
    with stuck_viewer(hub):
        time.sleep(3)
        hub.send(signal.SIGINT)
        hub.send(signal.SIGINT)
        took = ended_within(hub, 15)
        run.claim(took is not None and took <= 2, "of two SIGINT it ends at once", f"{took or 99:.2f} s")


if __name__ == "__main__":
    script(main, ("--agents", 200, "agents"), ("--down", 20.0, "seconds without a hub"))
