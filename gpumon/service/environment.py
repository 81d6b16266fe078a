"""The settings of a service: a file of variables, read as systemd does (``systemd.exec(5)``, ``EnvironmentFile=``).

What systemd passes over is passed over here: lines without a variable, names that are none. What it would read
otherwise than it looks, or not at all, is a fault.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gpumon import statefile
from gpumon.errors import UsageError

_NOTHING = re.compile(r"(?:[ \t\r\n]+|[#;][^\r\n]*)*+")
_CONTINUED_COMMENT = re.compile(r"(?<!\\)(?:\\\\)*\\\n")
_QUOTED = r"""'[^']*'|"(?:\\.|[^"\\])*\""""
_VARIABLE = re.compile(
    rf"""([^=\r\n]*)=((?:[ \t]*+(?:{_QUOTED}))*+)[ \t]*+((?!['"])(?:\\.|[^\\\r\n])*+)(?=[\r\n]|\Z)""", re.DOTALL
)
_OTHER = re.compile(r"[^=\r\n]*(?:[\r\n]|\Z)")
_PIECE = re.compile(rf"[ \t]*({_QUOTED})", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Variable(NamedTuple):
    """One that the file sets, and where in its text."""

    name: str
    value: str
    start: int
    end: int


def read(path: Path) -> dict[str, str]:
    """The variables in the file at ``path``, or in the one that a link there leads to; none if it is not there.

    Raises:
        OSError: it cannot be read.
        UsageError: systemd would read nothing of it, or otherwise than it looks.
    """
    text = _text(path, behind(path) or b"")
    return {one.name: one.value for one in _variables(path, text) if _NAME.fullmatch(one.name)}


def behind(path: Path) -> bytes | None:
    """What stands in the file at ``path``, or in the one that a link there leads to: as systemd reads its files, and as
    who keeps his settings elsewhere links them. Who may put a link there may put any file there. Raises OSError.
    """
    return statefile.read(Path(os.path.realpath(path)))


def put(path: Path, data: bytes) -> bool:
    """Let ``data`` be what stands at ``path``; whether it was something else before.

    Raises:
        OSError: it cannot be written.
        UsageError: a link leads to something else: what it leads to is somebody else's to change.
    """
    if behind(path) == data:
        return False
    if path.is_symlink():
        raise UsageError(
            f"{path}: is a symbolic link to {path.readlink()}: what a link leads to is read, and not changed; change "
            "it yourself, or put a file in the link's place"
        )
    statefile.write(path, data)
    return True


def write(path: Path, changes: Mapping[str, str], heading: str) -> bool:
    """Set variables in the file at ``path``, and leave the rest of it as it is; whether that changed it. A new file
    begins with ``heading``.

    Raises:
        OSError: it cannot be written.
        UsageError: a value cannot be, what stands there cannot be read, or is behind a link and would change.
    """
    found = behind(path)
    text = heading if found is None else _text(path, found)
    variables = _variables(path, text)
    last = {one.name: one for one in variables}
    for one in reversed(variables):  # so that what was found before stays where it was
        if one == last[one.name] and changes.get(one.name, one.value) != one.value:
            text = text[: one.start] + _line(one.name, changes[one.name]) + text[one.end :]
    new = "".join(f"{_line(name, value)}\n" for name, value in changes.items() if name not in last)
    between = "\n" if new and text and not text.endswith("\n") else ""
    return put(path, f"{text}{between}{new}".encode())


def _text(path: Path, data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}: line {line}: is not UTF-8, so systemd reads nothing of this file") from None
    if (at := text.find("\0")) >= 0:
        raise UsageError(f"{path}: {_line_at(text, at)}: has a NUL, so systemd reads nothing of this file")
    return text


def _variables(path: Path, text: str) -> list[_Variable]:
    """All that ``text`` sets, in its order; of those of one name the last one counts."""
    found: list[_Variable] = []
    at = 0
    while True:
        nothing = _NOTHING.match(text, at)
        assert nothing is not None
        if continued := _CONTINUED_COMMENT.search(text, at, nothing.end()):
            raise UsageError(
                f"{path}: {_line_at(text, continued.start())}: a comment that ends with a backslash is not allowed, "
                "since for systemd before 254 it goes on in the next line; allowed: one without"
            )
        at = nothing.end()
        if at == len(text):
            return found
        if match := _VARIABLE.match(text, at):
            found.append(_Variable(match[1].rstrip(" \t"), _quoted(match[2]) + _bare(match[3]), at, match.end()))
        elif (match := _OTHER.match(text, at)) is None:
            raise UsageError(
                f"{path}: {_line_at(text, at)}: its value does not end: a quote is not closed, or the file ends "
                "with a backslash"
            )
        at = match.end()


def _quoted(text: str) -> str:
    """What pieces in quotes, one behind the other, stand for."""
    pieces = [piece[1] for piece in _PIECE.finditer(text)]
    return "".join(
        piece[1:-1] if piece[0] == "'" else re.sub(r'\\(?:\n|(["\\`$]))', r"\1", piece[1:-1]) for piece in pieces
    )


def _bare(text: str) -> str:
    """What stands for itself: a backslash takes the meaning of the sign behind it, and a line's end away."""
    pieces = re.split(r"(\\.)", text, flags=re.DOTALL)
    pieces[-1] = pieces[-1].rstrip(" \t")
    return "".join(piece if piece[:1] != "\\" else piece[1:].strip("\r\n") for piece in pieces)


def _line(name: str, value: str) -> str:
    if not value.isprintable():
        raise UsageError(f"{name}: {value!r} is not allowed; allowed: one line without control characters")
    quoted = re.sub(r'(["\\$`])', r"\\\1", value)
    return f'{name}="{quoted}"'


def _line_at(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}"
