"""Whole agents of simulated GPUs, many in one process, which write down how their links fare.

    python -m tests.long.agents HUB_URL COUNT EVENTS [--interval 1] [--full 1800 --thinned 7200] [--dns ADDRESS:PORT]

A line of EVENTS is ``moment agent word text``; the moment is CLOCK_MONOTONIC's, so that other processes can compare
it with their own. The words are *tries*, *connected* and *failed*.
"""

import argparse
import asyncio
import functools
import os
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from gpumon.agent import app
from gpumon.agent.link import Link
from gpumon.agent.linkstate import Diary
from gpumon.agent.outbox import FULL_SECONDS, THINNED_SECONDS, Outbox
from gpumon.agent.scenario import Scenario
from gpumon.config import AgentSection, DnsSection
from gpumon.lifecycle import run
from gpumon.listening import listen

STARTED_A_SECOND = 80
_agent: ContextVar[str] = ContextVar("agent")


def write_down(file: Path) -> None:
    """From now on, every try of every link and its outcome goes into ``file``."""
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(word: str, text: str = "-") -> None:
        os.write(number, f"{time.monotonic():.3f} {_agent.get()} {word} {text}\n".encode())

    def before(owner: type, name: str, word: str) -> None:
        original = getattr(owner, name)

        def noted(self: Any, *arguments: Any, **options: Any) -> Any:
            note(word, arguments[1].text if word == "failed" else "-")
            return original(self, *arguments, **options)

        setattr(owner, name, functools.wraps(original)(noted))

    before(Link, "_open", "tries")
    before(Diary, "connected", "connected")
    before(Diary, "failed", "failed")


async def fleet(options: argparse.Namespace) -> None:
    """Agents ``n000``, ``n001`` ... until cancelled."""
    scaled = functools.partial(Outbox, full_seconds=options.full, thinned_seconds=options.thinned)
    setattr(app, "Outbox", scaled)  # noqa: B010  (typed, it would be an assignment to a class)
    dns = DnsSection(server=options.dns, enabled=True) if options.dns else DnsSection()
    async with asyncio.TaskGroup() as group:
        for place in range(options.first, options.first + options.count):
            name = f"n{place:03d}"
            settings = AgentSection(name=name, hub=[options.hub], interval_seconds=options.interval)
            _agent.set(name)  # what is started now has it in its context
            listener = listen("127.0.0.1", 0, "test")
            group.create_task(app.run(settings, listener, Scenario.parse("rtx5090:1"), dns))
            await asyncio.sleep(1 / STARTED_A_SECOND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hub")
    parser.add_argument("count", type=int)
    parser.add_argument("events", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--full", type=float, default=FULL_SECONDS)
    parser.add_argument("--thinned", type=float, default=THINNED_SECONDS)
    parser.add_argument("--dns", default="")
    options = parser.parse_args()
    write_down(options.events)
    run(fleet(options))


if __name__ == "__main__":
    main()
