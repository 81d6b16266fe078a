"""What the long tests share: verdicts, a hub with a ledger, agents that write down their links, a cable between them.

A script is a function that is given a :class:`Run`; :func:`script` runs it, ends what it started, and says with the
exit status whether every claim held.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.ledgerhub import Ledger
from tests.running import free_port

ROOT = Path(__file__).parents[2]
ISOLATED = "TESTS_LONG_IS_ISOLATED"
START_SECONDS = 30.0
HUB_ADDRESS, AGENTS_ADDRESS = "10.99.0.1", "10.99.0.2"

T = TypeVar("T")


class Event(NamedTuple):
    """What a link went through; ``at`` is a moment of :func:`time.monotonic`."""

    at: float
    agent: str
    word: str
    text: str


class Run:
    """One run of a script: its folder, what it has started, and what it has found."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.failures = 0
        self._stack = stack
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self._began:7.1f} s  {text}\n")
        sys.stdout.flush()

    def claim(self, holds: object, claim: str, figure: object = "") -> None:
        """Say whether a claim holds, with the figure that shows it."""
        self.failures += not holds
        self.say(f"{'PASS' if holds else 'FAIL'}  {claim}{f': {figure}' if figure != '' else ''}")

    def within(self, seconds: float, claim: str, condition: Callable[[], object], *, patience: float = 0) -> float:
        """Claim that ``condition`` comes true within so many seconds; wait for it longer, to see by how much not."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > max(patience, seconds) + 5:
                self.claim(holds=False, claim=f"{claim} (within {seconds:g} s)", figure="not seen")
                return time.monotonic() - began
            time.sleep(0.1)
        took = time.monotonic() - began
        self.claim(took <= seconds, f"{claim} (within {seconds:g} s)", f"{took:.1f} s")
        return took

    def start(
        self, *command: str, environment: dict[str, str] | None = None, output: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        """A process that ends with this run. What it says goes into a file of the folder."""
        log = (output or self.folder / f"log-{len(list(self.folder.iterdir()))}").open("ab")
        with log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | (environment or {}),
            )
        self._stack.callback(_end, process)
        return process


class Hub:
    """A hub with a ledger, killed and started again on one port; and what it answers."""

    def __init__(self, run: Run, address: str = "127.0.0.1", *, prefix: Sequence[str] = ()) -> None:
        self.address = address
        self.port = free_port(address)
        self.url = f"http://{address}:{self.port}"
        self.log = run.folder / "hub.log"
        self.process: subprocess.Popen[bytes]
        self.environment: dict[str, str] = {}
        self._run = run
        self._prefix = prefix
        self._file = run.folder / "ledger"
        self.ledger = Ledger(self._file)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            *self._prefix,
            sys.executable,
            "-m",
            "tests.ledgerhub",
            str(self.port),
            str(self._file),
            self.address,
        ]
        self.process = self._run.start(*command, environment=self.environment, output=self.log)
        wait_for(lambda: self.get("/health"), "the hub's answer")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def get(self, path: str, timeout: float = 10) -> Any:
        """An answer of the API, or None where there is none."""
        with suppress(OSError, ValueError), urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return json.load(answer)
        return None

    def nodes(self) -> list[dict[str, Any]]:
        return self.get("/api/nodes") or []

    def statuses(self) -> dict[str, int]:
        """How many nodes have which status."""
        nodes = [node["status"] for node in self.nodes()]
        return {status: nodes.count(status) for status in sorted(set(nodes))}

    def all_online(self, count: int) -> bool:
        return self.statuses() == {"online": count}

    def has_all(self) -> bool:
        """Whether the ledger has every report up to about the present of each node, but for those told lost."""
        nodes, taken = self.nodes(), self.ledger.taken()
        for node in nodes:
            found = taken.get(node["report"]["boot_id"], set())
            present = node["report"]["sequence"]
            missing = set(range(1, present - 3)) - found
            if not found or max(found) < present - 3 or len(missing) > (node["reports_lost"] or 0):
                return False
        return bool(nodes)

    def memory_bytes(self) -> int:
        return resident_bytes(self.process)


class Cable:
    """The one way between this network namespace, the hub's, and another, the agents'."""

    def __init__(self, run: Run) -> None:
        self._holder = run.start("unshare", "--net", "sleep", "infinity")
        self._there = f"/proc/{self._holder.pid}/ns/net"
        here = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(self._there).readlink() != here, "a second network namespace")
        _do("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(self._holder.pid))
        _do("ip", "address", "add", f"{HUB_ADDRESS}/24", "dev", "cable")
        _do(*self.over, "ip", "address", "add", f"{AGENTS_ADDRESS}/24", "dev", "cable")
        for side in ([], self.over):
            _do(*side, "ip", "link", "set", "lo", "up")
            _do(*side, "ip", "link", "set", "cable", "up")

    @property
    def over(self) -> list[str]:
        """What a command begins with that is to run at the agents' end."""
        return ["nsenter", f"--net={self._there}"]

    def harm(self, *, to_hub: str | None = None, to_agents: str | None = None) -> None:
        """Do to what arrives at an end as a rule of nft(8) says, such as "drop"."""
        for side, rule in (([], to_hub), (self.over, to_agents)):
            if rule is not None:
                _nft(side, f"add table inet harm; add chain inet harm arrives {ARRIVES}; flush chain inet harm arrives")
                _nft(side, f'add rule inet harm arrives iifname "cable" {rule}')

    def mend(self) -> None:
        for side in ([], self.over):
            _nft(side, "flush ruleset")

    def unplug(self) -> None:
        _do("ip", "link", "set", "cable", "down")

    def plug(self) -> None:
        _do("ip", "link", "set", "cable", "up")


ARRIVES = "{ type filter hook input priority 0; }"


class Agents:
    """A process of agents that report to ``url``."""

    def __init__(
        self,
        run: Run,
        url: str,
        count: int,
        *options: str,
        first: int = 0,
        prefix: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.count = count
        self._file = run.folder / f"events-{first}"
        self._file.touch()
        command = [sys.executable, "-m", "tests.long.agents", url, str(count), str(self._file), f"--first={first}"]
        log = run.folder / f"agents-{first}.log"
        self.process = run.start(*prefix, *command, *options, environment=environment, output=log)

    def events(self, since: float = 0, *words: str) -> list[Event]:
        """What came after ``since``, of these kinds."""
        found = []
        for line in self._file.read_text().splitlines():
            at, agent, word, text = line.split(" ", 3)
            if float(at) > since and (not words or word in words):
                found.append(Event(float(at), agent, word, text))
        return found

    def first(self, word: str, since: float) -> dict[str, float]:
        """How long after ``since`` each agent came to ``word`` for the first time."""
        found: dict[str, float] = {}
        for event in self.events(since, word):
            found.setdefault(event.agent, event.at - since)
        return found

    def send(self, number: int) -> None:
        self.process.send_signal(number)


def script(main: Callable[[Run, argparse.Namespace], None], *options: tuple[str, Any, str]) -> None:
    """Run ``main`` with the options of the command line: each a flag, its default, and what it is for."""
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, default, meaning in options:
        parser.add_argument(flag, type=type(default), default=default, help=f"{meaning} (default {default})")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run = Run(Path(folder), stack)
        try:
            main(run, arguments)
        except Exception:
            for log in sorted(run.folder.glob("*log*")):
                sys.stdout.write(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}\n")
            raise
    run.say("every claim holds" if not run.failures else f"{run.failures} claims do not hold")
    sys.exit(1 if run.failures else 0)


def isolate() -> None:
    """Go on in a network namespace of our own: no packet of anybody else's is touched. Needs no root where the
    system lets users have namespaces.
    """
    if ISOLATED not in os.environ:
        os.environ[ISOLATED] = "yes"
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        os.execvp("unshare", ["unshare", *user, "--net", sys.executable, *sys.orig_argv[1:]])
    _do("ip", "link", "set", "lo", "up")


def wait_for(condition: Callable[[], T], what: str, seconds: float = START_SECONDS) -> T:
    """Wait until ``condition`` gives something true, which must come."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.1)
    return found


def resident_bytes(process: "subprocess.Popen[bytes]") -> int:
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def open_files(process: "subprocess.Popen[bytes]") -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


@contextmanager
def stopped(process: "subprocess.Popen[bytes]") -> Any:
    """SIGSTOP for as long as the block lasts."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _nft(side: list[str], rules: str) -> None:
    _do(*side, "nft", *rules.split(" "))
