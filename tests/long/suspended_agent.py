"""An agent's machine that is suspended: it stands still, and when it goes on the clock on the wall has jumped.

    python -m tests.long.suspended_agent                     10 minutes; with --stopped 30: 1 minute

With Debian's libfaketime the wall clock jumps as that of a suspended machine does; without it the agent is halted only.
"""

import argparse
import time

from tests.long.faketime import FakeTime
from tests.long.harness import Agents, Hub, Run, script, stopped, wait_for

COUNT = 3


def main(run: Run, options: argparse.Namespace) -> None:
    fake = FakeTime(run)
    hub = Hub(run)
    hub.start()
    agents = Agents(run, hub.url, COUNT, environment=fake.environment)
    wait_for(lambda: hub.all_online(COUNT), "all agents", 60)
    time.sleep(3)
    with stopped(agents.process):
        time.sleep(options.stopped)
        run.claim(set(hub.statuses()) == {"offline"}, "meanwhile the nodes are", hub.statuses())
        fake.jump(options.jump)
    woke = time.monotonic()
    run.within(20, "all are online", lambda: hub.all_online(COUNT), patience=60)
    run.within(30, "everything is in", hub.has_all)
    run.claim(not hub.ledger.repeated() and not hub.ledger.missing(), "nothing lost, nothing twice")
    run.claim(len(agents.first("connected", woke)) == COUNT, "agents that connected anew", COUNT)
    run.claim(agents.process.poll() is None, "the watchdog has forgiven the pause")
    if fake.is_here:
        offsets = {round(node["clock_offset_seconds"] or 0) for node in hub.nodes()}
        run.claim(min(offsets) > options.jump - 60, "the jump shows as an offset of the nodes' clocks", sorted(offsets))


if __name__ == "__main__":
    script(
        main,
        ("--stopped", 540.0, "seconds for which it stands still"),
        ("--jump", 600.0, "seconds by which its clock has jumped then"),
    )
