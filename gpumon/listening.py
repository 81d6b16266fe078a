"""A socket that listens, with the options that what is accepted inherits."""

import errno
import socket

from gpumon.errors import ListenError

UNACKNOWLEDGED_MILLISECONDS = 20_000
SEND_BUFFER_BYTES = 128 * 1024
"""Of payload, about, that the kernel keeps for a peer that has not taken it."""
BACKLOG = 1024


def listen(host: str, port: int, option: str) -> socket.socket:
    """A socket that listens on ``host`` and ``port`` (0: any free one). ``option`` names them for the user.

    Accepted connections inherit its options: a peer that is gone without a word is noticed after 20 s
    instead of the kernel's quarter of an hour.

    Raises:
        ListenError: the address is taken, forbidden, or not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except UnicodeError:
        raise ListenError(f"{option}: cannot listen on {host} port {port}: this is no host name") from None
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: "another program listens there already",
            errno.EACCES: "it is not allowed to this user (ports below 1024 need a privilege)",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise ListenError(f"{option}: cannot listen on {host} port {port}: {reason}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # asyncio sets it only where a socket names its protocol, which those of create_server do not: an answer of two
    # writes, or a letter soon after another, would wait 40 ms for the peer's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return listener


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Where ``listener`` is reached, as far as it knows: ``http://0.0.0.0:8080``."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
