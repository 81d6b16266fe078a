"""The hub's name: unknown to its DNS server at first, then moved to another address while the
old one is dead, whatever time the old answer was to hold.

    python -m tests.long.names                               2 minutes; needs dnsmasq
"""

import argparse
import time

from tests.dnsmasq import dnsmasq
from tests.long.harness import Agents, Hub, Run, script

COUNT = 3
NAME = "hub.lab.example"


def main(run: Run, options: argparse.Namespace) -> None:
    first = Hub(run)
    first.start()
    with dnsmasq(run.folder, {}, ttl=options.ttl) as server:
        url = f"http://{NAME}:{first.port}"
        agents = Agents(run, url, COUNT, f"--dns=127.0.0.1:{server.port}")
        time.sleep(options.unknown)
        said = {event.text for event in agents.events(0, "failed")}
        run.claim(any(NAME in text for text in said), "the agents say that the name is not known", sorted(said)[:1])
        server.know({NAME: "127.0.0.1"})
        run.within(20, "all are online after the name is known", lambda: first.all_online(COUNT), patience=60)
        run.within(30, "everything is in", first.has_all)

        second = Hub(run, "127.0.0.2")
        second.port, second.url = first.port, f"http://127.0.0.2:{first.port}"
        server.know({NAME: "127.0.0.2"})
        first.kill()
        second.start()
        run.say(f"the hub has moved; the old address was told to hold for {options.ttl} s")
        run.within(20, "all are online at the new address", lambda: second.all_online(COUNT), patience=options.ttl + 20)
        run.within(30, "everything is in", second.has_all)
    run.claim(not second.ledger.repeated() and not second.ledger.missing(), "nothing lost, nothing twice")


if __name__ == "__main__":
    script(
        main,
        ("--unknown", 60.0, "seconds until the name is known"),
        ("--ttl", 300, "seconds for which an answer holds"),
    )
