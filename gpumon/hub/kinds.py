"""The kinds of nodes that are asked as they are: how the answer of each is read, and by what it is recognised."""

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from gpumon.errors import WireError
from gpumon.hub import dcgm, gpustat, nvitop, smi
from gpumon.model import Kind, Report
from gpumon.wire import decode


class Reader(Protocol):
    """Reads the ``body`` of an answer as the report of ``node``. Raises :class:`gpumon.errors.WireError`."""

    def __call__(self, body: bytes, node: str) -> Report: ...


READERS: Final[Mapping[Kind, Reader]] = {
    "gpustat": gpustat.read,
    "dcgm-exporter": dcgm.read,
    "nvidia-gpu-exporter": smi.read,
    "nvitop-exporter": nvitop.read,
}
"""Of all but our own agent and the program that gpumon replaces."""
_SIGNS: Final[Mapping[Kind, tuple[bytes, ...]]] = {
    "dcgm-exporter": (b"\nDCGM_FI_",),
    "nvidia-gpu-exporter": (b"\nnvidia_smi_",),
    "nvitop-exporter": (b"\nnvitop_info{",),
}


class _Shape(Struct):
    """Enough of JSON to tell whose it is."""

    node: msgspec.Raw = msgspec.Raw()
    node_name: msgspec.Raw = msgspec.Raw()
    query_time: msgspec.Raw = msgspec.Raw()
    gpus: msgspec.Raw = msgspec.Raw()


_shape: msgspec.json.Decoder[_Shape] = msgspec.json.Decoder(_Shape)


def recognised(body: bytes) -> Kind | None:
    """Which kind this looks like the answer of, if any."""
    if body.lstrip()[:1] == b"{":
        try:
            shape = decode(_shape, body)
        except WireError:
            return None
        if shape.query_time and shape.gpus:
            return "gpustat"
        return "gpumon" if shape.gpus and (shape.node or shape.node_name) else None
    page = b"\n" + body
    return next((kind for kind, signs in _SIGNS.items() if any(sign in page for sign in signs)), None)
