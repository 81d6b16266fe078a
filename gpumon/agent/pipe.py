"""The words between the reader (in the agent) and its child (which alone talks to the driver).

One JSON object a line. The child says what it is about to do before it does it, so that whoever waits
knows which GPU made it hang or die::

    reader  start
    child   doing init, ready
    reader  pass
    child   doing list, (doing gpu 0, [doing gpu 0 GPU-...], doing processes 0, gpu)..., doing events, done
    reader  pass ...

All answers but ``ready`` and ``done`` go through a second pipe, if the start names one (:mod:`gpumon.agent.aside`).
A ``ready`` or a ``done`` that carries an error is about the driver as a whole. While all GPUs sleep the child
is ready without having initialised the driver; once one is awake it asks to be replaced. A line is at most
:data:`MAX_LINE_BYTES` long: anything else is a fault of the child, and it is replaced.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from gpumon.model import Cost, Count, Fault, Gpu, ReportStatus, Text
from gpumon.text import printable

MAX_LINE_BYTES = 1024 * 1024

Step = Literal["init", "list", "gpu", "processes", "events"]


class Beats(Struct, frozen=True, kw_only=True):
    """How often what is not read in every pass is read: after so many passes, but not before so many seconds."""

    slow_passes: int = 5
    slow_seconds: float = 5.0
    static_seconds: float = 60.0


EVERY_SO_OFTEN = Beats()
EVERY_PASS = Beats(slow_passes=0, slow_seconds=0.0, static_seconds=0.0)


class Start(Struct, frozen=True, kw_only=True):
    """How to begin. ``root`` is where the machine's files are: ``/``, but for tests.

    ``rest_seconds``: a GPU that may sleep and idles is left alone for so long, so that it can fall asleep.
    ``aside`` is the number of the descriptor to speak aside on.
    """

    root: str = "/"
    aside: int | None = None
    wake_sleeping_gpus: bool = False
    rest_seconds: float = 20.0


class Pass(Struct, frozen=True, kw_only=True):
    """Read every GPU once. Of the GPUs in ``skip`` (by index, for a GPU that kills its reader is not even
    asked who it is; by UUID, for an index is only today's) nothing is read; ``only`` asks for one alone.
    """

    only: int | None = None
    skip_indexes: list[int] = []
    skip_uuids: list[str] = []
    describe_processes: bool = True
    watch_events: bool = True
    beats: Beats = EVERY_SO_OFTEN


class Ready(Struct, frozen=True, kw_only=True, tag_field="type", tag="ready"):
    """The driver's library is initialised, or why it is not."""

    status: ReportStatus = "ok"
    error: Fault | None = None
    driver_version: Text | None = None
    cuda_version: Text | None = None
    nvml_version: Text | None = None
    open_kernel_module: bool | None = None


class Doing(Struct, frozen=True, kw_only=True, tag_field="type", tag="doing"):
    """What comes next. The UUID follows in a second announcement, once the driver has told it."""

    step: Step
    index: int | None = None
    uuid: Text | None = None


class Read(Struct, frozen=True, kw_only=True, tag_field="type", tag="gpu"):
    """A GPU, read."""

    gpu: Gpu


class Happened(Struct, frozen=True, kw_only=True):
    """The driver has reported an Xid of a GPU."""

    uuid: Text
    xid: Count


class Done(Struct, frozen=True, kw_only=True, tag_field="type", tag="done"):
    """The pass is over; ``error`` where the driver did not even tell how many GPUs there are, or none.

    ``missing``: it lists fewer than the PCI bus has. ``recycle``: a fresh child has to go on from here.
    """

    status: ReportStatus = "ok"
    error: Fault | None = None
    missing: Fault | None = None
    recycle: bool = False
    happened: list[Happened] = []
    cost: Cost | None = None


FromChild = Ready | Doing | Read | Done

from_child: msgspec.json.Decoder[FromChild] = msgspec.json.Decoder(FromChild)
first_from_reader: msgspec.json.Decoder[Start] = msgspec.json.Decoder(Start)
from_reader: msgspec.json.Decoder[Pass] = msgspec.json.Decoder(Pass)
_encoder = msgspec.json.Encoder()


def line(message: FromChild | Pass | Start) -> bytes:
    """``message`` as it goes through the pipe."""
    return _encoder.encode(message) + b"\n"


def plain(raw: str | bytes, limit: int = 256) -> str:
    """``raw``, which a driver or a stranger's process chose, as text that can be shown anywhere.

    What is not UTF-8, controls a terminal, turns the writing direction or is not printable for another
    reason becomes U+FFFD.
    """
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    return printable(text[:limit])
