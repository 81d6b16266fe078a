"""The programs under test, each a process of its own on loopback, and what they cost."""

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import psutil

HOST = "127.0.0.1"
START_SECONDS = 30.0


class Served:
    """A program that listens on ``port``."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port

    def cpu_seconds(self) -> float:
        """Processor time so far, of all its threads: the kernel's clock of that process (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextmanager
def served(command: Sequence[str], said: str) -> Iterator[Served]:
    """Run ``command`` until the block ends; the pattern ``said`` finds its port in what it says."""
    with tempfile.TemporaryFile() as output:  # a pipe that nobody reads would stop it
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield Served(process, _port(process, output.fileno(), said))
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(process: "subprocess.Popen[bytes]", output: int, said: str) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        text = Path(f"/proc/self/fd/{output}").read_bytes().decode(errors="replace")
        if match := re.search(said, text):
            return int(match[1])
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended:\n{text}")
        time.sleep(0.02)
    raise SystemExit(f"{process.args!r} did not start")


def a_hub(*arguments: str, port: int = 0) -> AbstractContextManager[Served]:
    """A hub, as a user starts it."""
    command = [sys.executable, "-m", "gpumon", "hub", f"--host={HOST}", f"--port={port}", *arguments]
    return served(command, r"on https?://\S+:(\d+)")


def a_server(code: str) -> AbstractContextManager[Served]:
    """A reference in Python: a program that prints its port."""
    return served([sys.executable, "-u", "-c", code], r"^(\d+)")


async def health(port: int) -> dict[str, int]:
    """How many nodes are in which state."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(f"GET /health HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    found: dict[str, int] = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["nodes"]
    return found
