"""Metrics as Prometheus reads them: its own text format, and OpenMetrics (https://prometheus.io/docs/specs/om/).

Which of the two, and what stands above the samples of a metric, is the business of Prometheus' own library; so is what
the system tells of our process. The samples are written here: by the library those of a thousand nodes take more than a
second (``benchmarks/metrics.py``). Both formats write a sample alike.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.exposition import gzip_accepted as gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gpumon.looplag import BOUNDS, LoopLag

Kind = Literal["gauge", "counter", "info", "histogram", "unknown"]
ENDINGS: Final[dict[Kind, str]] = {"counter": "_total", "info": "_info"}
PARAMETERS: Final = re.compile(r";[^,]*")


class Format(NamedTuple):
    """One of the two."""

    content_type: str
    encode: Callable[[Collector], bytes]


class Family:
    """A metric and its samples. ``name`` is without the ending of its kind; ``unit`` is a base unit, and ends it.

    Raises:
        ValueError: nothing can be called so.
    """

    __slots__ = ("_chunks", "help", "kind", "lines", "metric", "name", "sample")

    def __init__(self, name: str, help: str, kind: Kind = "gauge", unit: str = "") -> None:
        self.metric = Metric(name, help, kind, unit)
        self.kind = kind
        self.help = help
        self.name = self.metric.name
        self.sample = self.name + ENDINGS.get(kind, "")
        """What its samples are called."""
        self.lines: list[str] = []
        """Those not settled yet; always the same list."""
        self._chunks: list[str] = []

    def add(self, labels: str, value: float | None, ending: str = "") -> None:
        """A sample with ``labels`` as :func:`labels` writes them; none where the value is not known."""
        if value is not None:
            self.lines.append(f"{self.sample}{ending}{{{labels}}} {value}\n")

    def add_states(self, labels: str, name: str, state: str, states: Iterable[str]) -> None:
        """One sample for each of ``states``, in the label ``name``: 1 for the one that holds, else 0."""
        self.lines += [f'{self.sample}{{{labels},{name}="{one}"}} {1 if one == state else 0}\n' for one in states]

    def settle(self) -> None:
        """Many small texts become a large one, which takes half the room."""
        if self.lines:
            self._chunks.append("".join(self.lines))
            self.lines.clear()

    def chunks(self) -> Sequence[str]:
        """Its samples, as lines of text."""
        self.settle()
        return self._chunks


class _Collected(Collector):
    """What the library is to write."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def format_for(accept: str) -> Format:
    """The format that a header ``Accept`` asks for. One version is spoken of each, and no name of ours needs another
    spelling: what is said of these is passed over, and there are no more than two answers.
    """
    encode, content_type = choose_encoder(PARAMETERS.sub("", accept))
    return Format(content_type, encode)


def document(families: Iterable[Family], form: Format) -> Iterator[bytes]:
    """``families`` as one text, in pieces; those without samples are left out. Last comes what the system tells of this
    process (in the names that all such programs share), which reads ``/proc``.
    """
    end = form.encode(_Collected(()))
    for family in families:
        if chunks := family.chunks():
            yield form.encode(_Collected([family.metric])).removesuffix(end)
            for chunk in chunks:
                yield chunk.encode(errors="replace")
    yield form.encode(_Collected(ProcessCollector(registry=None).collect()))


def labels(**values: str | int) -> str:
    """Labels as they stand between the braces of a sample."""
    return ",".join([f'{name}="{escaped(value)}"' for name, value in values.items()])


def escaped(value: str | int) -> str:
    """The value of a label, as it stands between quotation marks."""
    text = str(value)
    if text.isalnum():
        return text
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def counts(name: str, help: str, label: str, found: Mapping[str, int], known: Iterable[str] = ()) -> Family:
    """A counter for each of a few words; those that are ``known`` are told before they are first counted."""
    family = Family(name, help, "counter")
    for word in dict.fromkeys((*known, *found)):
        family.add(labels(**{label: word}), found.get(word, 0))
    return family


def single(name: str, help: str, value: float | None, kind: Kind = "gauge", unit: str = "") -> Family:
    """A metric with one sample, or none where it is not known."""
    family = Family(name, help, kind, unit)
    family.add("", value)
    return family


def lag(name: str, help: str, found: LoopLag) -> Family:
    """How late an event loop was, as a histogram."""
    family = Family(name, help, "histogram", "seconds")
    total = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), found.counts, strict=True):
        total += count
        family.add(labels(le=bound), total, "_bucket")
    family.add("", total, "_count")
    family.add("", found.seconds, "_sum")
    return family
