"""Requests written byte by byte, for what no client would send."""

import asyncio
import contextlib
from typing import NamedTuple

from tests.running import Site

KEY = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
PATIENCE_SECONDS = 30.0


class Answer(NamedTuple):
    """``status`` is 0 where the connection ended without a word."""

    status: int
    head: str
    body: bytes


async def exchange(hub: Site, request: bytes) -> Answer:
    """What the hub answers to ``request``: its first answer, and of a body as much as its length says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except (asyncio.IncompleteReadError, ConnectionError):
                return Answer(0, "", b"")
            fields = {key.lower(): value for key, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
            has_body = not request.startswith(b"HEAD ")
            body = await reader.readexactly(int(fields.get("content-length", 0))) if has_body else b""
        return Answer(int(head.split()[1]), head, body)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def get(target: str, *headers: str, method: str = "GET", host: str | None = "127.0.0.1") -> bytes:
    """A request; ``host`` None leaves that header out."""
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def upgrade(target: str, *headers: str, host: str = "127.0.0.1") -> bytes:
    """A WebSocket's first words."""
    handshake = ("Connection: Upgrade", "Upgrade: websocket", *KEY.strip().split("\r\n"))
    return get(target, *handshake, *headers, host=host)
