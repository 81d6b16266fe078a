"""JSON held against the types that it should have: every fault is found, each with its place and what is allowed.

msgspec stops at the first fault; who writes a configuration wants to know of all.
"""

import contextlib
import difflib
import json
from collections.abc import Iterator
from math import inf
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from gpumon.errors import ConfigError

SECRET = {"secret": True}
"""Marks a type whose values are never shown."""


def read_json(data: bytes) -> tuple[Any, list[str]]:
    """What ``data`` says, and which keys stand twice or numbers are none of JSON's. Raises :class:`ConfigError`."""
    wrong: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            wrong.extend(f"{show(key)}: this key stands twice in one object; allowed: once" for key in twice)
        return result

    def not_a_number(text: str) -> None:
        wrong.append(f"{text}: not a number of JSON; allowed: finite numbers")

    try:
        text = data.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=unique, parse_constant=not_a_number), wrong
    except UnicodeDecodeError as error:
        raise ConfigError(f"byte {error.start}: not UTF-8; allowed: JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise ConfigError("nested too deeply; allowed: the sections nodes, hub, dns, agent, tls") from None
    except ValueError as error:  # a number of more digits than Python converts
        raise ConfigError(f"not JSON that can be read: {error}") from None


def type_faults(value: object, kind: Any, path: str) -> Iterator[str]:  # noqa: ANN401  (a type form has no type)
    """What is wrong with ``value``, which should be of type ``kind`` and stands at ``path``."""
    description = None
    most, is_secret = inf, False
    while (origin := get_origin(kind)) in (Annotated, Union, UnionType):
        if origin is Annotated:
            kind, *metas = get_args(kind)
            constraints = [meta for meta in metas if isinstance(meta, Meta)]
            description = next((meta.description for meta in constraints if meta.description), description)
            most = next((meta.max_length for meta in constraints if meta.max_length is not None), most)
            is_secret = is_secret or any(meta.extra == SECRET for meta in constraints)
            if not (isinstance(kind, type) and issubclass(kind, Struct)) and get_origin(kind) is not list:
                kind = Annotated[(kind, *constraints)] if constraints else kind
                break
        elif value is None:
            return
        else:
            kind = next(arg for arg in get_args(kind) if arg is not NoneType)
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield from _struct_faults(value, kind, path)
    elif get_origin(kind) is list:
        if not isinstance(value, list):
            yield f"{path}: {show(value)} is not allowed; allowed: {description or 'a list'}"
            return
        if len(value) > most:
            yield f"{path}: {len(value)} are too many; allowed: {description}"
        for index, item in enumerate(value):
            yield from type_faults(item, get_args(kind)[0], f"{path}[{index}]")
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            told = "this secret" if is_secret else show(value)
            yield f"{path}: {told} is not allowed; allowed: {description or error}"


def _struct_faults(value: object, kind: type[Struct], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path or 'the file'}: {show(value)} is not allowed; allowed: an object"
        return
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    prefix = f"{path}." if path else ""
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            yield f"{prefix}{show(key)[1:-1]}: unknown key{meant}; allowed: {', '.join(fields)}"
    for name, field in fields.items():
        if name in value:
            yield from type_faults(value[name], field.type, f"{prefix}{name}")
        elif field.required:
            yield f"{prefix}{name}: missing; it must be given"


def allowed(value: object, kind: type[Struct]) -> dict[str, Any]:
    """Those values of an object of ``kind`` that are allowed, defaults among them."""
    found: dict[str, Any] = {}
    if isinstance(value, dict):
        for field in msgspec.structs.fields(kind):
            with contextlib.suppress(msgspec.ValidationError):
                if field.name in value:
                    found[field.name] = msgspec.convert(value[field.name], field.type)
                elif field.default is not msgspec.NODEFAULT:
                    found[field.name] = field.default
    return found


def items(value: object, key: str, kind: Any) -> Iterator[tuple[int, Any]]:  # noqa: ANN401  (a type form has no type)
    """Those items of the list ``key`` of an object that are allowed, and where they stand."""
    found = value.get(key) if isinstance(value, dict) else None
    for index, item in enumerate(found if isinstance(found, list) else []):
        with contextlib.suppress(msgspec.ValidationError):
            yield index, msgspec.convert(item, kind)


def show(value: object) -> str:
    """``value`` as JSON on one line, shortened: it may be anybody's text. An object or a list may hold secrets: it is
    told that it is one.
    """
    if isinstance(value, dict | list) and value:
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False, default=repr)
    text = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[:61])
    return text if len(text) <= 60 else text[:57] + "..."
