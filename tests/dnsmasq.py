"""A real DNS server, Debian's dnsmasq, on a free port of this machine."""

import getpass
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import pytest

from tests.running import free_port

PROGRAM = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
needs_dnsmasq = pytest.mark.skipif(PROGRAM is None, reason="dnsmasq is not here (Debian: apt install dnsmasq-base)")


class Dnsmasq:
    """Knows the names in a hosts file of its own; tells ``ttl`` seconds with each."""

    def __init__(self, folder: Path, ttl: int) -> None:
        self.port = free_port(kinds=(socket.SOCK_STREAM, socket.SOCK_DGRAM))
        self._hosts = folder.absolute() / "names"
        self._ttl = ttl
        self._process: Popen[str] | None = None

    def know(self, names: dict[str, str]) -> None:
        """Know these names and their addresses, and no others."""
        self._hosts.write_text("".join(f"{address} {name}\n" for name, address in names.items()))
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        assert PROGRAM is not None
        options = [
            "--keep-in-foreground",
            "--log-facility=-",
            "--conf-file=/dev/null",
            "--pid-file=",
            f"--user={getpass.getuser()}",
            f"--port={self.port}",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--no-resolv",
            "--no-hosts",
            f"--addn-hosts={self._hosts}",
            f"--local-ttl={self._ttl}",
        ]
        self._process = Popen([PROGRAM, *options], stdout=DEVNULL, stderr=PIPE, text=True)
        assert self._process.stderr is not None
        line = ""
        while "read" not in line:  # its last word before it answers
            line = self._process.stderr.readline()
            assert line, "dnsmasq ended"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def dnsmasq(folder: Path, names: dict[str, str], ttl: int = 60) -> Iterator[Dnsmasq]:
    server = Dnsmasq(folder, ttl)
    server.know(names)
    server.start()
    try:
        yield server
    finally:
        server.kill()
