"""Whatever comes: frames, messages, configurations and command lines, made by libFuzzer from what reaches new code.

python -m tests.long.fuzz frames|messages|configuration|redactor [--seconds 600]     needs: pip install atheris

It begins where it ended: what it has found is kept in --corpus. An input that breaks something is written there as
crash-..., and given again by name: --input FILE.
"""

import argparse
import asyncio
import importlib
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import orjson

SLOWEST_SECONDS = 0.1
LONGEST_BYTES = 16 * 1024
ROOT = Path(__file__).parents[2]

Target = Callable[[bytes], None]


def frames() -> Target:
    """The decoder of frames: what is heard, and how it ends, does not depend on how the bytes are cut; but that of
    frames that break the rules the code may be that of any, and what stands beside them may be lost.
    """
    from tests.long.frames import Conversation

    loop = asyncio.new_event_loop()

    def run(data: bytes) -> None:
        whole, cut = Conversation(loop), Conversation(loop)
        step = 1 + data[0] % 7 if data else 1
        whole.say([data[1:]])
        cut.say([data[start : start + step] for start in range(1, len(data), step)])
        if whole.is_refused or cut.is_refused:
            common = min(len(whole.heard), len(cut.heard))
            assert whole.heard[:common] == cut.heard[:common], (whole.heard, cut.heard)
        else:
            assert (whole.heard, whole.answers) == (cut.heard, cut.answers)

    return run


def messages() -> Target:
    """What agents say: refused in words, or fit to be told to everybody."""
    from gpumon import wire
    from gpumon.errors import WireError
    from gpumon.hub.kinds import READERS
    from gpumon.hub.legacy import decode_legacy_report
    from gpumon.text import printable

    def is_fit(text: str) -> bool:
        return printable(text) == text

    def said(decode: Callable[[bytes], msgspec.Struct], data: bytes) -> str:
        try:
            told = wire.encode(decode(data))
        except WireError as error:
            return str(error)
        orjson.loads(orjson.dumps([orjson.Fragment(told)]))
        return told.decode()

    def run(data: bytes) -> None:
        for decode in (wire.decode_from_agent, wire.decode_report, decode_legacy_report):
            assert is_fit(said(decode, data))
        for read in READERS.values():
            assert is_fit(said(partial(read, node="n"), data))
        assert is_fit(said(wire.decode_report, b'{"node": "n", "hostname": "%b"}' % data))

    return run


def configuration() -> Target:
    """The configuration file: read, or every fault said in a line of its own."""
    from gpumon import config
    from gpumon.errors import ConfigError

    def faults(data: bytes) -> list[str] | None:
        try:
            config.parse(data)
        except ConfigError as error:
            return list(error.faults)
        return None

    def run(data: bytes) -> None:
        found = faults(data)
        assert found is None or found, "refused without a reason"
        assert all(fault.isprintable() for fault in found or ()), found

    return run


def redactor() -> Target:
    """What of a command line leaves the node: short, and never a secret that stands in a place for secrets."""
    from gpumon.command import LIMIT_BYTES, redacted, short_command

    secret = "hf_Zq8vT2mLx0RkPw4Y"

    def run(data: bytes) -> None:
        line, _, name = data.partition(b"\xff")
        told = short_command(line, name.decode(errors="replace"))
        assert told is None or 0 < len(told) <= LIMIT_BYTES + 100
        text = line.decode(errors="replace")[: LIMIT_BYTES // 2]
        for planted in (f"{text} {secret}", f"{text} --token {secret}", f"{text} --api-key={secret}"):
            assert secret not in redacted(planted), planted

    return run


TARGETS: dict[str, Callable[[], Target]] = {
    "frames": frames,
    "messages": messages,
    "configuration": configuration,
    "redactor": redactor,
}
SEEDS: dict[str, list[bytes]] = {
    "frames": [b"\x00\x81\x82\x01\x02\x03\x04{}", b"\x02\x89\x80\x01\x02\x03\x04\x88\x82\x01\x02\x03\x04\x02\xea"],
    "messages": [
        b'{"type": "report", "report": {"node": "n", "gpus": [{"index": 0, "processes": [{"pid": 1}]}]}}',
        b'{"type": "hello", "agent_version": "", "node": "n", "hostname": "h", "boot_id": "b", "interval_seconds": 1}',
        b'{"type": "gap", "first": 1, "last": 2, "count": 1}',
        b'{"node_name": "n", "gpus": [{"id": "0", "name": "\\u001b", "processes": [{"pid": 1, "used": 2}]}]}',
    ],
    "configuration": [(ROOT / "examples" / "config.json").read_bytes(), b'{"nodes": [{"name": "n", "host": "h"}]}'],
    "redactor": [b"python\0-m\0lab.train\0--token\0x\xffpython", b"env\0A=b\0java\0-jar\0x.jar", b"vllm: worker 3"],
}


def timed(target: Target) -> Target:
    """``target``, and nothing of it may hang."""

    def run(data: bytes) -> None:
        began = time.process_time()
        target(data)
        took = time.process_time() - began
        assert took < SLOWEST_SECONDS, f"{took:.3f} s for {len(data)} bytes"

    return run


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz until it ends; which ends the process."""
    logging.disable()
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["gpumon", "uvicorn.protocols", "websockets"]):
        target = TARGETS[name]()
    arguments = [
        *(sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-max_len={LONGEST_BYTES}", "-timeout=10"),
        *(f"-artifact_prefix={corpus}/", "-print_final_stats=1"),
    ]
    atheris.Setup(arguments, timed(target))
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, default=ROOT / "tests" / "artifacts" / "fuzz")
    parser.add_argument("--input", type=Path, help="run this one input instead")
    chosen = parser.parse_args()
    if chosen.target == "all":
        command = [sys.executable, "-m", "tests.long.fuzz", "--seconds", str(chosen.seconds), "--corpus", chosen.corpus]
        return max(subprocess.run([*command, name], check=False, cwd=ROOT).returncode for name in TARGETS)
    if chosen.input is not None:
        timed(TARGETS[chosen.target]())(chosen.input.read_bytes())
        return 0
    corpus: Path = chosen.corpus / chosen.target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[chosen.target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    fuzz(chosen.target, chosen.seconds, corpus)
    return 0


if __name__ == "__main__":
    sys.exit(main())
