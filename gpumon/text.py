"""Text that strangers chose, made fit to be shown: names, commands, what a peer or a driver says."""

import re

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|([^u]))", re.DOTALL)
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")
_ITSELF = frozenset('"\\/')
JOINERS = frozenset("\u200c\u200d")
"""Not seen, and yet part of how Persian, the scripts of India and emoji are written."""


def printable(text: str) -> str:
    """``text`` without what moves a cursor, sets a colour, breaks a line or turns the writing direction.

    Each such sign becomes U+FFFD, so that it is seen that there was one.
    """
    return text if text.isprintable() else "".join(sign if _is_fit(sign) else "\ufffd" for sign in text)


def _is_fit(sign: str) -> bool:
    return sign.isprintable() or sign in JOINERS


def one_line(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``, fit to be quoted inside a sentence."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text[: 4 * most]).split())[:most]


def is_plain_json(data: bytes) -> bool:
    """Whether nothing in ``data`` can be anything but printable ASCII, at a glance: all signs, and no escape."""
    return data.isascii() and b"\\" not in data and b"\x7f" not in data


def printable_json(data: bytes) -> bytes:
    """Valid JSON with all of its text :func:`printable`, in linear time and without reading it as a whole.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    text = data.decode()
    if "\\" in text:
        text = _ESCAPE.sub(_printable_escape, text)
    return (text if text.isprintable() else _NOT_ASCII.sub(lambda sign: printable(sign[0]), text)).encode()


def _printable_escape(escape: re.Match[str]) -> str:
    """An escape of JSON, as it is where it stands for something printable."""
    first, second, sign = escape.groups()
    if sign is not None:
        return escape[0] if sign in _ITSELF else "\ufffd"
    code = int(first, 16)
    if second is None:
        return escape[0] if _is_fit(chr(code)) else "\ufffd"
    if 0xD800 <= code < 0xDC00:
        pair = chr(0x10000 + ((code - 0xD800) << 10) + int(second, 16) - 0xDC00)
        return escape[0] if _is_fit(pair) else "\ufffd"
    return (escape[0][:6] if _is_fit(chr(code)) else "\ufffd") + "\ufffd"
