"""A hub that stands still (SIGSTOP) while its port still takes connections: the agents notice,
wait, and lose nothing.

    python -m tests.long.stopped_hub                         120 s: 3 minutes
"""

import argparse
import time

from tests.long.harness import Agents, Hub, Run, script, stopped, wait_for


def main(run: Run, options: argparse.Namespace) -> None:
    hub = Hub(run)
    hub.start()
    agents = Agents(run, hub.url, options.agents)
    wait_for(lambda: hub.all_online(options.agents), "all agents", 60)
    began = time.monotonic()
    with stopped(hub.process):
        time.sleep(options.seconds)
        noticed = agents.first("failed", began)
    run.claim(len(noticed) == options.agents, "agents that noticed", len(noticed))
    last = max(noticed.values(), default=99)
    run.claim(last <= 25, "the last noticed after (25 s)", f"{last:.1f} s")
    seen: set[str] = set()

    def all_are_back() -> bool:
        seen.update(hub.statuses())
        return len(agents.first("connected", began)) == agents.count

    run.within(20, "all agents are back", all_are_back)
    run.claim("offline" not in seen, "nobody was called offline for the hub's own pause", seen)
    run.within(60, "everything is in", hub.has_all, patience=120)
    run.claim(hub.all_online(options.agents), "nodes are online", hub.statuses())
    run.claim(not hub.ledger.repeated() and not hub.ledger.missing(), "nothing lost, nothing twice")


if __name__ == "__main__":
    script(main, ("--seconds", 120.0, "how long it stands still"), ("--agents", 20, "agents"))
