"""What the hub answers: routes, parameters and types, from the schema that it serves (``/openapi.json``)."""

from collections.abc import Iterator
from typing import Any, Final

from gpumon.catalog import METRICS
from gpumon.hub.openapi import document
from reference.pages import plain, table

Schema = dict[str, Any]
UNITS: Final = {
    "percent": "percent",
    "bytes": "bytes",
    "mebibytes": "MiB",
    "celsius": "°C",
    "watts": "W",
    "joules": "J",
    "megahertz": "MHz",
    "seconds": "seconds",
}
MOMENT: Final = "RFC 3339, UTC, milliseconds"
BRIEF: Final = {
    "NodeCard": "Node",
    "ReportCard": "Report",
    "HostCard": "Host",
    "GpuCard": "Gpu",
    "Holder": "Process",
    "XidAt": "Xid",
}
"""Types that tell a part of another one: where they say no more, a field means what it means there."""
EXACT: Final = 2**53
"""The largest whole number that every reader of JSON has exactly; as a bound it says nothing."""


def routes() -> str:
    """One table of all routes, then one of the parameters of each route that has some."""
    paths = document()["paths"]
    rows = [
        [f"`{method.upper()} {path}`", ", ".join(sorted(done["responses"])), done["summary"]]
        for path, item in paths.items()
        for method, done in item.items()
        if method != "parameters"
    ]
    parts = [table(("route", "status", "answer"), rows)]
    for path, item in paths.items():
        if item.get("parameters"):
            parts += [f"### {path}", table(("parameter", "in", "type", "meaning"), map(_parameter, item["parameters"]))]
    return "\n\n".join(parts)


def _parameter(parameter: Schema) -> list[str]:
    return [f"`{parameter['name']}`", parameter["in"], kind_of(parameter["schema"]), parameter["description"]]


def types(kept: dict[tuple[str, str], str]) -> str:
    """A section for each type; ``kept`` has the meanings of fields, by type and field."""
    return "\n\n".join(_type(name, schema, kept) for name, schema in document()["components"]["schemas"].items())


def _type(name: str, schema: Schema, kept: dict[tuple[str, str], str]) -> str:
    rows = []
    for field, kind in schema["properties"].items():
        meaning = _meaning(name, field, kept)
        rows.append([f"`{field}`", kind_of(kind), unit_of(field, kind), meaning])
    return f"### {name}\n\n{plain(schema.get('description'))}\n\n" + table(("field", "type", "unit", "meaning"), rows)


def _meaning(name: str, field: str, kept: dict[tuple[str, str], str]) -> str:
    if name == "Gpu" and field in _HELP:
        return _HELP[field]
    if words := kept.get((name, field)):
        return words
    whole = BRIEF.get(name)
    if whole and field in document()["components"]["schemas"][whole]["properties"]:
        return f"as in [{whole}](#{whole.lower()})"
    return ""


_HELP: Final = {metric.field: metric.help for metric in METRICS}
_UNIT: Final = {metric.field: metric.unit for metric in METRICS if metric.unit not in UNITS}


def unit_of(field: str, kind: Schema) -> str:
    """The unit of a field: that of the catalogue, else what its name ends in."""
    if field in _UNIT:
        return _UNIT[field]
    words = field.removesuffix("_total").split("_")
    if words[-1] in UNITS:
        return UNITS[words[-1]]
    return UNITS["seconds"] if field == "seen_seconds_ago" else "RFC 3339" if _is_moment(kind) else ""


def _is_moment(kind: Schema) -> bool:
    return any(one.get("description") == MOMENT for one in [kind, *kind.get("anyOf", [])])


def kind_of(kind: Schema) -> str:
    """A type of JSON Schema in words."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in kind:
        kinds = [kind_of(one) for one in kind["anyOf"] if one.get("type") != "null"]
        return " or ".join(kinds) + (", or null" if len(kinds) < len(kind["anyOf"]) else "")
    if "enum" in kind:
        return ", ".join(f"`{one}`" for one in kind["enum"])
    match kind.get("type"):
        case "array":
            most = f"at most {kind['maxItems']} " if "maxItems" in kind else ""
            return f"list of {most}{kind_of(kind['items'])}"
        case "object":
            return f"object of {kind_of(kind['additionalProperties'])}"
        case "integer" | "number" as name:
            return " ".join(["whole number" if name == "integer" else "number", *_bounds(kind)])
        case "string":
            return "text" + (f" of at most {kind['maxLength']}" if "maxLength" in kind and not _is_moment(kind) else "")
        case other:
            return str(other)


def _bounds(kind: Schema) -> Iterator[str]:
    least, most = kind.get("minimum"), kind.get("maximum")
    if least is not None and most not in (None, EXACT):
        yield f"{least} to {most}"
    elif least is not None:
        yield f"from {least}"
