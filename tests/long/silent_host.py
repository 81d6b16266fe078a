"""The agents' host is heard no more: packets are dropped both ways, then one way only.

python -m tests.long.silent_host                         2 minutes; needs root or user namespaces, ip, nft
"""

import argparse
import time
from collections.abc import Callable

from tests.long.harness import HUB_ADDRESS, Agents, Cable, Hub, Run, isolate, open_files, script, wait_for

COUNT = 4


def silence(run: Run, hub: Hub, agents: Agents, begin: Callable[[], None], end: Callable[[], None]) -> None:
    wait_for(lambda: hub.all_online(COUNT), "all agents", 60)
    time.sleep(3)
    files = open_files(hub.process)
    begin()
    began = time.monotonic()

    def by(seconds: float, claim: str, condition: Callable[[], object]) -> None:
        run.within(max(began + seconds - time.monotonic(), 0.1), f"{claim} {seconds:g} s after", condition)

    by(7, "all are stale", lambda: set(hub.statuses()) <= {"stale", "offline"})
    by(16, "all are offline", lambda: set(hub.statuses()) == {"offline"})
    by(25, "the hub has let go of their sockets", lambda: open_files(hub.process) <= files - COUNT)
    by(25, "the agents have noticed", lambda: len(agents.first("failed", began)) == COUNT)
    codes = {node["verdict"]["code"] for node in hub.nodes() if node["verdict"]}
    run.claim(codes, "the verdict", codes)
    end()
    run.within(20, "all are online again", lambda: hub.all_online(COUNT), patience=60)
    run.within(30, "everything is in", hub.has_all, patience=60)
    run.claim(not hub.ledger.repeated() and not hub.ledger.missing(), "nothing lost, nothing twice")
    run.within(15, "as many files are open as before", lambda: open_files(hub.process) <= files)


def main(run: Run, _: argparse.Namespace) -> None:
    cable = Cable(run)
    hub = Hub(run, HUB_ADDRESS)
    hub.start()
    agents = Agents(run, hub.url, COUNT, prefix=cable.over)
    run.say("nothing passes, both ways")
    silence(run, hub, agents, lambda: cable.harm(to_hub="drop", to_agents="drop"), cable.mend)
    run.say("nothing passes from the agents to the hub")
    silence(run, hub, agents, lambda: cable.harm(to_hub="drop"), cable.mend)


if __name__ == "__main__":
    isolate()
    script(main)
