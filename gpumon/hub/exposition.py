"""Prometheus' text format, as exporters on GPU nodes write it: those series of a page that somebody wants.

``prometheus_client`` reads a line; what is read at all is decided here, for a page is a stranger's: its lines are as
long, as many and as wrong as it likes. A page of an exporter holds ten times what we want of it.
"""

import re
from collections.abc import Set
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from gpumon.errors import WireError
from gpumon.text import one_line, printable

MAX_LINE = 4096
"""What is longer is left out: the parser's time grows with its square, and no label that we read is so long."""
MAX_SERIES = 20_000
"""Of those that are wanted."""
_NAME: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


class Series(NamedTuple):
    """One value of a page, whatever number that is; the text of its labels is fit to be shown."""

    name: str
    labels: dict[str, str]
    value: float


def series(page: bytes, wanted: Set[str]) -> list[Series]:
    """Of a page the series with the ``wanted`` names, in its order.

    Raises:
        WireError: it is not in UTF-8, one of these series cannot be read, or there are too many of them.
    """
    try:
        text = page.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"byte {error.start} is not UTF-8") from None
    found: list[Series] = []
    known: dict[str, dict[str, str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        name = _NAME.match(line)
        if name is None or name[0] not in wanted or len(line) > MAX_LINE:
            continue
        if len(found) == MAX_SERIES:
            raise WireError(f"more than {MAX_SERIES} series of GPUs")
        found.append(_one(line, number, known))
    return found


def _one(line: str, number: int, known: dict[str, dict[str, str]]) -> Series:
    """A line as a series. ``known`` are labels by how they are written: those of a GPU stand in line after line, and to
    read them is what costs.
    """
    name, brace, rest = line.partition("{")
    written, _, value = rest.rpartition("}") if brace else ("", "", "")
    labels = known.get(written) if brace else None
    try:
        text = line if labels is None else f"{name} {value}"
        ((sample,),) = (family.samples for family in text_string_to_metric_families(text))
        if labels is None:
            labels = known[written] = {label: printable(told) for label, told in sample.labels.items()}
        return Series(sample.name, labels, float(sample.value))
    except (ValueError, OverflowError):
        said = one_line(line, 60)
        raise WireError(f"line {number} is not in Prometheus' text format: {said}") from None
