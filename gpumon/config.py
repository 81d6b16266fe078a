"""The configuration file: its sections, their bounds, and a reader that tells every fault at once.

The file is that of the program gpumon replaces (``nodes``, ``aggregator``, ``dns``), with keys of our own;
``aggregator`` and ``hub`` are one section under two names. The order of ``nodes`` is the order of the API
and of the page.
"""

import contextlib
import difflib
import ipaddress
import json
from collections.abc import Iterator
from math import inf
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from gpumon.errors import ConfigError
from gpumon.model import NodeName, Tags

DEFAULT_FILE = Path("config.json")
MAX_BYTES = 4 * 1024 * 1024
DEFAULT_AGENT_PORT = 8081

Port = Annotated[int, Meta(ge=1, le=65535, description="a whole number from 1 to 65535")]
ListenPort = Annotated[int, Meta(ge=0, le=65535, description="a whole number from 0 (any free port) to 65535")]
Host = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^[^\s/@?#\\\x00-\x1f\x7f\ud800-\udfff]+\Z",
        description="a host name or an IP address, without scheme, port or path",
    ),
]
Alias = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]*\Z",
        description="text of at most 256 characters without control characters",
    ),
]
Interval = Annotated[float, Meta(ge=0.2, le=60, description="seconds from 0.2 to 60")]
Seconds = Annotated[float, Meta(ge=1, le=3600, description="seconds from 1 to 3600")]
HubUrl = Annotated[str, Meta(min_length=1, max_length=1024, description="a URL such as http://host:8080")]
NameServer = Annotated[
    str, Meta(max_length=64, description="the IP address of a DNS server, with or without a port: 127.0.0.1:5353")
]
Folder = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]+\Z", description="the path of a folder")]
FilePath = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]+\Z", description="the path of a file")]
Push = Annotated[Literal["token", "open"], Meta(description='"token" or "open"')]
Viewers = Annotated[Literal["open", "token"], Meta(description='"open" or "token"')]
Flag = Annotated[bool, Meta(description="true or false")]


class NodeEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node that the hub polls while it does not push. An empty ``alias`` means the name."""

    name: NodeName
    host: Host
    port: Port = DEFAULT_AGENT_PORT
    alias: Alias = ""
    tags: Tags = []


class HubSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the hub listens, polls and judges.

    ``hosts`` are names that people call it by, beside those that it knows itself. ``stale_after_seconds`` null means
    three intervals of the node in question, at least 5 s; ``state_dir`` null the user's own folder for state.
    """

    host: Host = "0.0.0.0"
    port: ListenPort = 8080
    hosts: Annotated[list[Host], Meta(max_length=64, description="a list of at most 64 host names")] = []
    poll_interval_seconds: Interval = 2.0
    stale_after_seconds: Seconds | None = None
    offline_after_seconds: Seconds = 15.0
    state_dir: Folder | None = None


class AuthSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may do what. ``viewers`` "token" means that who looks must log in; ``push`` "token" that agents of other
    machines must join, "open" that anybody may report.
    """

    viewers: Viewers = "open"
    push: Push = "token"


class DnsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The DNS server that is asked before the system's resolver, when ``enabled``."""

    server: NameServer = ""
    enabled: Flag = False


class AgentSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agent listens, samples and reports. ``name`` null means the machine's host name, ``state_dir`` null the
    user's own folder for state. ``join_token_file`` holds what lets it join a hub.
    """

    host: Host = "0.0.0.0"
    port: ListenPort = DEFAULT_AGENT_PORT
    hub: Annotated[list[HubUrl], Meta(max_length=16, description="a list of at most 16 URLs")] = []
    name: NodeName | None = None
    tags: Tags = []
    interval_seconds: Interval = 1.0
    wake_sleeping_gpus: Flag = False
    state_dir: Folder | None = None
    join_token_file: FilePath | None = None


class Config(Struct, frozen=True, kw_only=True):
    """A whole configuration. What the file leaves out has its default."""

    nodes: list[NodeEntry] = []
    hub: HubSection = HubSection()
    auth: AuthSection = AuthSection()
    dns: DnsSection = DnsSection()
    agent: AgentSection = AgentSection()


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    nodes: Annotated[list[NodeEntry], Meta(max_length=10_000, description="a list of at most 10000 nodes")] = []
    hub: HubSection = HubSection()
    aggregator: HubSection = HubSection()
    auth: AuthSection = AuthSection()
    dns: DnsSection = DnsSection()
    agent: AgentSection = AgentSection()


def load(path: Path) -> Config:
    """The configuration in the file ``path``.

    Raises:
        ConfigError: the file cannot be read or used; one line a fault, each naming the place, the value
            and what is allowed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(data)} bytes; allowed: at most {MAX_BYTES}")
    try:
        return parse(data)
    except ConfigError as error:
        raise ConfigError(*(f"{path}: {fault}" for fault in error.faults)) from None


def parse(data: bytes) -> Config:
    """The configuration written in ``data`` (JSON, UTF-8). Raises :class:`ConfigError` as :func:`load` does."""
    value, wrong = _read_json(data)
    wrong += _type_faults(value, _File, "")
    wrong += _meaning_faults(value)
    if wrong:
        raise ConfigError(*wrong)
    file = msgspec.convert(value, _File)
    return Config(
        nodes=file.nodes,
        hub=file.aggregator if "aggregator" in value else file.hub,
        auth=file.auth,
        dns=file.dns,
        agent=file.agent,
    )


def faults(values: dict[str, object], section: type[Struct]) -> list[str]:
    """What is wrong with the ``values`` of one section that come from elsewhere than the file."""
    wrong = list(_type_faults(values, section, ""))
    if section is AgentSection:
        urls = _items(values, "hub", HubUrl)
        wrong += [f"hub[{index}]: {url!r} {fault}" for index, url in urls if (fault := hub_url_fault(url))]
    return wrong


def _read_json(data: bytes) -> tuple[Any, list[str]]:
    wrong: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            wrong.extend(f"{_show(key)}: this key stands twice in one object; allowed: once" for key in twice)
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
        raise ConfigError("nested too deeply; allowed: the sections nodes, hub, auth, dns, agent") from None
    except ValueError as error:  # a number of more digits than Python converts
        raise ConfigError(f"not JSON that can be read: {error}") from None


def _type_faults(value: object, kind: Any, path: str) -> Iterator[str]:  # noqa: ANN401  (a type form has no type)
    """What is wrong with ``value``, which should be of type ``kind`` and stands at ``path``."""
    description = None
    most = inf
    while (origin := get_origin(kind)) in (Annotated, Union, UnionType):
        if origin is Annotated:
            kind, *metas = get_args(kind)
            constraints = [meta for meta in metas if isinstance(meta, Meta)]
            description = next((meta.description for meta in constraints if meta.description), description)
            most = next((meta.max_length for meta in constraints if meta.max_length is not None), most)
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
            yield f"{path}: {_show(value)} is not allowed; allowed: {description or 'a list'}"
            return
        if len(value) > most:
            yield f"{path}: {len(value)} are too many; allowed: {description}"
        for index, item in enumerate(value):
            yield from _type_faults(item, get_args(kind)[0], f"{path}[{index}]")
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            yield f"{path}: {_show(value)} is not allowed; allowed: {description or error}"


def _struct_faults(value: object, kind: type[Struct], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path or 'the file'}: {_show(value)} is not allowed; allowed: an object"
        return
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    prefix = f"{path}." if path else ""
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            yield f"{prefix}{_show(key)[1:-1]}: unknown key{meant}; allowed: {', '.join(fields)}"
    for name, field in fields.items():
        if name in value:
            yield from _type_faults(value[name], field.type, f"{prefix}{name}")
        elif field.required:
            yield f"{prefix}{name}: missing; it must be given"


def _meaning_faults(value: object) -> Iterator[str]:
    """What is wrong although each value by itself is allowed. Values that are not allowed are left out: they have been
    told of.
    """
    if not isinstance(value, dict):
        return
    if "hub" in value and "aggregator" in value:
        yield "aggregator: is the older name of hub, which is given as well; allowed: one of the two"
    yield from _node_faults(value)
    for section in ("hub", "aggregator"):
        hub = _allowed(value.get(section, {}), HubSection)
        stale, offline = hub.get("stale_after_seconds") or 0, hub.get("offline_after_seconds", inf)
        if stale > offline:
            yield (
                f"{section}.stale_after_seconds: {stale:g} is not allowed; "
                f"allowed: at most {section}.offline_after_seconds, {offline:g}"
            )
    dns = _allowed(value.get("dns", {}), DnsSection)
    server = dns.get("server")
    if server and name_server(server) is None:
        yield (
            f"dns.server: {_show(server)} is not allowed; allowed: the IP address of a DNS server, "
            "with or without a port, such as 127.0.0.1:5353 or [::1]:53"
        )
    if dns.get("enabled") and server == "":
        yield "dns.server: missing; it must be given while dns.enabled is true"
    for index, url in _items(value.get("agent"), "hub", HubUrl):
        if fault := hub_url_fault(url):
            yield f"agent.hub[{index}]: {_show(url)} {fault}"


def _node_faults(value: dict[str, object]) -> Iterator[str]:
    nodes = value.get("nodes")
    first: dict[str, int] = {}
    for index, entry in enumerate(nodes if isinstance(nodes, list) else []):
        node = _allowed(entry, NodeEntry)
        name, host = node.get("name"), node.get("host")
        if name in first:
            yield (
                f"nodes[{index}].name: {_show(name)} is the name of nodes[{first[name]}] already; "
                "allowed: names that differ"
            )
        elif name is not None:
            first[name] = index
        if host is not None and ((":" in host and not _is_address(host)) or not _can_be_host(host)):
            yield (
                f"nodes[{index}].host: {_show(host)} is not allowed; allowed: a host name or an IP address "
                "(the port has a key of its own)"
            )


def _allowed(value: object, kind: type[Struct]) -> dict[str, Any]:
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


def _items(value: object, key: str, kind: Any) -> Iterator[tuple[int, Any]]:  # noqa: ANN401  (a type form has no type)
    """Those items of the list ``key`` of an object that are allowed, and where they stand."""
    items = value.get(key) if isinstance(value, dict) else None
    for index, item in enumerate(items if isinstance(items, list) else []):
        with contextlib.suppress(msgspec.ValidationError):
            yield index, msgspec.convert(item, kind)


def name_server(text: str) -> tuple[str, int] | None:
    """The address and port that ``text`` (``127.0.0.1``, ``127.0.0.1:5353``, ``[::1]:53``) names, or None."""
    if _is_address(text):
        return text, 53
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _is_address(host) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        return None
    return host, int(port)


def hub_url_fault(url: str) -> str | None:
    """What is wrong with a hub's URL, or None."""
    allowed = "is not allowed; allowed: http://, https://, ws:// or wss://, a host and perhaps a port"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https", "ws", "wss") and _can_be_host(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that does not close
        return allowed
    return None if usable and not parts.username and not parts.query and not parts.fragment else allowed


def _can_be_host(text: str | None) -> bool:
    """Whether ``text`` is an address or could be asked of a DNS server."""
    if not text:
        return False
    try:
        return _is_address(text) or bool(text.encode("idna"))
    except UnicodeError:  # an empty label, or one of more than 63 characters
        return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _show(value: object) -> str:
    """``value`` as JSON on one line, shortened: it may be anybody's text."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    text = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[:61])
    return text if len(text) <= 60 else text[:57] + "..."
