"""Frames of the WebSocket as a client sends them, byte by byte, whether they are right or not."""

import struct

MASK = b"\x12\x34\x56\x78"
TEXT, CONTINUED, CLOSE, PING, PONG = 1, 0, 8, 9, 10
LAST, NOT_LAST, RESERVED = 0x80, 0, 0xC0


def frame(opcode: int, data: bytes = b"", first: int = LAST, *, mask: bool = True, size: int | None = None) -> bytes:
    """A frame as a client sends it (RFC 6455 section 5.2); ``size`` is what it says of itself, if that is a lie."""
    length = len(data) if size is None else size
    bit = 0x80 if mask else 0
    if length < 126:
        head = bytes([first | opcode, bit | length])
    elif length < 2**16:
        head = bytes([first | opcode, bit | 126]) + struct.pack("!H", length)
    else:
        head = bytes([first | opcode, bit | 127]) + struct.pack("!Q", length)
    if not mask:
        return head + data
    return head + MASK + bytes(byte ^ MASK[place % 4] for place, byte in enumerate(data))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    """The end, as a client says it."""
    return frame(CLOSE, struct.pack("!H", code) + reason)
