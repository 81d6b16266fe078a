"""The past by REST: ``/api/nodes/{name}/history`` for one node, ``/api/history`` for all at once."""

import asyncio
import math
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gpumon.catalog import METRICS
from gpumon.hub import packing
from gpumon.hub.core import Hub
from gpumon.hub.history import COARSE_BUCKETS, COARSE_SECONDS, FINE_BUCKETS, column, grid, step_for
from gpumon.hub.member import Member
from gpumon.hub.openapi import LAST_MOMENT, MOST_POINTS, Column, FleetPast, Past
from gpumon.hub.ring import FIELDS
from gpumon.timestamp import seconds
from gpumon.wire import encode

UNITS: Final = {metric.field: metric.unit for metric in METRICS}
DEFAULT_SECONDS: Final = 900.0
DEFAULT_POINTS: Final = 180
MOST_VALUES: Final = 1_000_000
MOST_READ: Final = 3_000_000
"""Buckets that an answer is made of: all metrics of the largest node over the day, in a quarter of a second ..."""
READ_AT_ONCE: Final = 20_000
"""... of which others wait for so many."""
COMPRESS_FROM_BYTES: Final = 1024
JSON: Final = "application/json"
PARAMETERS: Final = ("gpu", "metric", "from", "to", "points")


class _Question(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    gpus: list[str]
    metrics: list[str]
    step: int
    width: int
    starts: list[int]
    end: float

    @property
    def at(self) -> list[int]:
        return [start * self.step for start in self.starts]

    def values_of(self, gpus: int) -> int:
        return gpus * len(self.metrics) * len(self.starts)

    def read_of(self, gpus: int) -> int:
        """How many buckets that takes: each of a ring once at most."""
        buckets = COARSE_BUCKETS if self.step == COARSE_SECONDS else FINE_BUCKETS
        return gpus * len(self.metrics) * min(len(self.starts) * self.width, buckets)


class PastApi:
    """Answers questions about what ``hub`` remembers."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.routes = [
            Route("/api/nodes/{name}/history", self.node, methods=["GET"]),
            Route("/api/history", self.fleet, methods=["GET"]),
        ]

    async def node(self, request: Request) -> Response:
        """One node's GPUs."""
        name = request.path_params["name"]
        member = self._hub.fleet.get(name)
        if member is None:
            raise HTTPException(404, f"there is no node {name!r}; /api/nodes lists them")
        question = self._read(request.query_params)
        known = self._hub.history.gpus(member)
        for gpu in question.gpus:
            if gpu not in known:
                raise HTTPException(404, f"gpu: {gpu!r} has no history on node {name!r}; it knows: {_list(known)}")
        _check_size(len(question.gpus or known), question)
        series = await self._series(member, question.gpus or known, question)
        xids = self._hub.history.xids(member, question.at[0], question.end)
        past = Past(
            node=name,
            step_seconds=question.step * question.width,
            at=question.at,
            series=series,
            xids=[one for one in xids if one.gpu in (question.gpus or (one.gpu,))],
        )
        return await _json(past, request)

    async def fleet(self, request: Request) -> Response:
        """The GPUs of every node, or of those that are named, for pages that show many."""
        question = self._read(request.query_params, *PARAMETERS, "node")
        named, wanted = set(request.query_params.getlist("node")), set(question.gpus)
        nodes = {
            member: [gpu for gpu in self._hub.history.gpus(member) if gpu in wanted or not wanted]
            for member in self._hub.fleet
            if not named or member.name in named
        }
        _check_size(sum(map(len, nodes.values())), question)
        told = {}
        for member, gpus in nodes.items():
            told[member.name] = await self._series(member, gpus, question)
            await asyncio.sleep(0)
        past = FleetPast(step_seconds=question.step * question.width, at=question.at, nodes=told)
        return await _json(past, request)

    async def _series(self, node: Member, gpus: Iterable[str], question: _Question) -> list[Column]:
        found = []
        read = 0
        for gpu in gpus:
            ring = self._hub.history.ring(node, gpu, question.step)
            for metric in question.metrics:
                values = list(column(ring, metric, question.width, question.starts))
                found.append(Column(gpu=gpu, metric=metric, unit=UNITS[metric], values=values))
            read += question.read_of(1)
            if read >= READ_AT_ONCE:
                read = 0
                await asyncio.sleep(0)
        return found

    def _read(self, query: QueryParams, *allowed: str) -> _Question:
        allowed = allowed or PARAMETERS
        unknown = query.keys() - set(allowed)
        if unknown:
            raise HTTPException(400, f"{min(unknown)[:60]!r} is no parameter; allowed: {_list(allowed)}")
        now = self._hub.clock.time()
        end = min(_moment(query, "to", now), now)
        start = _moment(query, "from", end - DEFAULT_SECONDS)
        if start > end:
            raise HTTPException(400, f"from: {query.get('from')!r} is later than to; allowed: an earlier moment")
        points = _points(query.get("points", str(DEFAULT_POINTS)))
        step = step_for(start, now)
        width, starts = grid(max(start, now - 86_400), end, step, points)
        return _Question(
            gpus=query.getlist("gpu"), metrics=_metrics(query), step=step, width=width, starts=list(starts), end=end
        )


def _check_size(gpus: int, question: _Question) -> None:
    values = question.values_of(gpus)
    if values > MOST_VALUES:
        raise HTTPException(
            400,
            f"points: {values} values were asked for; allowed: at most {MOST_VALUES}, so fewer points or metrics",
        )
    read = question.read_of(gpus)
    if read > MOST_READ:
        raise HTTPException(
            400,
            f"from: {read} spans of {question.step} s were asked for; allowed: at most {MOST_READ}, so a shorter time, "
            "fewer nodes or metrics",
        )


def _metrics(query: QueryParams) -> list[str]:
    asked = [one for text in query.getlist("metric") for one in text.split(",")]
    for one in asked:
        if one not in FIELDS:
            raise HTTPException(400, f"metric: {one[:60]!r} is not remembered; allowed: {_list(FIELDS)}")
    return list(dict.fromkeys(asked)) or list(FIELDS)


def _points(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= MOST_POINTS:
        raise HTTPException(
            400, f"points: {text[:60]!r} is not allowed; allowed: a whole number from 1 to {MOST_POINTS}"
        )
    return int(text)


def _moment(query: QueryParams, name: str, default: float) -> float:
    """RFC 3339 or seconds since the epoch."""
    text = query.get(name)
    if text is None:
        return default
    try:
        moment = float(text)
    except ValueError:
        try:
            moment = seconds(text.replace(" ", "+"))  # a plus that nobody has escaped
        except (ValueError, OverflowError):
            moment = math.nan
    if not 0 <= moment < LAST_MOMENT:
        raise HTTPException(
            400, f"{name}: {text[:60]!r} is not allowed; allowed: RFC 3339 such as 2026-11-23T14:15:00Z, or seconds"
        )
    return moment


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)[:1000] or "none"


async def _json(value: Struct, request: Request) -> Response:
    """An answer that nobody else gets: one that is large is kept compressed, for its reader may never take it."""
    data, headers = encode(value), {"Vary": "Accept-Encoding"}
    if len(data) < COMPRESS_FROM_BYTES:
        return Response(data, headers=headers, media_type=JSON)
    size, data = len(data), await asyncio.to_thread(packing.body, data)
    if packing.accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(data, headers=headers | {"Content-Encoding": "gzip"}, media_type=JSON)
    pieces = packing.unpacked(data)
    return StreamingResponse(pieces, headers=headers | {"Content-Length": str(size)}, media_type=JSON)
