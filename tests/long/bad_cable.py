"""A cable that flaps, loses one packet in five, or swallows all large ones.

    python -m tests.long.bad_cable flaps                     3 s down, 3 s up, for 5 minutes: 6 minutes
    python -m tests.long.bad_cable loses                     1 minute: 2 minutes
    python -m tests.long.bad_cable swallows                  1 minute

Needs root or user namespaces, ip, nft.
"""

import argparse
import sys
import time
from collections import Counter

from tests.long.harness import HUB_ADDRESS, Agents, Cable, Hub, Run, isolate, script, wait_for

COUNT = 3


def flaps(run: Run, hub: Hub, agents: Agents, cable: Cable, seconds: float) -> None:
    began, flips = time.monotonic(), 0
    badges = set()
    while time.monotonic() < began + seconds:
        cable.unplug()
        time.sleep(3)
        cable.plug()
        time.sleep(3)
        flips += 1
        badges |= {node["name"] for node in hub.nodes() if node["flapping"]}
    connected = Counter(event.agent for event in agents.events(began, "connected"))
    most = max(connected.values(), default=0)
    run.claim(most <= flips, f"connections of one agent in {flips} flaps", most)
    run.say(f"called flapping: {sorted(badges)}; links that ended: {dict(ends(agents, began))}")
    run.within(20, "all are online", lambda: hub.all_online(COUNT), patience=60)


def ends(agents: Agents, since: float) -> Counter[str]:
    return Counter(event.agent for event in agents.events(since, "failed"))


def loses(run: Run, hub: Hub, agents: Agents, cable: Cable, seconds: float) -> None:
    one_in_five = "numgen random mod 100 < 20 drop"
    cable.harm(to_hub=one_in_five, to_agents=one_in_five)
    began = time.monotonic()
    statuses: Counter[str] = Counter()
    while time.monotonic() < began + seconds:
        for node in hub.nodes():
            statuses[node["status"]] += 1
        time.sleep(0.2)
    cable.mend()
    online = statuses["online"] / max(statuses.total(), 1)
    run.claim(online > 0.95, "of the time online (what a long row of losses costs is chance)", f"{online:.1%}")
    run.say(f"statuses seen: {dict(statuses)}; links that ended: {dict(ends(agents, began))}")


def swallows(run: Run, hub: Hub, agents: Agents, cable: Cable, seconds: float) -> None:
    cable.harm(to_hub="meta length > 1000 drop")
    began = time.monotonic()
    run.within(25, "the agents have noticed", lambda: len(agents.first("failed", began)) == COUNT, patience=60)
    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    run.say(f"what they said: {sorted({event.text for event in agents.events(began, 'failed')})}")
    run.say(f"tries: {dict(Counter(event.agent for event in agents.events(began, 'tries')))}")
    verdicts = {node["verdict"]["message"] for node in hub.nodes() if node["verdict"]}
    run.say(f"the nodes are {hub.statuses()}: {sorted(verdicts)}")
    cable.mend()


FAULTS = {"flaps": (flaps, 300.0), "loses": (loses, 60.0), "swallows": (swallows, 40.0)}


def main(run: Run, options: argparse.Namespace) -> None:
    fault, seconds = FAULTS[options.fault]
    cable = Cable(run)
    hub = Hub(run, HUB_ADDRESS)
    hub.start()
    agents = Agents(run, hub.url, COUNT, prefix=cable.over)
    wait_for(lambda: hub.all_online(COUNT), "all agents", 60)
    fault(run, hub, agents, cable, options.seconds or seconds)
    run.within(20, "all are online again", lambda: hub.all_online(COUNT), patience=60)
    run.within(60, "everything is in", hub.has_all, patience=120)
    run.claim(not hub.ledger.repeated() and not hub.ledger.missing(), "nothing lost, nothing twice")


if __name__ == "__main__":
    isolate()
    sys.argv[1:2] = [f"--fault={sys.argv[1]}"] if len(sys.argv) > 1 and sys.argv[1] in FAULTS else sys.argv[1:2]
    script(main, ("--fault", "flaps", f"one of {', '.join(FAULTS)}"), ("--seconds", 0.0, "for how long"))
