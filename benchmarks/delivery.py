"""How long a report takes from an agent's ``send`` to a viewer, and how much of what is sent arrives.

- 100 nodes at one report a second and ten viewers, who want every change at once (``?pace=0``) or calmly;
- 50 nodes reporting twice a second and 50 viewers on WebSocket.

The reference is a bare relay of the same bytes over TCP, one message at a time, in the same seconds: a process of its
own that does nothing else. Agents and viewers are one process, the hub another.

    python -m benchmarks.delivery [--long]
"""

import argparse
import asyncio
import bisect
import time
from collections.abc import Callable

from benchmarks._agents import Agent, Words, agents, paced, words_of
from benchmarks._figures import Figure, percentile, show
from benchmarks._processes import HOST, a_hub, a_server
from benchmarks._viewers import EventReader, Listener, StreamReader, events_request, glances, join, updates

RELAY = """
import asyncio

class Relay(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

async def main():
    server = await asyncio.get_running_loop().create_server(Relay, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1])
    await server.serve_forever()

asyncio.run(main())
"""


class Ledger:
    """When each report was sent, and how long it took to each viewer."""

    def __init__(self) -> None:
        self.sent: dict[tuple[str, int], float] = {}
        self.moments: dict[str, list[float]] = {}
        self.delays: list[list[float]] = []

    def reporting(self, agent: Agent) -> Callable[[], None]:
        def report() -> None:
            self.sent[agent.node, agent.sequence + 1] = now = time.time()
            self.moments.setdefault(agent.node, []).append(now)
            agent.report()

        return report

    def _sent_before(self, name: str, now: float) -> float:
        moments = self.moments.get(name, [])
        place = bisect.bisect_right(moments, now)
        return moments[place - 1] if place else now

    def viewer(self) -> Callable[[bytes, bytes, float], None]:
        """What one viewer hears goes here."""
        delays: list[float] = []
        self.delays.append(delays)

        def told(kind: bytes, data: bytes, now: float) -> None:
            if kind == b"nodes":
                if b'"view":"overview"' in data[:200]:  # which tells no sequences
                    delays.extend(now - self._sent_before(name, now) for name in glances(data))
                else:
                    delays.extend(now - self.sent[key] for key in updates(data) if key in self.sent)

        return told


async def echoes(port: int, words: Words, ended: asyncio.Event) -> list[float]:
    """Seconds for the bytes of a report to come back through the relay, ten times a second."""
    reader, writer = await asyncio.open_connection(HOST, port)
    found = []
    while not ended.is_set():
        data = words.report(1)
        began = time.perf_counter()
        writer.write(data)
        await reader.readexactly(len(data))
        found.append(time.perf_counter() - began)
        await asyncio.sleep(0.1)
    return found


async def deliver(
    words: list[Words], rate: float, viewers: list[Callable[[Ledger], Listener]], seconds: float
) -> tuple[Ledger, list[float], float]:
    """Every delay to every viewer, the relay's, and the share of a core that the hub needed."""
    ledger = Ledger()
    ended = asyncio.Event()
    with a_hub() as hub, a_server(RELAY) as relay:
        fleet = await agents(hub.port, words)
        audience = [await join(hub.port, lambda make=make: make(ledger)) for make in viewers]  # type: ignore[misc]
        send: list[object] = [ledger.reporting(one) for one in fleet]
        await paced(send, rate, 2)
        await asyncio.sleep(0.5)
        for one in audience:
            one.hear()
        ledger.sent.clear()
        for delays in ledger.delays:
            delays.clear()
        echo = asyncio.create_task(echoes(relay.port, words[0], ended))
        before = hub.cpu_seconds()
        await paced(send, rate, seconds)
        busy = (hub.cpu_seconds() - before) / seconds
        await asyncio.sleep(1)
        ended.set()
        for one in audience:
            one.hear()
        return ledger, await echo, busy


def latency(
    name: str, ledger: Ledger, echo: list[float], median_ms: float | None, high_ms: float | None
) -> list[Figure]:
    delays = [delay * 1e3 for one in ledger.delays for delay in one]
    relayed = [delay * 1e3 for delay in echo]
    rows = []
    for word, share, most in (("median", 0.5, median_ms), ("99 %", 0.99, high_ms)):
        ours, theirs = percentile(delays, share), percentile(relayed, share)
        goal, met = ("", None) if most is None else (f"< {most:g} ms", ours < most)
        rows.append(Figure(f"{name}: {word}", f"{ours:.2f} ms", f"{theirs:.2f} ms", ours / theirs, goal, met))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=8, help="seconds a case (default 8)")
    parser.add_argument("--only", choices=("events", "stream"), help="one part of it")
    parser.add_argument("--long", action="store_true", help="30 s a case")
    options = parser.parse_args()
    seconds = 30 if options.long else options.seconds
    words = words_of(100, "8")
    figures = []

    def on_events(query: str) -> Callable[[Ledger], Listener]:
        return lambda ledger: EventReader(events_request(query), ledger.viewer())

    cases = (("?pace=0&view=overview", 1.0, 10.0), ("?pace=0", 1.0, 10.0), ("", None, None))
    for query, median_ms, high_ms in cases:
        if options.only == "stream":
            break
        ledger, echo, busy = asyncio.run(deliver(words, 100, [on_events(query)] * 10, seconds))
        figures.append(Figure("the hub's processor", f"{busy:.0%} of a core"))
        name = f"100 nodes, 10 viewers of `/api/events{query}`"
        figures += latency(name, ledger, echo, median_ms, high_ms)
    if options.only == "events":
        show("From agent to viewer", figures)
        return
    on_stream: Callable[[Ledger], Listener] = lambda ledger: StreamReader(ledger.viewer())  # noqa: E731
    ledger, echo, busy = asyncio.run(deliver(words[:50], 100, [on_stream] * 50, seconds))
    figures.append(Figure("the hub's processor", f"{busy:.0%} of a core"))
    least = min(len(delays) for delays in ledger.delays) / len(ledger.sent)
    figures.append(
        Figure(
            "50 nodes twice a second, 50 viewers of `/api/stream`: updates delivered to the worst off",
            f"{least:.1%}",
            goal="≥ 95 %",
            met=least >= 0.95,
        )
    )
    figures += latency("— delay", ledger, echo, None, 300.0)
    show("From agent to viewer", figures)


if __name__ == "__main__":
    main()
