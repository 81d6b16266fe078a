"""The hub's clock on the wall jumps forward and back: nobody's status changes, and the past
stays in order.

    python -m tests.long.clock_jumps                         1 minute; needs libfaketime
"""

import argparse
import time

from tests.long.faketime import FakeTime
from tests.long.harness import Agents, Hub, Run, script, wait_for

COUNT = 3
HOUR = 3600.0
OTHER_ZONE = {"TZ": "Europe/Berlin"}


def main(run: Run, options: argparse.Namespace) -> None:
    fake = FakeTime(run)
    if not fake.is_here:
        run.claim(holds=False, claim="libfaketime is here")
        return
    hub = Hub(run)
    hub.environment = fake.environment | OTHER_ZONE
    hub.start()
    agents = Agents(run, hub.url, COUNT)
    wait_for(lambda: hub.all_online(COUNT), "all agents", 60)
    since = {node["name"]: node["status_since"] for node in hub.nodes()}
    for seconds in (HOUR, 0.0, -HOUR, 0.0):
        fake.jump(seconds)
        jumped = time.monotonic()
        seen: set[str] = set()
        while time.monotonic() < jumped + options.seconds:
            seen |= set(hub.statuses())
            time.sleep(0.1)
        offsets = sorted({round(node["clock_offset_seconds"] or 0) for node in hub.nodes()})
        run.claim(seen == {"online"}, f"{seconds:+.0f} s: the nodes are", f"{seen}, their clocks off by {offsets} s")
        run.claim(not agents.events(jumped, "failed"), "links that ended", len(agents.events(jumped, "failed")))
    now = {node["name"]: node["status_since"] for node in hub.nodes()}
    run.claim(now == since, "nobody's status has changed since before")
    run.within(30, "everything is in", hub.has_all)
    run.claim(not hub.ledger.repeated() and not hub.ledger.missing(), "nothing lost, nothing twice")


if __name__ == "__main__":
    script(main, ("--seconds", 12.0, "seconds after each jump"))
