"""The names by which a server of ours may be asked, and from whose pages: the rules for ``Host`` and ``Origin``.

A page of anybody's can have its own name lead to a hub or an agent (DNS rebinding); what it then asks bears that name
in ``Host``. So only names count that are known to be the server's. An IP address always does, for nobody can have it
lead elsewhere.
"""

import contextlib
import ipaddress
import logging
import re
import socket
from collections.abc import Iterable
from typing import Final

log = logging.getLogger(__name__)

LOOPBACK: Final = "localhost"
MOST_KEPT: Final = 512
MOST_LOGGED: Final = 16
PORT: Final = rb"(?::[0-9]{1,5})?"
_HOST: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45}(?:%[\w.~-]{1,32})?)\]|([\w.-]{1,254}))" + PORT)
_ORIGIN: Final = re.compile(rb"(https?)://([\w.:\[\]-]{1,320})")


class Hosts:
    """Judges what requests bear in ``Host`` and ``Origin``; what was good once is remembered.

    ``server`` is what is asked, "hub" or "agent", and the section of the configuration that may allow further names.
    Where it is reached from its own machine only (``is_local``), no name counts that others could have lead there.
    """

    def __init__(self, names: Iterable[str] = (), server: str = "hub", *, is_local: bool = False) -> None:
        self._server = server
        self._is_local = is_local
        self._own: frozenset[str] = frozenset() if is_local else own_names()
        self._configured: frozenset[str] = frozenset()
        self._good: set[tuple[bytes, bytes | None, str]] = set()
        self._logged: set[str] = set()
        self.configure(names)

    def configure(self, names: Iterable[str]) -> None:
        """Let these be names of the server, beside its own."""
        self._configured = frozenset(plain_name(name) for name in names)
        self._good.clear()

    def learn(self) -> None:
        """Find this machine's whole name (``hostname -f``). May take as long as those who know names are silent."""
        if self._is_local:
            return
        with contextlib.suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(socket.gethostname(), None, flags=socket.AI_CANONNAME)[0][3]
            if found:
                self._own |= {plain_name(found)}

    def fault(self, host: bytes | None, origin: bytes | None, scheme: str) -> tuple[int, str] | None:
        """Why a request with these headers, by this scheme, is refused: an HTTP status and words; None if it is not."""
        if host is None:
            return 400, "Host: missing; a request must say by which name it asks"
        key = host, origin, scheme
        if key in self._good:
            return None
        fault = self._judge(host, origin, scheme)
        if fault is None:
            if len(self._good) >= MOST_KEPT:
                self._good.clear()
            self._good.add(key)
        return fault

    def _judge(self, host: bytes, origin: bytes | None, scheme: str) -> tuple[int, str] | None:
        match = _HOST.fullmatch(host)
        name = _name(match)
        if name is None:
            return 400, f"Host: {_shown(host)} is not allowed; allowed: a host name or an IP address, perhaps a port"
        if not (_is_address(name) or name == LOOPBACK or name in self._own or name in self._configured):
            self._log(name)
            return 403, (
                f"Host: {_shown(host)} is no name of this {self._server} that it knows. If people call it so, add "
                f"{name!r} to {self._server}.hosts of its configuration, or start it with --allow-host; its IP address "
                "always works"
            )
        if origin is None:
            return None
        page = _ORIGIN.fullmatch(origin)
        is_own = page is not None and page[2].lower() == host.lower()
        if page is None or not is_own or (scheme in ("https", "wss") and page[1] != b"https"):
            return 403, (
                f"Origin: {_shown(origin)} is not allowed; allowed: the {self._server}'s own page, which is at "
                f"{_shown(host)}. A proxy before the {self._server} must pass Host on as it is"
            )
        return None

    def _log(self, name: str) -> None:
        if name not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(name)
            log.warning(
                "refused: asked as %r, which is no name of this %s; %s.hosts may allow it", name, *[self._server] * 2
            )


def own_names() -> frozenset[str]:
    """What this machine is called, as far as it knows without asking anybody."""
    name = plain_name(socket.gethostname())
    label = name.partition(".")[0]
    return frozenset({name, label, f"{label}.local"} if label else ())


def _name(match: re.Match[bytes] | None) -> str | None:
    """The name or address of a ``Host``, without its port and the dot that may end it; None where it is neither."""
    if match is None:
        return None
    if match[1] is not None:
        address = match[1].decode("ascii", "replace")
        return address if ":" in address and _is_address(address) else None
    name = match[2].decode("ascii", "replace").lower().removesuffix(".")
    return name if name and not name.startswith(".") and ".." not in name and not name.endswith(".") else None


def plain_name(name: str) -> str:
    """A host's name as it stands in ``Host``, however it was spelled: small letters, no final dot, ASCII."""
    name = name.lower().removesuffix(".")
    if name.isascii():
        return name.removeprefix("[").removesuffix("]")
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(value: bytes) -> str:
    return repr(value[:80].decode("latin-1"))
