"""The configuration file: its sections, their bounds, and a reader that tells every fault at once.

The file is that of the program gpumon replaces (``nodes``, ``aggregator``, ``dns``), with keys of our own;
``aggregator`` and ``hub`` are one section under two names. The order of ``nodes`` is the order of the API
and of the page.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from gpumon.errors import ConfigError
from gpumon.model import Kind, NodeName, Tags
from gpumon.typefaults import SECRET, allowed, items, read_json, show, type_faults

DEFAULT_FILE = Path("config.json")
MAX_BYTES = 4 * 1024 * 1024
DEFAULT_AGENT_PORT = 8081
PLACES: Final[Mapping[Kind, tuple[int, str]]] = {
    "gpumon": (DEFAULT_AGENT_PORT, "/gpu-info"),
    "gpustat": (80, "/gpustat.json"),
    "dcgm-exporter": (9400, "/metrics"),
    "nvidia-gpu-exporter": (9835, "/metrics"),
    "nvitop-exporter": (8000, "/metrics"),
}
"""Where each kind of node is asked unless told otherwise: the port that its program listens at, and the path."""

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
HostNames = Annotated[list[Host], Meta(max_length=64, description="a list of at most 64 host names")]
Alias = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]*\Z",
        description="text of at most 256 characters without control characters",
    ),
]
NodeKind = Annotated[Kind, Meta(description=", ".join(f'"{kind}"' for kind in PLACES))]
UrlPath = Annotated[
    str,
    Meta(
        max_length=1024,
        pattern=r"^(?!//)/[!-\"$-~]*\Z",
        description="a path such as /metrics, perhaps with a query: ASCII without spaces and '#'",
    ),
]
Interval = Annotated[float, Meta(ge=0.2, le=60, description="seconds from 0.2 to 60")]
Seconds = Annotated[float, Meta(ge=1, le=3600, description="seconds from 1 to 3600")]
HubUrl = Annotated[str, Meta(min_length=1, max_length=1024, description="a URL such as http://host:8080")]
NameServer = Annotated[
    str, Meta(max_length=64, description="the IP address of a DNS server, with or without a port: 127.0.0.1:5353")
]
Connections = Annotated[int, Meta(ge=10, le=100_000, description="a whole number from 10 to 100000")]
Network = Annotated[str, Meta(max_length=64, description="an IP address or a network, such as 10.0.0.5 or 10.0.1.0/24")]
Folder = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]+\Z", description="the path of a folder")]
Privacy = Annotated[
    Literal["nothing", "names", "users", "commands"],
    Meta(description='"nothing", "names", "users" or "commands"'),
]
FilePath = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]+\Z", description="the path of a file")]
Push = Annotated[Literal["token", "open"], Meta(description='"token" or "open"')]
Viewers = Annotated[Literal["open", "token"], Meta(description='"open" or "token"')]
Flag = Annotated[bool, Meta(description="true or false")]
FINGERPRINT = r"(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}"
Fingerprint = Annotated[
    str,
    Meta(pattern=rf"^{FINGERPRINT}\Z", description="the SHA-256 of a certificate: 64 hexadecimal digits"),
]
Token = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=256,
        pattern=r"^[!-~]+\Z",
        description="8 to 256 letters, digits and signs of ASCII, without spaces",
        extra=SECRET,
    ),
]


class NodeEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node that the hub polls while it does not push. An empty ``alias`` means the name; a ``port`` or ``path`` that
    is not told is that of its ``kind``.

    With ``tls`` it is asked by https; ``fingerprint`` is that of its certificate, where no authority vouches for it.
    ``token`` is its agent's.
    """

    name: NodeName
    host: Host
    port: Port = 0
    alias: Alias = ""
    kind: NodeKind = "gpumon"
    path: UrlPath = ""
    tls: Flag = False
    fingerprint: Fingerprint | None = None
    token: Token | None = None
    tags: Tags = []

    def __post_init__(self) -> None:
        port, path = PLACES[self.kind]
        force_setattr(self, "port", self.port or port)
        force_setattr(self, "path", self.path or path)


class HubSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the hub listens, polls and judges.

    ``hosts`` are names that people call it by, beside those that it knows itself; ``proxies`` those whose
    ``X-Forwarded-For`` is believed. ``connections_per_address`` counts viewers, and agents until they are welcome.
    ``stale_after_seconds`` null means three intervals of the node in question, at least 5 s; ``state_dir`` null the
    user's own folder for state.
    """

    host: Host = "0.0.0.0"
    port: ListenPort = 8080
    hosts: HostNames = []
    proxies: Annotated[list[Network], Meta(max_length=64, description="a list of at most 64 addresses")] = []
    connections_per_address: Connections = 64
    poll_interval_seconds: Interval = 2.0
    stale_after_seconds: Seconds | None = None
    offline_after_seconds: Seconds = 15.0
    state_dir: Folder | None = None


class AuthSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may do what. ``viewers`` "token" means that who looks must log in; ``privacy`` is what those see of processes
    who have not: the names of programs, users as well, or command lines as well; ``push`` "token" means that agents of
    other machines must join, "open" that anybody may report.
    """

    viewers: Viewers = "open"
    privacy: Privacy = "commands"
    push: Push = "token"


class DnsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The DNS server that is asked before the system's resolver, when ``enabled``."""

    server: NameServer = ""
    enabled: Flag = False


class AgentSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agent listens, samples and reports. ``hosts`` are names that people call it by in a browser, beside those
    that it knows itself. ``name`` null means the machine's host name, ``state_dir`` null the user's own folder for
    state. ``join_token_file`` holds what lets it join a hub. With a ``token``, who asks the agent itself must know it.
    """

    host: Host = "0.0.0.0"
    port: ListenPort = DEFAULT_AGENT_PORT
    hosts: HostNames = []
    hub: Annotated[list[HubUrl], Meta(max_length=16, description="a list of at most 16 URLs")] = []
    name: NodeName | None = None
    tags: Tags = []
    interval_seconds: Interval = 1.0
    wake_sleeping_gpus: Flag = False
    state_dir: Folder | None = None
    join_token_file: FilePath | None = None
    token: Token | None = None


class TlsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``certificate`` that hub or agent shows, with its ``key`` (null: in the same file), and the authorities that
    it believes (``ca``; null: those of the machine). All are files in PEM. Without a certificate it speaks plain HTTP.
    """

    certificate: FilePath | None = None
    key: FilePath | None = None
    ca: FilePath | None = None


class MetricsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What hub and agent tell at ``/metrics``: with ``dcgm_names`` under the names of NVIDIA's exporter as well."""

    dcgm_names: Flag = False


class Config(Struct, frozen=True, kw_only=True):
    """A whole configuration. What the file leaves out has its default."""

    nodes: list[NodeEntry] = []
    hub: HubSection = HubSection()
    auth: AuthSection = AuthSection()
    dns: DnsSection = DnsSection()
    agent: AgentSection = AgentSection()
    tls: TlsSection = TlsSection()
    metrics: MetricsSection = MetricsSection()


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    nodes: Annotated[list[NodeEntry], Meta(max_length=10_000, description="a list of at most 10000 nodes")] = []
    hub: HubSection = HubSection()
    aggregator: HubSection = HubSection()
    auth: AuthSection = AuthSection()
    dns: DnsSection = DnsSection()
    agent: AgentSection = AgentSection()
    tls: TlsSection = TlsSection()
    metrics: MetricsSection = MetricsSection()


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
    value, wrong = read_json(data)
    wrong += type_faults(value, _File, "")
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
        tls=file.tls,
        metrics=file.metrics,
    )


def faults(values: dict[str, object], section: type[Struct]) -> list[str]:
    """What is wrong with the ``values`` of one section that come from elsewhere than the file."""
    wrong = list(type_faults(values, section, ""))
    if section is AgentSection:
        urls = items(values, "hub", HubUrl)
        wrong += [
            f"hub[{index}]: {_without_user(url)!r} {fault}" for index, url in urls if (fault := hub_url_fault(url))
        ]
    return wrong


def tls_fault(tls: TlsSection) -> str | None:
    """What is wrong with the section as a whole, or None."""
    return "tls.certificate: missing; it must be given with tls.key" if tls.key and not tls.certificate else None


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
        hub = allowed(value.get(section, {}), HubSection)
        stale, offline = hub.get("stale_after_seconds") or 0, hub.get("offline_after_seconds", inf)
        if stale > offline:
            yield (
                f"{section}.stale_after_seconds: {stale:g} is not allowed; "
                f"allowed: at most {section}.offline_after_seconds, {offline:g}"
            )
        for index, network in items(value.get(section), "proxies", Network):
            if not _is_network(network):
                yield (
                    f"{section}.proxies[{index}]: {show(network)} is not allowed; allowed: an IP address or a "
                    "network, such as 10.0.0.5 or 10.0.1.0/24"
                )
    dns = allowed(value.get("dns", {}), DnsSection)
    server = dns.get("server")
    if server and name_server(server) is None:
        yield (
            f"dns.server: {show(server)} is not allowed; allowed: the IP address of a DNS server, "
            "with or without a port, such as 127.0.0.1:5353 or [::1]:53"
        )
    if dns.get("enabled") and server == "":
        yield "dns.server: missing; it must be given while dns.enabled is true"
    tls = allowed(value.get("tls", {}), TlsSection)
    if fault := tls_fault(TlsSection(**tls)):
        yield fault
    for index, url in items(value.get("agent"), "hub", HubUrl):
        if fault := hub_url_fault(url):
            yield f"agent.hub[{index}]: {show(_without_user(url))} {fault}"


def _node_faults(value: dict[str, object]) -> Iterator[str]:
    nodes = value.get("nodes")
    first: dict[str, int] = {}
    for index, entry in enumerate(nodes if isinstance(nodes, list) else []):
        node = allowed(entry, NodeEntry)
        name, host = node.get("name"), node.get("host")
        if name in first:
            yield (
                f"nodes[{index}].name: {show(name)} is the name of nodes[{first[name]}] already; "
                "allowed: names that differ"
            )
        elif name is not None:
            first[name] = index
        if host is not None and ((":" in host and not _is_address(host)) or not _can_be_host(host)):
            yield (
                f"nodes[{index}].host: {show(host)} is not allowed; allowed: a host name or an IP address "
                "(the port has a key of its own)"
            )
        if node.get("fingerprint") and not node.get("tls"):
            yield f"nodes[{index}].tls: missing; it must be true with nodes[{index}].fingerprint"


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
    rule = (
        "is not allowed; allowed: http://, https://, ws:// or wss://, a host and perhaps a port; "
        "with https:// or wss:// perhaps #sha256= and the fingerprint of its certificate"
    )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https", "ws", "wss") and _can_be_host(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that does not close
        return rule
    is_pin = parts.scheme in ("https", "wss") and re.fullmatch(f"sha256={FINGERPRINT}", parts.fragment)
    has_pin = bool(parts.fragment) or url.endswith("#")
    return None if usable and "@" not in parts.netloc and not parts.query and (is_pin or not has_pin) else rule


def _without_user(url: str) -> str:
    """A URL that is not allowed, to be shown: a password may stand in it."""
    return re.sub(r"//[^/]*@", "//...@", url)


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


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
