"""What it costs a hub to tell 1,000 viewers, beside a bare asyncio server that writes the same bytes to as many.

A few agents report; every viewer reads everything. What one viewer of the hub was sent, letter by letter, is then sent
through the reference at the same rhythm: ``transport.write`` to each of its viewers, which is the least that Python
can do. In turns, each a process of its own. With ``/api/events`` as a plain program reads it and compressed, as a
browser asks for it, and with ``/api/stream``.

And what one viewer that stops reading costs the others.

    python -m benchmarks.fanout [--viewers 1000] [--rounds 5] [--long]
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable

import msgspec

from benchmarks._agents import agents, paced, upgrade, words_of
from benchmarks._figures import Figure, compared, percentile, show
from benchmarks._processes import HOST, Served, a_hub, a_server
from benchmarks._viewers import EventReader, Viewer, events_request, join, updates

SECONDS = 3.0
QUIET_SECONDS = 1.5
LETTERS_A_SECOND = 4
BARE = """
import asyncio

class Bare(asyncio.Protocol):
    viewers = []

    def connection_made(self, transport):
        self.transport, self.buffer = transport, bytearray()

    def data_received(self, data):
        if data == b"look":
            self.viewers.append(self.transport)
            return
        self.buffer += data
        while len(self.buffer) >= 4 and len(self.buffer) >= (end := 4 + int.from_bytes(self.buffer[:4])):
            letter = bytes(self.buffer[4:end])
            del self.buffer[:end]
            for viewer in self.viewers:
                viewer.write(letter)

async def main():
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0, backlog=2000)
    print(server.sockets[0].getsockname()[1])
    await server.serve_forever()

asyncio.run(main())
"""


class Recorder(Viewer):
    """Keeps what comes, piece by piece, as it comes: a letter is sent in one call and read within a millisecond."""

    def __init__(self, request: bytes) -> None:
        super().__init__(request)
        self.pieces: list[tuple[float, bytearray]] = []

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        now = time.monotonic()
        if self.pieces and now - self.pieces[-1][0] < 0.5 / LETTERS_A_SECOND:
            self.pieces[-1][1].extend(data)
        else:
            self.pieces.append((now, bytearray(data)))


async def compare(request: bytes, nodes: int, viewers: int, rounds: int) -> tuple[list[float], list[float], float]:
    """Microseconds a delivery of the hub and of the bare server, round by round, and bytes a delivery."""
    words = WORDS[:nodes]
    with a_hub() as hub, a_server(BARE) as bare:
        fleet = await agents(hub.port, words)
        recorder: Recorder = await join(hub.port, lambda: Recorder(request))
        audience = [await join(hub.port, lambda: Viewer(request)) for _ in range(viewers - 1)]
        others = [await join(bare.port, lambda: Viewer(b"look")) for _ in range(viewers)]
        _, writer = await asyncio.open_connection(HOST, bare.port)
        send: list[object] = [one.report for one in fleet]
        rate = LETTERS_A_SECOND * nodes
        await paced(send, rate, 2)
        ours, theirs, sizes = [], [], []
        for _ in range(rounds):
            await asyncio.sleep(QUIET_SECONDS)
            for one in (recorder, *audience):
                one.say_here()
            recorder.pieces.clear()
            told = sum(one.received for one in audience)
            before = hub.cpu_seconds()
            await paced(send, rate, SECONDS)
            await asyncio.sleep(QUIET_SECONDS)
            letters = [bytes(piece) for _, piece in recorder.pieces]
            used = hub.cpu_seconds() - before
            size = sum(map(len, letters)) / len(letters)
            deliveries = (sum(one.received for one in audience) - told) / size + len(letters)
            ours.append(used / deliveries * 1e6)
            sizes.append(size)
            told = sum(one.received for one in others)
            before = bare.cpu_seconds()
            for letter in letters:
                writer.write(len(letter).to_bytes(4) + letter)
                await asyncio.sleep(1 / LETTERS_A_SECOND)
            await asyncio.sleep(QUIET_SECONDS)
            deliveries = (sum(one.received for one in others) - told) / size
            theirs.append((bare.cpu_seconds() - before) / deliveries * 1e6)
            _expect(deliveries, len(letters) * viewers)
        return ours, theirs, statistics.mean(sizes)


def _expect(deliveries: float, planned: int) -> None:
    """The reference must have told its viewers what the hub told its own."""
    if not 0.98 <= deliveries / planned <= 1.02:
        raise SystemExit(f"the reference delivered {deliveries:.0f} letters instead of {planned}")


async def stalled(seconds: float) -> list[Figure]:
    """Ten viewers that read and, after half of the time, one that does not: how late each change is."""
    delays: dict[bool, list[float]] = {False: [], True: []}
    sent: dict[tuple[str, int], float] = {}
    half = False

    def told(kind: bytes, data: bytes, now: float) -> None:
        if kind == b"nodes":
            delays[half].extend(
                now - sent[name, sequence] for name, sequence in updates(data) if (name, sequence) in sent
            )

    def reporting(one: "object") -> Callable[[], None]:
        def report() -> None:
            one.report()  # type: ignore[attr-defined]
            sent[one.node, one.sequence] = time.time()  # type: ignore[attr-defined]

        return report

    with a_hub() as hub:
        fleet = await agents(hub.port, WORDS)
        audience = [await join(hub.port, lambda: EventReader(events_request("?pace=0"), told)) for _ in range(10)]
        send = [reporting(one) for one in fleet]
        await paced(send, len(fleet), seconds)
        for one in audience:
            one.hear()
        half = True
        stuck: Viewer = await join(hub.port, lambda: Viewer(events_request("?pace=0")))
        stuck.transport.pause_reading()
        began = time.monotonic()
        await paced(send, len(fleet), seconds)
        freed: float | None = None
        while freed is None and time.monotonic() - began < 40:
            await paced(send, len(fleet), 1)
            if await watching(hub) == 10:
                freed = time.monotonic() - began
        for one in audience:
            one.hear()
    worst = max(delays[True]) - max(delays[False])
    return [
        Figure(
            "one of 11 viewers stops reading: the worst delay of the other ten, before and after",
            f"{max(delays[False]) * 1e3:.0f} ms, {max(delays[True]) * 1e3:.0f} ms",
            goal="< 100 ms more",
            met=worst < 0.1,
        ),
        Figure(
            "— 99 % of their delays, before and after",
            f"{percentile(delays[False], 0.99) * 1e3:.1f} ms, {percentile(delays[True], 0.99) * 1e3:.1f} ms",
        ),
        Figure(
            "— it was cut off and freed after",
            "never" if freed is None else f"{freed:.0f} s",
            goal="≤ 30 s",
            met=freed is not None and freed <= 30,
        ),
    ]


async def watching(hub: Served) -> int:
    """How many viewers the hub counts."""
    reader, writer = await asyncio.open_connection(HOST, hub.port)
    writer.write(f"GET /health HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return int(msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["viewers"])


WORDS = words_of(100, "8")
SMALL = words_of(1, "rtx5090:1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--viewers", type=int, default=1000, help="viewers (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--long", action="store_true", help="more rounds")
    parser.add_argument("--only", choices=("compare", "stalled"), help="one part of it")
    options = parser.parse_args()
    rounds = 3 * options.rounds if options.long else options.rounds
    figures = []
    if options.only != "stalled":
        plain: list[float] = []
        for name, request, nodes in (
            ("SSE, one node", events_request(), 1),
            ("SSE, four nodes", events_request(), 4),
            ("WebSocket, four nodes", upgrade("/api/stream"), 4),
            ("SSE compressed, four nodes", events_request(gzip=True), 4),
        ):
            ours, theirs, size = asyncio.run(compare(request, nodes, options.viewers, rounds))
            figures.append(compared(f"{name}, {size / 1000:.1f} KB to {options.viewers:,}", ours, theirs, "µs", 1.5))
            if name == "SSE, four nodes":
                plain = ours
            if "compressed" in name:
                figures.append(compared("— against the plain one", ours, plain, "µs", 2.0))
    if options.only != "compare":
        figures += asyncio.run(stalled(5.0))
    show("Telling viewers", figures)


if __name__ == "__main__":
    main()
