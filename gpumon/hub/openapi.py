"""``/openapi.json``: the schema that ``/api`` answers to, made from the types that it is made of."""

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gpumon import __version__
from gpumon.catalog import Metric
from gpumon.glance import NodeCard, Numbers
from gpumon.hub.ring import FIELDS
from gpumon.hub.xids import XidAt
from gpumon.model import Fault, Node, Problem
from gpumon.problem import MEDIA_TYPE

MOST_POINTS: Final = 2000
LAST_MOMENT: Final = 1e11
"""Seconds since the epoch: later ones are no moments of GPUs."""

_DESCRIPTION = (
    "What every GPU is doing now. Null means that the hardware or the driver does not tell; `unavailable` of a "
    "GPU says why. Live: `/api/events` (Server-Sent Events, the event's name is the message's `type`) and "
    "`/api/stream` (WebSocket) carry `snapshot` first, then `nodes` and `removed`."
)


_MOMENT = {
    "anyOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": LAST_MOMENT},
        {"type": "string", "format": "date-time"},
    ]
}
_PAST = [
    {"name": name, "in": "query", "schema": schema, "description": text}
    for name, schema, text in (
        (
            "gpu",
            {"type": "array", "items": {"type": "string"}},
            "UUID of a GPU; may be given again; left out: all",
        ),
        (
            "metric",
            {"type": "array", "items": {"enum": list(FIELDS)}, "minItems": 1},
            "Fields of the catalogue that are `in_history`; may be given again, or with commas between; left out: all",
        ),
        ("from", _MOMENT, "RFC 3339 or seconds since the epoch; left out: 15 minutes before `to`"),
        ("to", _MOMENT, "RFC 3339 or seconds since the epoch; left out: now"),
        (
            "points",
            {"type": "integer", "minimum": 1, "maximum": MOST_POINTS},
            "The most spans that are wanted, 1 to 2000; left out: 180",
        ),
    )
]
_NODES = {
    "name": "node",
    "in": "query",
    "schema": {"type": "array", "items": {"type": "string"}},
    "description": "Name of a node; may be given again; left out: all; one that is not there is left out",
}
_VERBOSE = {
    "name": "verbose",
    "in": "query",
    "allowEmptyValue": True,
    "schema": {"type": "string"},
    "description": "With any value: what was refused as well",
}
_STREAM = [
    {"name": name, "in": "query", "schema": schema, "description": text}
    for name, schema, text in (
        (
            "pace",
            {"type": "number", "minimum": 0, "maximum": 60, "default": 0.25},
            "Least seconds between two messages; rounded up to what the hub offers",
        ),
        ("view", {"enum": ["full", "overview"], "default": "full"}, "Nodes with all that is known, or at a glance"),
        ("full_up_to", {"type": "integer"}, "Begin in full in spite of `view` where there are no more nodes than this"),
        ("node", {"type": "array", "items": {"type": "string"}, "maxItems": 16}, "These nodes only; may be repeated"),
    )
]


_KEY: dict[str, Any] = {
    "type": "object",
    "properties": {"token": {"type": "string", "maxLength": 512}},
    "required": ["token"],
}
_ENTER: dict[str, Any] = {
    "summary": "Log in: a cookie for the token",
    "requestBody": {"required": True, "content": {"application/json": {"schema": _KEY}}},
    "responses": {
        "204": {"description": "In, by the cookie"},
        **{status: {"$ref": "#/components/responses/Problem"} for status in ("400", "401", "408", "413", "415", "429")},
    },
}
_LEAVE: dict[str, Any] = {
    "summary": "Log out",
    "responses": {
        "204": {"description": "Out"},
        **{status: {"$ref": "#/components/responses/Problem"} for status in ("401", "403", "429")},
    },
    "security": [{"token": []}, {"session": []}],
}


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """That the hub lives: all of it that is told to who may not look."""

    status: str = "ok"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """That the hub lives, how many nodes are in which state, and what is wrong with the hub as a whole. ``refused``
    counts by reason what was refused since the start, and is told with ``?verbose``.
    """

    status: str
    hub_version: str
    nodes: dict[str, int]
    viewers: int
    notices: list[Fault]
    refused: dict[str, int] | UnsetType = UNSET


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Whether looking needs a token (``viewers``), whether who asks may look, and whether they showed the token."""

    viewers: str
    may_look: bool
    logged_in: bool


class JoinedAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that has joined. ``state``: ``joined``; ``expected``, for it was admitted and has not come back yet; or
    ``revoked``. ``code`` is shown by the agent as well; ``address`` is where it is connected from, if it is.
    """

    id: str
    node: str
    code: str
    state: Literal["joined", "expected", "revoked"]
    admitted_by: Literal["token", "admin"]
    admitted_at: str
    revoked_at: str | None
    address: str | None


class WaitingAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that would join, as it says itself. ``replaces`` is the id of the one that has its node's name."""

    id: str
    node: str
    code: str
    address: str | None
    first_seen_at: str
    last_seen_at: str
    replaces: str | None


class Agents(msgspec.Struct, frozen=True, kw_only=True):
    """Who may report, and who would. ``push`` is as configured: ``token`` or ``open``."""

    push: Literal["token", "open"]
    joined: list[JoinedAgent]
    waiting: list[WaitingAgent]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What the streams carry: ``snapshot`` (every node) or ``nodes`` (those that changed, newest state); either with
    what is wrong with the hub as a whole.
    """

    type: str
    sent_at: str
    hub_version: str
    notices: list[Fault]
    nodes: list[Node]


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What the streams carry as well: ``removed`` (the names of nodes that are gone)."""

    type: str
    sent_at: str
    hub_version: str
    names: list[str]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What the streams carry with ``?view=overview`` in place of :class:`Message`: numbers of the nodes that changed,
    and the cards of those whose card did. In a card what is null, empty or as usual is left out.
    """

    type: str
    sent_at: str
    hub_version: str
    view: str
    notices: list[Fault]
    cards: list[NodeCard]
    numbers: Numbers


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one GPU, a value for each moment of ``at``; null where nothing is known."""

    gpu: str
    metric: str
    unit: str
    values: list[float | None]


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """``at`` are the moments at which spans of ``step_seconds`` begin, in seconds since the epoch; a value is the
    mean over its span. ``xids`` are the errors that drivers reported in that time.
    """

    node: str
    step_seconds: int
    at: list[int]
    series: list[Column]
    xids: list[XidAt]


class FleetPast(msgspec.Struct, frozen=True, kw_only=True):
    """The same of every node, with one ``at`` for all; ``nodes`` holds their series by name."""

    step_seconds: int
    at: list[int]
    nodes: dict[str, list[Column]]


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    kinds = [Node, list[Node], list[Metric], Health, Life, Login, Message, Overview, Past, FleetPast, Problem, Agents]
    schemas, parts = msgspec.json.schema_components(
        [*kinds, JoinedAgent, Removed], ref_template="#/components/schemas/{name}"
    )
    node, nodes, metrics, health, life, login, message, overview, past, fleet_past, problem, agents, joined, _ = schemas
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "The node's name",
    }
    failure = {"description": "What went wrong, in words", "content": {MEDIA_TYPE: {"schema": problem}}}
    unchanged = {"description": "Nothing has changed since the ETag that was sent along"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "gpumon", "version": __version__, "description": _DESCRIPTION},
        "paths": {
            "/api/nodes": _get("Every node, in order", nodes, more={"304": unchanged}),
            "/api/nodes/{name}": {"parameters": [name]} | _get("One node", node, more={"404": failure}),
            "/api/nodes/{name}/history": {"parameters": [name, *_PAST]}
            | _get("What a node's GPUs did", past, more={"400": failure, "404": failure}),
            "/api/history": {"parameters": [_NODES, *_PAST]}
            | _get("What all GPUs did", fleet_past, more={"400": failure}),
            "/api/catalog": _get("Every metric with its unit", metrics),
            "/api/events": {"parameters": _STREAM}
            | _get(
                "Live, as Server-Sent Events",
                {"anyOf": [message, overview]},
                "text/event-stream",
                {"400": failure, "503": failure},
            ),
            **_administration(agents, joined),
            "/api/login": _get("Whether who asks may look", login) | {"post": _ENTER, "delete": _LEAVE},
            "/health": {"parameters": [_VERBOSE]}
            | _get("Whether the hub lives; to who may not look no more than that", {"anyOf": [health, life]}),
        },
        "components": {
            "schemas": parts,
            "responses": {"Problem": failure},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "gpumon-*", "description": "From a login"},
            },
        },
        "security": [{}, {"token": []}, {"session": []}],
    }


def _administration(agents: dict[str, Any], joined: dict[str, Any]) -> dict[str, Any]:
    """What takes the token in every mode."""
    by_token: dict[str, Any] = {"security": [{"token": []}, {"session": []}]}
    refused = {status: {"$ref": "#/components/responses/Problem"} for status in ("401", "403", "404", "409", "429")}
    admitted = {"description": "It may come in", "content": {"application/json": {"schema": joined}}}
    agent = {
        "name": "agent",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "An agent's code; where it does not wait also its id or its node's name, if that means one",
    }
    found = _get("Who has joined, and who waits", agents)
    return {
        "/api/agents": {"get": found["get"] | by_token},
        "/api/agents/{agent}/admit": {
            "parameters": [agent],
            "post": {"summary": "Let one in that waits, or was revoked", "responses": {"200": admitted, **refused}}
            | by_token,
        },
        "/api/agents/{agent}": {
            "parameters": [agent],
            "delete": {
                "summary": "Show one out that has joined, or turn one away that waits",
                "responses": {"204": {"description": "It may come in no longer"}, **refused},
            }
            | by_token,
        },
    }


def _get(
    summary: str, schema: dict[str, Any], media_type: str = "application/json", more: dict[str, Any] | None = None
) -> dict[str, Any]:
    answer = {"description": summary, "content": {media_type: {"schema": schema}}}
    refused = {status: {"$ref": "#/components/responses/Problem"} for status in ("401", "403", "429")}
    return {"get": {"summary": summary, "responses": {"200": answer, **refused, **(more or {})}}}
