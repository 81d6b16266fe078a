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
    {"errors", "text", "timestamp", "logs", "refusals", "statefile"},
    {"model", "terminal", "typefaults", "notify", "vitals"},
    {"handshake"},
    {"catalog", "wire", "config"},
    {"problem", "lifecycle", "nameserver", "limits", "certificates"},
    {"pipe", "listening"},
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
        "command",
        "host",
        "boards",
        "loads",
        "zeros",
        "calls",
    },
    {"joining", "scenario", "notes", "trouble", "driver", "tally", "pci", "advice", "aside", "delivery", "setback"},
    {"device", "known", "processes", "child", "simulate", "sampler", "table", "linkstate"},
    {"fieldvalues", "strings", "memory", "events", "presence"},
    {"processlists"},
    {"mig"},
    {"fields"},
    {"gpu"},
    {"nvml", "reader", "link", "server"},
    {"probe", "reload", "standing"},
    {"app"},
]
HUB = [
    {"ring", "destinations", "posture", "xids", "privacy", "proxies"},
    {
        "letters",
        "packing",
        "page",
        "legacy",
        "clock",
        "gaps",
        "outage",
        "admission",
        "claims",
        "waiting",
        "roster",
        "history",
        "sheet",
        "hosts",
        "auth",
    },
    {"activity", "card", "door"},
    {"overview"},
    {"openapi", "member", "mailbox", "findings"},
    {"liveness", "succession", "feed", "agentlink"},
    {"verdict"},
    {"fleet"},
    {"core", "fetch"},
    {"agents", "enrolment", "gate", "login", "ingest", "poller", "live", "api", "past", "plain", "reload", "standing"},
    {"app", "check"},
]
SERVICE = [
    {"place", "machine", "program", "environment", "systemd", "told", "health"},
    {"unit", "reach"},
    {"installing", "state"},
]
READ_BY_THE_CHILD_ALONE = {"nvml", "calls", "fields", "fieldvalues", "strings", "memory"}
READ_BY_THE_CHILD_ALONE |= {"events", "processlists", "mig"}
UNORDERED = {"", "agent", "hub", "service", "gpumon", "__main__", "cli", "commands", "admin", "settings"}
UNORDERED |= {"options", "demo"}
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
    modules = {module_of(file) for file in FILES} - {"gpumon", "gpumon.agent", "gpumon.hub", "gpumon.service"}
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
    order = {"agent": AGENT, "hub": HUB, "service": SERVICE, "": SHARED}.get(side)
    if room in UNORDERED or order is None:
        return
    row = next((place for place, rooms in enumerate(order) if room in rooms), None)
    assert row is not None, f"{module} has no place in the house: give it one in this test and docs/architecture.md"
    shared = set().union(*SHARED) if side else set().union(*SHARED[:row])
    own = set().union(*order[:row]) if side else set()
    allowed = {f"gpumon.{name}" for name in shared} | {f"gpumon.{side}.{name}" for name in own}
    assert rooms_of(path) <= allowed


def test_agent_and_hub_meet_only_in_the_shared_words() -> None:
    for path in FILES:
        module = module_of(path)
        if module.startswith("gpumon.agent"):
            assert not any(room.startswith("gpumon.hub") for room in rooms_of(path)), module
        if module.startswith("gpumon.hub"):
            assert not any(room.startswith("gpumon.agent") for room in rooms_of(path)), module


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("pynvml", {f"agent/{room}.py" for room in READ_BY_THE_CHILD_ALONE}),
        ("uvicorn", {"serve.py"}),
        ("websockets", {"agent/link.py", "agent/setback.py", "serve.py"}),
        ("aiohttp", {"hub/fetch.py"}),
        ("dns", {"nameserver.py", "multicast.py"}),
        ("click", {"cli.py", "commands.py", "admin.py", "service/commands.py", "service/options.py"}),
        ("psutil", set()),
        ("argparse", set()),
    ],
)
def test_a_library_is_known_in_one_place(library: str, files: set[str]) -> None:
    assert files_that_import(library) <= files


def test_starlette_stays_at_the_edges() -> None:
    edges = {"pipe.py", "serve.py", "problem.py", "agent/server.py"}
    rooms = ("app", "agents", "agentlink", "api", "auth", "gate", "ingest", "live", "login", "page", "past", "plain")
    edges |= {f"hub/{room}.py" for room in (*rooms, "proxies")}
    assert files_that_import("starlette") <= edges


def test_only_the_command_line_reads_arguments_and_environment() -> None:
    for path in FILES:
        text = path.read_text().replace("**os.environ", "")  # a child inherits the whole of it, unread
        if path.name not in ("cli.py", "commands.py", "admin.py", "settings.py"):
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
