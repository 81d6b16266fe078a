"""What is compressed is what gzip and deflate say it is, whichever library did it."""

import gzip
import importlib
import random
import sys
import tracemalloc
import zlib
from types import ModuleType

import pytest

from gpumon.hub import packing

TEXT = b'{"utilization_percent":97.0,"name":"NVIDIA H200"},' * 400


@pytest.fixture(params=["as installed", "without isal"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if request.param == "without isal":
        monkeypatch.setitem(sys.modules, "isal", None)
        monkeypatch.delitem(sys.modules, "gpumon.hub.packing")
        return importlib.import_module("gpumon.hub.packing")
    return packing


def test_a_body_is_gzip(module: ModuleType) -> None:
    packed = module.body(TEXT)
    assert gzip.decompress(packed) == TEXT
    assert len(packed) < len(TEXT) / 10


def test_parts_stand_alone_and_join_into_one_member(module: ModuleType) -> None:
    first, second, third = (module.part([TEXT, bytes([number])]) for number in b"123")
    for stream in ((first, second, third), (third, first), (second, second)):
        told = zlib.decompressobj(31).decompress(module.MEMBER_HEAD + b"".join(stream))
        assert len(told) == len(stream) * (len(TEXT) + 1)
    assert zlib.decompressobj(31).decompress(module.MEMBER_HEAD + second) == TEXT + b"2"


@pytest.mark.parametrize("piece_bytes", [1, 7, 64, 1000])
@pytest.mark.parametrize("text", [b"", b"x", TEXT, bytes(100_000), random.Random(1).randbytes(3000)])
def test_a_body_is_unpacked_in_pieces(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, text: bytes, piece_bytes: int
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
    pieces = list(module.unpacked(module.body(text)))
    assert b"".join(pieces) == text
    assert max(map(len, pieces), default=0) <= piece_bytes


def test_whoever_takes_it_in_pieces_shares_the_packed_body(module: ModuleType) -> None:
    packed = module.body(random.Random(1).randbytes(4 * 2**20))
    tracemalloc.start()
    try:
        readers = [module.unpacked(packed) for _ in range(8)]
        for reader in readers:
            next(reader)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < len(packed)
