"""Whether a process does what it is for, as it sees itself: that it says so by a timer would prove nothing."""

import asyncio
import logging
import socket
import ssl
import time
from collections import deque

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
BESIEGED_SECONDS = 20.0
"""A server that has ended something within that time is not dead: strangers who say nothing are ended after 15 s."""
MOST_TAKEN = 1000
REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 "
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Pulse:
    """Beats whenever a piece of work was done that must be done again and again."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self.beats = 0

    def beat(self) -> None:
        self._at = time.monotonic()
        self.beats += 1

    @property
    def silence_seconds(self) -> float:
        """Since the last beat."""
        return time.monotonic() - self._at


class Traffic:
    """What a server does, whoever comes: the requests that it has ``answered``, what it has ``refused``, and from where
    those came that it has ``taken`` last.
    """

    def __init__(self) -> None:
        self.answered = Pulse()
        self.refused = Pulse()
        self.taken: deque[object] = deque(maxlen=MOST_TAKEN)


class OwnDoor:
    """Asks our own server, on its own socket, whatever it answers. ``traffic`` is all that it does.

    Who was never reached so is not held to be ill: a firewall may be in between. Nor who answers others meanwhile, or
    turns them away and has not even taken our question: so many may come that there is no room for us, and to start
    anew would help with that least of all. Who has taken it and answers nobody has hung.
    """

    def __init__(self, listener: socket.socket, traffic: Traffic, *, tls: bool) -> None:
        host, self._port = listener.getsockname()[:2]
        self._host = ANY_ADDRESS.get(host, host)
        self._tls = _believing_all() if tls else None
        self._has_answered = False
        self._traffic = traffic
        self._answered_then = 0
        self._own: object = None

    async def trouble(self) -> str | None:
        """Why it does not answer any more; None if it does."""
        can_be_full = True
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                said = await self._ask()
        except TimeoutError:
            why = f"does not answer within {ANSWER_SECONDS:.0f} s"
        except (OSError, asyncio.IncompleteReadError) as error:
            can_be_full = not isinstance(error, ConnectionRefusedError)  # which says that nobody listens any more
            why = f"does not answer: {getattr(error, 'strerror', None) or error}"
        else:
            if said == ANSWER:
                self._has_answered = True
                self._answered_then = self._traffic.answered.beats
                return None
            why = "answers something that is not HTTP"
        if can_be_full and self._serves_others():
            log.warning("our own server %s, but serves others: so many come that there is no room for us", why)
            return None
        if self._has_answered:
            return f"our own server {why}"
        log.debug("our own server %s, and never has: this is not looked at", why)
        return None

    def _serves_others(self) -> bool:
        answered, refused = self._traffic.answered, self._traffic.refused
        # One of them may have been our own last question, counted after its answer was read.
        if answered.beats > self._answered_then + 1 and answered.silence_seconds < BESIEGED_SECONDS:
            return True
        # They may be turned away in waves, each as long as they may be silent, between which we were answered.
        is_taken = self._own in self._traffic.taken
        return not is_taken and refused.beats > 0 and refused.silence_seconds < BESIEGED_SECONDS

    async def _ask(self) -> bytes:
        self._own = None
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        self._own = writer.get_extra_info("sockname")
        try:
            writer.write(REQUEST)
            return await reader.readexactly(len(ANSWER))
        finally:
            writer.transport.abort()


def _believing_all() -> ssl.SSLContext:
    """It is our own certificate, and who else would be on our own socket?"""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
