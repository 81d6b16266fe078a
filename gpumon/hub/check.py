"""``gpumon check``: a configuration tried out. Each node is resolved and asked as the hub would do it.

Nothing here knows a terminal: where the text goes, and how wide it may be, is the caller's to say.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from msgspec import structs

from gpumon.config import PLACES, Config, NodeEntry, name_server
from gpumon.errors import PollError
from gpumon.hub.fetch import Fetcher, fetching, hint_for
from gpumon.hub.findings import Finding, Findings, NameServerFinding, head, safety, table
from gpumon.hub.posture import posture
from gpumon.lifecycle import open_many_files
from gpumon.model import Fault
from gpumon.resolver import Resolver
from gpumon.timestamp import seconds
from gpumon.wire import encode

MOST_AT_ONCE = 1024
WELL = "ok"


async def run(
    path: Path | None,
    config: Config,
    write: Callable[[str], None],
    columns: int,
    *,
    color: bool,
    as_json: bool,
    state_folder: Path | None = None,
) -> int:
    """Try each node of ``config`` (read from ``path``, or what holds without a file) and write what was found; the exit
    status. What the hub keeps lies in ``state_folder``.

    It is 0 where all nodes are well and 1 where one is not.
    """
    open_many_files()
    resolver = Resolver(name_server(config.dns.server) if config.dns.enabled else None)
    server = await _name_server(resolver)
    safe = await asyncio.to_thread(posture, config, path, state_folder)
    try:
        if not as_json:
            lines = [*head(path, len(config.nodes), server, columns, color=color), *safety(safe, columns, color=color)]
            write("\n".join(lines) + "\n")
        file = None if path is None else str(path)
        findings = Findings(file=file, name_server=server, posture=safe, nodes=await _nodes(config, resolver))
        text = encode(findings).decode() if as_json else "\n".join(table(findings.nodes, columns, color=color))
        write(text + "\n" if text else "")
    except BrokenPipeError:  # whoever read it has seen enough
        return 1
    return 0 if all(one.is_well for one in findings.nodes) else 1


async def _name_server(resolver: Resolver) -> NameServerFinding | None:
    server = resolver.server
    if server is None:
        return None
    return NameServerFinding(address=server.address, port=server.port, answers=await server.answers())


async def _nodes(config: Config, resolver: Resolver) -> list[Finding]:
    """What is found of each node, all of them asked together as far as there are places."""
    places = asyncio.Semaphore(MOST_AT_ONCE)

    async def one(fetcher: Fetcher, entry: NodeEntry) -> Finding:
        async with places:
            return await _node(fetcher, entry)

    async with fetching(resolver, config.tls.ca) as fetcher, asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(fetcher, entry)) for entry in config.nodes]
    return [task.result() for task in tasks]


async def _node(fetcher: Fetcher, entry: NodeEntry) -> Finding:
    alias = entry.alias or entry.name
    finding = partial(Finding, name=entry.name, alias=alias, kind=entry.kind, host=entry.host, port=entry.port)
    begun = time.monotonic()
    try:
        fetched = await fetcher.report(entry)
    except PollError as error:
        hint = await _better_hint(fetcher, entry, error)
        return finding(
            address=error.address,
            resolution=fetcher.resolver.resolution(entry.host),
            is_well=False,
            fault=Fault(code=error.code, message=error.message, hint=hint),
            seconds=round(time.monotonic() - begun, 3),
        )
    report = fetched.report
    return finding(
        address=fetched.address,
        resolution=fetcher.resolver.resolution(entry.host),
        is_well=report.status == WELL,
        fault=report.error,
        seconds=round(time.monotonic() - begun, 3),
        status=report.status,
        gpus=[gpu.status for gpu in report.gpus],
        gpu_faults=[
            structs.replace(gpu.error, message=f"GPU {gpu.index}: {gpu.error.message}")
            for gpu in report.gpus
            if gpu.error is not None
        ],
        agent_version=report.agent_version,
        driver_version=report.driver_version,
        is_legacy=fetched.is_legacy,
        simulated=report.simulated,
        interval_seconds=report.interval_seconds,
        clock_offset_seconds=_offset(report.sampled_at),
    )


async def _better_hint(fetcher: Fetcher, entry: NodeEntry, error: PollError) -> str | None:
    """What to do about ``error``: where another kind of node is at that place, to say so in the configuration."""
    if error.code not in ("bad_answer", "bad_status") or error.address is None:
        return error.hint
    found = await fetcher.kind(entry, error.address)
    if found is None:
        return error.hint
    return hint_for(found) if found != entry.kind else f"{found} is there, at {PLACES[found][1]}: mend nodes[].path."


def _offset(sampled_at: str | None) -> float | None:
    """How far the node's clock is ahead of ours, as far as its newest sample tells."""
    try:
        return round(seconds(sampled_at) - time.time(), 3) if sampled_at else None
    except (ValueError, OverflowError):
        return None
