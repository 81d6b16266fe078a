"""A thousand agents lose their hub together and come back together; a viewer's questions are
answered all the while.

    python -m tests.long.many_agents                         1,000 agents, in four processes: 4 minutes
"""

import argparse
import time

from tests.long.harness import Agents, Hub, Run, script, wait_for

PROCESSES = 4


def main(run: Run, options: argparse.Namespace) -> None:
    hub = Hub(run)
    hub.start()
    each = options.agents // PROCESSES
    count = each * PROCESSES
    limit = f"--interval={options.interval}"
    fleets = [Agents(run, hub.url, each, limit, first=place * each) for place in range(PROCESSES)]
    wait_for(lambda: hub.all_online(count), "all agents", 180)
    run.say(f"{count} agents are online; the hub has {hub.memory_bytes() / 2**20:.0f} MiB")
    killed = time.monotonic()
    hub.kill()
    time.sleep(options.down)
    hub.start()
    slowest = failed = 0.0

    def all_are_back() -> bool:
        nonlocal slowest, failed
        asked = time.monotonic()
        failed += hub.get("/health") is None
        slowest = max(slowest, time.monotonic() - asked)
        return all(len(fleet.first("connected", killed)) == fleet.count for fleet in fleets)

    run.within(45, "all are back", all_are_back, patience=180)
    run.claim(not failed, "questions of a viewer that were not answered", int(failed))
    run.say(f"the slowest answer took {slowest:.2f} s")
    run.within(15, "all are online", lambda: hub.all_online(count), patience=60)
    run.within(60, "everything is in", hub.has_all, patience=180)
    run.claim(not hub.ledger.repeated() and not hub.ledger.missing(), "nothing lost, nothing twice")
    memory = hub.memory_bytes() / 2**20
    run.claim(memory <= 300, "memory of the hub (at most 300 MiB)", f"{memory:.0f} MiB")


if __name__ == "__main__":
    script(
        main,
        ("--agents", 1000, "agents"),
        ("--interval", 5.0, "seconds between reports"),
        ("--down", 20.0, "seconds without a hub"),
    )
