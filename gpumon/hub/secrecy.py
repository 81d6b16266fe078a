"""What a node is told in confidence, its token, kept out of what it says: for viewers and logs hear that.

Hidden is the token as it is, wherever it stands. Who has it can always tell it in pieces or in another form; that is
between the node and who gave it the token. This keeps a server that repeats what it was sent from telling everybody.
"""

from typing import Final

import msgspec
from msgspec import structs

from gpumon.errors import WireError
from gpumon.model import Cost, Fault, Gpu, Host, MemoryLedger, MigDevice, Process, RemappedRows, Report, Xid
from gpumon.wire import encode

HIDDEN: Final = "***"
LEAST_PIECE: Final = 4
"""A text that was cut off may end with so many signs of a token, or more."""
_FIELDS: Final = frozenset(
    field.name
    for kind in (Report, Host, Cost, Fault, Gpu, MemoryLedger, RemappedRows, Xid, MigDevice, Process)
    for field in structs.fields(kind)
)


def unsaid(text: str, secret: str | None) -> str:
    """``text`` without ``secret``, also as it stands in JSON or as Python quotes it, and where it was cut off in the
    middle of it.
    """
    for form in () if secret is None else dict.fromkeys((secret, _in_json(secret), repr(secret)[1:-1])):
        text = _without(text, form)
    return text


def _in_json(secret: str) -> str:
    return msgspec.json.encode(secret)[1:-1].decode()


def _without(text: str, secret: str) -> str:
    text = text.replace(secret, HIDDEN)
    whole = text.rstrip(".")
    piece = next((n for n in range(len(secret) - 1, LEAST_PIECE - 1, -1) if whole.endswith(secret[:n])), 0)
    return whole[:-piece] + HIDDEN + text[len(whole) :] if piece else text


def unreported(report: Report, secret: str | None) -> Report:
    """``report`` without ``secret`` in any of its texts.

    Raises:
        WireError: it is nothing without it, for the secret is a word that reports are made of.
    """
    if secret is None or _in_json(secret).encode() not in encode(report):
        return report
    try:
        return msgspec.convert(_hidden(msgspec.to_builtins(report), secret), Report)
    except msgspec.ValidationError:
        raise WireError("it tells the token that it was sent") from None


def _hidden(value: object, secret: str) -> object:
    if isinstance(value, str):
        return value.replace(secret, HIDDEN)
    if isinstance(value, list):
        return [_hidden(one, secret) for one in value]
    if isinstance(value, dict):
        names = (key if key in _FIELDS else key.replace(secret, HIDDEN) for key in value)
        return {name: _hidden(one, secret) for name, one in zip(names, value.values(), strict=True)}
    return value
