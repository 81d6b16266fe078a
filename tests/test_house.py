"""The rules of the house, read from the source: docs/architecture.md says why."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gpumon"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))

# Shared words first; each may import what stands in a row above its own.
SHARED = [
    {
        "errors",
        "text",
        "timestamp",
        "logs",
        "refusals",
        "statefile",
        "command",
        "hosts",
        "quantities",
        "looplag",
        "sums",
        "disk",
    },
    {"model", "terminal", "typefaults", "prometheus", "notify", "vitals"},
    {"handshake", "availability", "glance"},
    {"catalog", "wire", "config"},
    {"dcgmnames"},
    {"measures"},
    {"problem", "lifecycle", "nameserver", "limits", "certificates"},
    {"pipe", "listening", "securing"},
    {"serve", "multicast", "systemnames"},
    {"resolver"},
]
AGENT = [
    {"machine"},
    {
        "sample",
        "pipe",
        "words",
        "binding",
        "outbox",
        "backoff",
        "dial",
        "identity",
        "watchdog",
        "meter",
        "xid",
        "pause",
        "cgroup",
        "host",
        "boards",
        "loads",
        "zeros",
        "calls",
        "browsers",
        "fitting",
    },
    {"joining", "scenario", "notes", "trouble", "driver", "tally", "pci", "advice", "aside", "delivery", "setback"},
    {"device", "known", "processes", "child", "simulate", "sampler", "table", "linkstate"},
    {"fieldvalues", "strings", "memory", "events", "presence"},
    {"processlists"},
    {"mig"},
    {"fields"},
    {"gpu"},
    {"metrics"},
    {"nvml", "reader", "link", "server"},
    {"probe", "reload", "standing"},
    {"app"},
]
HUB = [
    {"ring", "destinations", "posture", "xids", "privacy", "proxies", "exposition", "secrecy", "foreign"},
    {
        "letters",
        "packing",
        "page",
        "legacy",
        "gpustat",
        "dcgm",
        "smi",
        "nvitop",
        "clock",
        "gaps",
        "outage",
        "admission",
        "claims",
        "waiting",
        "roster",
        "history",
        "sheet",
        "auth",
        "failures",
    },
    {"activity", "card", "door", "kinds"},
    {"overview"},
    {"openapi", "member", "mailbox", "findings"},
    {"liveness", "succession", "feed", "agentlink"},
    {"verdict"},
    {"fleet"},
    {"core", "fetch"},
    {"agents", "enrolment", "gate", "login", "ingest", "poller", "live", "api", "past", "plain", "reload", "standing"},
    {"gauges"},
    {"metrics"},
    {"app", "check"},
]
SERVICE = [
    {"place", "machine", "program", "environment", "systemd", "told", "health"},
    {"unit", "reach"},
    {"installing", "state"},
]
CLIENT = [
    {"choice", "figures", "overview"},
    {"offers", "rows", "stream", "screen"},
    {"controls", "fleet", "picture"},
    {"watch"},
    {"listing"},
    {"find", "top"},
]
READ_BY_THE_CHILD_ALONE = {"nvml", "calls", "fields", "fieldvalues", "strings", "memory"}
READ_BY_THE_CHILD_ALONE |= {"events", "processlists", "mig"}
COMMAND_LINE = {"cli", "commands", "viewing", "admin", "options", "settings", "manual"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "manager", "managers", "base", "misc"}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module that ``path`` imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return frozenset(found)


def rooms_of(path: Path) -> set[str]:
    """The modules of gpumon among them."""
    packages = {"gpumon", "gpumon.agent", "gpumon.client", "gpumon.hub", "gpumon.service"}
    modules = {module_of(file) for file in FILES} - packages
    return set(imports_of(path) & modules) - {module_of(path)}


def files_that_import(library: str) -> set[str]:
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if any(name == library or name.startswith(f"{library}.") for name in imports_of(path))
    }


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path: Path) -> None:
    module = module_of(path)
    side, _, room = module.removeprefix("gpumon.").rpartition(".")
    order = {"agent": AGENT, "client": CLIENT, "hub": HUB, "service": SERVICE, "": SHARED}.get(side)
    if room in ("", "agent", "client", "hub", "service", "gpumon", "__main__", "demo", *COMMAND_LINE) or order is None:
        return
    row = next((place for place, rooms in enumerate(order) if room in rooms), None)
    assert row is not None, f"{module} has no place in the house: give it one in this test and docs/architecture.md"
    shared = set().union(*SHARED) if side else set().union(*SHARED[:row])
    own = set().union(*order[:row]) if side else set()
    allowed = {f"gpumon.{name}" for name in shared} | {f"gpumon.{side}.{name}" for name in own}
    assert rooms_of(path) <= allowed


def test_agent_hub_and_client_meet_only_in_the_shared_words() -> None:
    sides = ("gpumon.agent", "gpumon.hub", "gpumon.client")
    for path in FILES:
        module = module_of(path)
        for side in sides:
            if module.startswith(side):
                others = tuple(other for other in sides if other != side)
                assert not any(room.startswith(others) for room in rooms_of(path)), module


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("pynvml", {f"agent/{room}.py" for room in READ_BY_THE_CHILD_ALONE}),
        ("uvicorn", {"serve.py"}),
        ("websockets", {"agent/link.py", "agent/setback.py", "client/stream.py", "serve.py"}),
        ("prompt_toolkit", {"client/screen.py"}),
        ("aiohttp", {"hub/fetch.py"}),
        ("prometheus_client", {"prometheus.py", "hub/exposition.py"}),
        ("dns", {"nameserver.py", "multicast.py"}),
        ("click", {f"{room}.py" for room in COMMAND_LINE} | {"service/commands.py", "service/options.py"}),
        ("psutil", set()),
        ("argparse", set()),
    ],
)
def test_a_library_is_known_in_one_place(library: str, files: set[str]) -> None:
    assert files_that_import(library) <= files


def test_starlette_stays_at_the_edges() -> None:
    edges = {"pipe.py", "serve.py", "problem.py", "agent/server.py", "agent/browsers.py"}
    rooms = {"app", "agents", "agentlink", "api", "auth", "gate", "ingest", "live", "login", "metrics", "page", "past"}
    rooms |= {"plain", "proxies"}
    edges |= {f"hub/{room}.py" for room in rooms}
    assert files_that_import("starlette") <= edges


def test_only_the_command_line_reads_arguments_and_environment() -> None:
    for path in FILES:
        text = path.read_text().replace("**os.environ", "")  # a child inherits the whole of it, unread
        if path.stem not in COMMAND_LINE:
            assert "os.environ" not in text, path
            assert "os.getenv" not in text, path
            assert "sys.argv" not in text, path


def test_no_module_is_named_after_nothing() -> None:
    assert not {path.stem for path in FILES} & FORBIDDEN_NAMES


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, f"{path.name}: {node.name}"


@pytest.mark.parametrize("role", ["agent", "hub"])
def test_an_agent_or_a_hub_loads_nothing_of_the_terminal(role: str) -> None:
    """Nor does one load the other: each command loads what it needs."""
    other = "hub" if role == "agent" else "agent"
    code = f"import sys, gpumon.cli, gpumon.{role}.app\n"
    code += f"print(*[m for m in sys.modules if m.startswith(('gpumon.client', 'gpumon.{other}', 'prompt_toolkit'))])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_tasks_are_owned_by_a_group() -> None:
    for path in FILES:
        for name in ("asyncio.create_task(", "asyncio.ensure_future(", "asyncio.gather("):
            assert name not in path.read_text(), path


def test_importing_does_no_work() -> None:
    """Every module can be imported alone, says nothing and starts nothing."""
    modules = [module_of(path) for path in FILES if path.stem not in ("__main__", "nvml")]
    code = f"import importlib, threading\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += "assert threading.active_count() == 1"
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_nothing_is_raised_where_python_3_11_0_would_wrap_it() -> None:
    """What is raised inside ``except*`` comes out in a group on the first Pythons 3.11, and bare on later ones."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.TryStar):
                raised = [
                    inner for handler in node.handlers for inner in ast.walk(handler) if isinstance(inner, ast.Raise)
                ]
                assert not raised, path
