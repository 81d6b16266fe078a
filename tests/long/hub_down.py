"""The hub is gone for long: what fits into the agents' rings is not lost, what does
not fit is counted, and no report comes twice.

    python -m tests.long.hub_down                            30 minutes at an interval of 2 s: 34 minutes
    python -m tests.long.hub_down --down 360 --scale 30      3 hours, with a ring of a thirtieth: 8 minutes
"""

import argparse
import time

from tests.long.harness import Agents, Hub, Run, resident_bytes, script, wait_for

FULL_SECONDS, THINNED_SECONDS = 1800.0, 7200.0
UNACKNOWLEDGED_SECONDS = 5.0


def main(run: Run, options: argparse.Namespace) -> None:
    hub = Hub(run)
    hub.start()
    full, thinned = FULL_SECONDS / options.scale, THINNED_SECONDS / options.scale
    limits = (f"--interval={options.interval}", f"--full={full}", f"--thinned={thinned}")
    agents = Agents(run, hub.url, options.agents, *limits)
    wait_for(lambda: hub.all_online(options.agents), "all agents", 60)
    time.sleep(5)
    memory = resident_bytes(agents.process)
    killed = time.monotonic()
    hub.kill()
    run.say(f"the hub is killed, for {options.down:g} s")
    time.sleep(options.down)
    grown = (resident_bytes(agents.process) - memory) / options.agents / 2**20
    run.claim(grown <= 16, "what an agent keeps (at most 16 MiB)", f"{grown:.2f} MiB")
    hub.start()
    run.within(20, "all agents are back", lambda: len(agents.first("connected", killed)) == options.agents)
    run.within(120, "everything that was kept is in", hub.has_all, patience=600)
    run.claim(not hub.ledger.repeated(), "taken twice by one hub", len(hub.ledger.repeated()))
    lost = {node["report"]["boot_id"]: node["reports_lost"] for node in hub.nodes()}
    missing = {boot: len(hub.ledger.missing().get(boot, ())) for boot in lost}
    if options.down + 5 < full:
        run.claim(not any(missing.values()), "reports lost", sum(missing.values()))
    else:
        run.claim(all(lost.values()), "reports lost for want of room, told by each node", sum(lost.values()))
    # A killed hub has not acknowledged what it took last: its agents drop that as the rest, and count it as lost.
    doubtful = UNACKNOWLEDGED_SECONDS / options.interval + 1
    beyond = sorted(lost[boot] - missing[boot] for boot in lost)
    figure = f"{sum(missing.values())} reports; told beyond: {beyond[0]} to {beyond[-1]}, allowed: 0 to {doubtful:g}"
    run.claim(beyond[0] >= 0 and beyond[-1] <= doubtful, "what is missing is what was told lost, node by node", figure)


if __name__ == "__main__":
    script(
        main,
        ("--down", 1800.0, "seconds without a hub"),
        ("--interval", 2.0, "seconds between reports"),
        ("--agents", 20, "agents"),
        ("--scale", 1.0, "by how much the ring is smaller"),
    )
