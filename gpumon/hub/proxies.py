"""Whose word is taken for who asks: the proxies of the configuration, and nobody else.

Anybody may write ``X-Forwarded-For``. What a proxy of ours has added stands last; before that may stand anything.
"""

import contextlib
import ipaddress
from collections.abc import Iterable, Sequence

from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """The proxies before this hub, by address or network."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: Sequence[Network] = ()
        self.configure(networks)

    def configure(self, networks: Iterable[str]) -> None:
        """Let these be the proxies."""
        self._networks = [ipaddress.ip_network(one, strict=False) for one in networks]

    def has(self, address: str) -> bool:
        """Whether one of them is at ``address``."""
        return bool(self._networks) and (found := _address(address)) is not None and self._is_ours(found)

    def look_behind(self, scope: Scope) -> None:
        """Where a proxy of ours brings a request, let ``scope`` say for whom, and by which scheme they came to it."""
        if not self._networks or scope.get("client") is None:
            return
        peer = _address(scope["client"][0])
        if peer is None or not self._is_ours(peer):
            return
        headers = scope["headers"]
        client, port = peer, scope["client"][1]
        for word in reversed(_words(headers, b"x-forwarded-for")):
            before = _address(word)
            if before is None:
                break
            client, port = before, 0
            if not self._is_ours(client):
                break
        scope["client"] = (str(client), port)
        schemes = _words(headers, b"x-forwarded-proto")
        if schemes and schemes[-1].lower() in ("https", "wss"):
            scope["scheme"] = "wss" if scope["type"] == "websocket" else "https"

    def _is_ours(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _words(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    values = [value.decode("latin-1") for name, value in headers if name == wanted]
    return [word.strip() for value in values for word in value.split(",")]


def _address(text: str) -> Address | None:
    """An address as it stands in ``X-Forwarded-For``, perhaps with a port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(text)
        return getattr(found, "ipv4_mapped", None) or found
    return None
