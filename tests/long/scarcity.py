"""A hub that has few file descriptors, little memory, or a processor that others take: agents
that are connected stay online.

    python -m tests.long.scarcity                            3 minutes; the memory limit needs root and cgroups
"""

import argparse
import os
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.long.harness import Agents, Hub, Run, script, wait_for

COUNT = 50


def watch(run: Run, hub: Hub, agents: Agents, seconds: float, what: str) -> None:
    """For so long all agents stay online, as far as the hub answers whoever asks, and no link ends."""
    began = time.monotonic()
    seen: dict[str, int] = {}
    answered = asked = 0
    while time.monotonic() < began + seconds:
        statuses = hub.statuses()
        asked, answered = asked + 1, answered + bool(statuses)
        seen = {status: max(seen.get(status, 0), count) for status, count in (seen | statuses).items()}
        time.sleep(0.5)
    ended = agents.events(began, "failed")
    run.claim(set(seen) <= {"online"}, f"{what}: seen, in {answered} answers to {asked} questions", seen)
    run.claim(not ended, f"{what}: links that ended", len(ended))


def few_files(run: Run, options: argparse.Namespace) -> None:
    hub = Hub(run, prefix=["prlimit", "--nofile=256"])
    hub.start()
    agents = Agents(run, hub.url, COUNT)
    wait_for(lambda: hub.all_online(COUNT), "all agents", 60)
    with ExitStack() as viewers:
        opened = 0
        for _ in range(300):
            viewer = viewers.enter_context(socket.socket())
            viewer.settimeout(0.2)
            with suppress(OSError):
                viewer.connect((hub.address, hub.port))
                viewer.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                opened += viewer.recv(100).startswith(b"HTTP/1.1 200")
        run.say(f"256 files, 300 viewers: {opened} of them are served")
        began = time.monotonic()
        time.sleep(options.seconds)
        ended = agents.events(began, "failed")
        run.claim(not ended, "256 files: links that ended", len(ended))
    run.within(15, "256 files: it answers when the viewers are gone", lambda: hub.all_online(COUNT), patience=60)
    run.within(30, "256 files: everything is in", hub.has_all)
    run.claim(not hub.ledger.repeated() and not hub.ledger.missing(), "256 files: nothing lost, nothing twice")
    hub.kill()
    agents.process.kill()


def little_memory(run: Run, options: argparse.Namespace) -> None:
    group = memory_group(200 * 2**20)
    if group is None:
        run.say("no cgroup may be made here: the limit of memory is left out")
        return
    enter = ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"]
    try:
        hub = Hub(run, prefix=enter)
        hub.start()
        agents = Agents(run, hub.url, COUNT, "--interval=0.2", first=100)
        wait_for(lambda: hub.all_online(COUNT), "all agents", 60)
        watch(run, hub, agents, options.seconds, "200 MiB")
        run.say(f"the hub uses {hub.memory_bytes() / 2**20:.0f} MiB")
        hub.kill()
        agents.process.kill()
    finally:
        with suppress(OSError):
            group.rmdir()


def memory_group(limit: int) -> Path | None:
    """A cgroup of either version."""
    for base, file in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        group = Path(base) / f"gpumon-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            if (group / file).exists():
                (group / file).write_text(str(limit))
                return group
            group.rmdir()
    return None


def no_processor(run: Run, options: argparse.Namespace) -> None:
    hub = Hub(run)
    hub.start()
    agents = Agents(run, hub.url, COUNT, first=200)
    wait_for(lambda: hub.all_online(COUNT), "all agents", 60)
    for _ in range(2 * (os.cpu_count() or 1)):
        run.start(sys.executable, "-c", "while True: pass")
    watch(run, hub, agents, options.seconds, "processor taken")
    run.within(30, "processor taken: everything is in", hub.has_all)
    run.claim(not hub.ledger.repeated() and not hub.ledger.missing(), "processor taken: nothing lost, nothing twice")


def main(run: Run, options: argparse.Namespace) -> None:
    few_files(run, options)
    (run.folder / "ledger").unlink()
    little_memory(run, options)
    (run.folder / "ledger").unlink(missing_ok=True)
    no_processor(run, options)


if __name__ == "__main__":
    script(main, ("--seconds", 30.0, "seconds of each"))
