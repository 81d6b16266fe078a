"""A hub that is killed and started again and again: nothing is lost, nothing comes twice, and
no agent tries more often than once a second.

    python -m tests.long.restarts                            20 times, 5 s apart: 3 minutes
"""

import argparse
import time
from collections import Counter

from tests.long.harness import Agents, Hub, Run, script, wait_for


def main(run: Run, options: argparse.Namespace) -> None:
    hub = Hub(run)
    hub.start()
    agents = Agents(run, hub.url, options.agents)
    wait_for(lambda: hub.all_online(options.agents), "all agents", 60)
    began = time.monotonic()
    for _ in range(options.times):
        hub.kill()
        hub.start()
        time.sleep(options.apart)
    took = time.monotonic() - began
    tries = Counter(event.agent for event in agents.events(began, "tries"))
    most = max(tries.values()) / took
    run.claim(most <= 1, "tries a second of the agent that tried most (at most 1)", f"{most:.2f}")
    run.within(20, "all agents are back", lambda: hub.all_online(options.agents), patience=60)
    run.within(60, "everything is in", hub.has_all, patience=120)
    run.claim(not hub.ledger.repeated(), "taken twice by one hub", len(hub.ledger.repeated()))
    run.claim(not hub.ledger.missing(), "agents that miss a report", len(hub.ledger.missing()))
    run.claim(len(hub.ledger.lives()) == options.times + 1, "lives of the hub", len(hub.ledger.lives()))


if __name__ == "__main__":
    script(
        main,
        ("--times", 20, "how often it is killed"),
        ("--apart", 5.0, "seconds between"),
        ("--agents", 30, "agents"),
    )
