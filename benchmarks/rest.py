"""What ``/api/nodes`` costs a hub while reports arrive, beside ``{}`` by the same server behind the same gate.

Requests come one after the other on one connection, as fast as they are answered; what the hub needs for the reports
alone is measured just before and taken off.

    python -m benchmarks.rest [--rounds 3] [--long]
"""

import argparse
import asyncio

from benchmarks._agents import Words, agents, paced, words_of
from benchmarks._figures import Figure, compared, show
from benchmarks._processes import HOST, Served, a_hub, a_server

SECONDS = 3.0
EMPTY = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from gpumon.config import AuthSection
from gpumon.hub.auth import Auth
from gpumon.hub.gate import Gate
from gpumon.hub.hosts import Hosts
from gpumon.problem import LoggedFaults
from gpumon.listening import listen
from gpumon.serve import serve

async def empty(_):
    return Response(b"{}", media_type="application/json")

listener = listen("127.0.0.1", 0, "")
print(listener.getsockname()[1])
asyncio.run(serve(LoggedFaults(Gate(Starlette(routes=[Route("/", empty)]), Hosts(), Auth(AuthSection()))), listener))
"""


async def ask(port: int, path: str, headers: str, seconds: float) -> int:
    """How many answers came in ``seconds``."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(HOST, port)
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{{headers}}\r\n"
    tag, count, ends = "", 0, loop.time() + seconds
    while loop.time() < ends:
        writer.write(request.format(headers=headers.replace("TAG", tag)).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if size := int(fields.get("content-length", 0)):
            await reader.readexactly(size)
        tag = fields.get("etag", "").replace("w/", "W/")
        count += 1
    writer.close()
    return count


async def cost(server: Served, path: str, headers: str = "", alone: float = 0.0) -> float:
    """Microseconds of processor time an answer; ``alone`` is what the server needs a second without any."""
    before = server.cpu_seconds()
    count = await ask(server.port, path, headers, SECONDS)
    return (server.cpu_seconds() - before - alone * SECONDS) / count * 1e6


async def compare(words: list[Words], rate: float, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Of ``{}``, of a 304 and of all nodes compressed, while ``rate`` reports a second arrive."""

    empty, unchanged, whole = [], [], []
    with a_hub() as hub, a_server(EMPTY) as bare:
        fleet = await agents(hub.port, words)
        send: list[object] = [one.report for one in fleet]
        await paced(send, max(rate, len(words)), 1)
        for _ in range(rounds):
            before = hub.cpu_seconds()
            await paced(send, rate, 2)
            alone = (hub.cpu_seconds() - before) / 2
            pushing = asyncio.create_task(paced(send, rate, 3 * SECONDS + 1))
            empty.append(await cost(bare, "/"))
            whole.append(await cost(hub, "/api/nodes", "Accept-Encoding: gzip\r\n", alone))
            unchanged.append(await cost(hub, "/api/nodes", "If-None-Match: TAG\r\n", alone))
            await pushing
    return empty, unchanged, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--long", action="store_true", help="more rounds")
    options = parser.parse_args()
    figures: list[Figure] = []
    for nodes, rate, most in ((100, 100, 1.5), (1000, 200, 5.0)):
        empty, unchanged, whole = asyncio.run(
            compare(words_of(nodes, "8"), rate, 3 * options.rounds if options.long else options.rounds)
        )
        name = f"`/api/nodes` of {nodes:,}, {rate} reports/s"
        if nodes == 100:
            figures.append(compared(f"{name}: asked with its ETag", unchanged, empty, "µs", 1.2))
        figures.append(compared(f"{name}: compressed", whole, empty, "µs", most))
    show("Asking", figures)


if __name__ == "__main__":
    main()
