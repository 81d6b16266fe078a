"""The settings of a service: a file of variables that systemd reads (``EnvironmentFile=``, ``systemd.exec(5)``)."""

import re
from collections.abc import Mapping
from pathlib import Path

from gpumon import statefile
from gpumon.errors import UsageError

_LINE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_EXPANDED = re.compile(r"\\(.)", re.DOTALL)


def read(path: Path) -> dict[str, str]:
    """The variables in the file at ``path``; none if it is not there. Raises OSError."""
    found = statefile.read(path)
    lines = [] if found is None else found.decode(errors="replace").splitlines()
    return {match[1]: _value(match[2].strip()) for line in lines if (match := _LINE.match(line))}


def write(path: Path, changes: Mapping[str, str], heading: str) -> None:
    """Set variables in the file at ``path``, and leave the rest of it as it is. A new file begins with ``heading``.

    Raises:
        OSError: it cannot be written.
        UsageError: a value cannot be.
    """
    found = statefile.read(path)
    lines = (heading if found is None else found.decode(errors="surrogateescape")).splitlines()
    wanted = dict(changes)
    for index, line in enumerate(lines):
        match = _LINE.match(line)
        if match and match[1] in wanted:
            lines[index] = _line(match[1], wanted.pop(match[1]))
    lines += [_line(name, value) for name, value in wanted.items()]
    data = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    if data != found:
        statefile.write(path, data)


def _line(name: str, value: str) -> str:
    if not value.isprintable():
        raise UsageError(f"{name}: {value!r} is not allowed; allowed: one line without control characters")
    quoted = re.sub(r'(["\\$`])', r"\\\1", value)
    return f'{name}="{quoted}"'


def _value(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return _EXPANDED.sub(r"\1", text)
