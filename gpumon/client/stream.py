"""A hub's stream (``/api/stream``, docs/api.md), one connection of it: messages, or why there are none."""

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec
import websockets
from msgspec import Struct
from websockets.asyncio.client import connect

from gpumon import __version__
from gpumon.certificates import distrust
from gpumon.errors import HubError
from gpumon.glance import NodeCard, Numbers
from gpumon.model import Fault, Name, Node, Problem
from gpumon.text import one_line
from gpumon.wire import Close

View = Literal["full", "overview"]

OPEN_SECONDS: Final = 10.0
PING_SECONDS: Final = 5.0
PONG_SECONDS: Final = 15.0
"""A hub that is gone without a word is missed after both: the answer may stand behind a snapshot on a slow line."""
CLOSE_SECONDS: Final = 1.0
MAX_BYTES: Final = 256 * 1024 * 1024
"""More than the snapshot of the largest fleet that a hub tells of."""
MOST_SAID: Final = 300
ELSEWHERE: Final = "; where a hub runs elsewhere, --hub or GPUMON_HUB names it"
NOT_A_HUB: Final = "does not answer as a hub does: is this one?"
NOT_OUR_WORDS: Final = f"says what gpumon {__version__} does not understand: is it a hub, and no newer one?"
TOKEN: Final = "; the hub's token is told by --token-file or GPUMON_TOKEN"  # noqa: S105  (a sentence)


class Hub(NamedTuple):
    """Which hub, by its URL; what it is shown (None: nothing); whom to believe, where it is asked by https."""

    url: str
    token: str | None = None
    tls: ssl.SSLContext | None = None


class Message(Struct, frozen=True):
    """What a hub says, in either view: ``type`` tells which fields count."""

    type: str
    sent_at: str
    view: str = "full"
    nodes: list[Node] = []
    cards: list[NodeCard] = []
    numbers: Numbers | None = None
    names: list[Name] = []
    notices: list[Fault] = []


class _Connect(connect):
    """The token is for this hub and for no other: no redirect is followed."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@asynccontextmanager
async def opened(hub: Hub, view: View, pace_seconds: float) -> AsyncIterator[AsyncIterator[Message]]:
    """The messages of one connection, from the snapshot on, until it ends.

    Raises:
        HubError: there is no connection, or it has ended; whatever is read from it may raise the same.
    """
    try:
        connection = await _connect(hub, view, pace_seconds)
    except (OSError, TimeoutError, websockets.WebSocketException, EOFError) as error:
        raise _trouble(hub, error) from None
    async with connection:
        yield _messages(hub, connection)


def _connect(hub: Hub, view: View, pace_seconds: float) -> _Connect:
    return _Connect(
        _stream_url(hub.url, view, pace_seconds),
        additional_headers=None if hub.token is None else {"Authorization": f"Bearer {hub.token}"},
        ssl=hub.tls if _is_encrypted(hub.url) else None,
        compression=None,
        proxy=None,  # the environment's http_proxy is not meant for a hub in the lab
        open_timeout=OPEN_SECONDS,
        ping_interval=PING_SECONDS,
        ping_timeout=PONG_SECONDS,
        close_timeout=CLOSE_SECONDS,
        max_size=MAX_BYTES,
        max_queue=4,
        user_agent_header=f"gpumon/{__version__}",
    )


async def _messages(hub: Hub, connection: websockets.ClientConnection) -> AsyncIterator[Message]:
    decoder = msgspec.json.Decoder(Message)
    while True:
        try:
            data = await connection.recv(decode=False)
        except websockets.ConnectionClosed as error:
            raise _trouble(hub, error) from None
        try:
            yield decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise HubError(f"{hub.url}: {NOT_OUR_WORDS} ({one_line(str(error), MOST_SAID)})", is_refusal=True) from None


def _stream_url(url: str, view: View, pace_seconds: float) -> str:
    parts = urlsplit(url)
    scheme = "wss" if _is_encrypted(url) else "ws"
    query = urlencode({"view": view, "pace": f"{pace_seconds:g}"})
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/api/stream?{query}"


def _is_encrypted(url: str) -> bool:
    return urlsplit(url).scheme in ("https", "wss")


def _trouble(hub: Hub, error: Exception) -> HubError:
    """What it means that there is no connection (any more), in words for a person."""
    if isinstance(error, websockets.InvalidStatus):
        return _refusal(hub, error)
    if isinstance(error, websockets.ConnectionClosed):
        closed = error.rcvd
        if closed is not None and closed.code == Close.UNAUTHORISED:
            return HubError(f"{hub.url}: the hub no longer shows us anything: its token has changed", is_refusal=True)
        if closed is None and error.sent is not None:  # for no answer to a ping
            return HubError(f"{hub.url}: the hub does not answer any longer")
        said = f": {one_line(closed.reason, MOST_SAID)}" if closed is not None and closed.reason else ""
        return HubError(f"{hub.url}: the link has ended{said}")
    if isinstance(error, websockets.InvalidHandshake | websockets.InvalidURI | EOFError):
        return HubError(f"{hub.url}: {NOT_A_HUB}")
    if isinstance(error, ssl.SSLError):
        return HubError(f"{hub.url}: {distrust(error)}")
    if isinstance(error, TimeoutError):
        return HubError(f"{hub.url}: no answer within {OPEN_SECONDS:g} s")
    reason = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno:  # asyncio's own text for it tells the address once more, no reason
        reason = (error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno)) or reason
    advice = ELSEWHERE if isinstance(error, ConnectionRefusedError) else ""
    return HubError(f"{hub.url}: the hub cannot be reached: {one_line(reason, MOST_SAID)}{advice}")


def _refusal(hub: Hub, error: websockets.InvalidStatus) -> HubError:
    status = error.response.status_code
    try:
        detail = msgspec.json.decode(error.response.body or b"", type=Problem).detail
    except (msgspec.MsgspecError, UnicodeError):
        detail = ""
    if not detail and status != 401:
        return HubError(f"{hub.url}: {NOT_A_HUB} (status {status})")
    said = f": {one_line(detail, MOST_SAID)}" if detail else ""
    hint = TOKEN if status == 401 else ""
    return HubError(f"{hub.url}: refused with status {status}{said}{hint}", is_refusal=status in (400, 401, 403))
