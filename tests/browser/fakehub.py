"""A hub that says what a test tells it to: for states of a fleet that a real one reaches only after minutes.

It serves the real page with the real headers. Times are given as ages in seconds.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from time import time
from typing import Any
from urllib.parse import unquote

from gpumon.hub.gate import SECURITY_HEADERS
from gpumon.hub.page import FOLDER, File
from gpumon.timestamp import rfc3339

Json = dict[str, Any]
END = None


def ago(seconds: float) -> str:
    """The moment ``seconds`` ago, as the API writes it."""
    return rfc3339(time() - seconds)


def gpu(index: int = 0, **values: Any) -> Json:
    """A GPU of a report, free unless told otherwise."""
    gib = 2**30
    name, total = values.get("name", "NVIDIA H100 80GB HBM3"), values.get("memory_total_bytes", 80 * gib)
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": name,
        "pci_bus_id": None,
        "status": "ok",
        "error": None,
        "utilization_percent": 0,
        "memory_total_bytes": total,
        "memory_used_bytes": 0,
        "temperature_celsius": 34,
        "power_draw_watts": 70,
        "power_limit_watts": 700,
        "throttle_reasons": [],
        "mig_enabled": False,
        "mig_devices": None,
        "sampled_at": None,
        "processes": [],
        "unavailable": {},
    } | values


def process(pid: int, user: str, gib: float, **values: Any) -> Json:
    """A process that holds ``gib`` GiB of a GPU."""
    return {
        "pid": pid,
        "name": "python",
        "user": user,
        "command": "python train.py",
        "type": "compute",
        "memory_used_bytes": int(gib * 2**30),
        "utilization_percent": None,
        "started_at": ago(7200),
        "container": None,
        "job": None,
    } | values


def node(name: str, *gpus: Json, seen: float = 0.5, **values: Any) -> Json:
    """A node, online unless told otherwise, whose last report came ``seen`` seconds ago."""
    report = {
        "schema": 1,
        "node": name,
        "hostname": f"{name}.lab",
        "agent_version": "0.1.0",
        "boot_id": "b",
        "sequence": 1,
        "sampled_at": ago(seen),
        "interval_seconds": 1,
        "simulated": False,
        "driver_version": "580.95.05",
        "cuda_version": "13.0",
        "nvml_version": "13.580.95.05",
        "status": "ok",
        "error": None,
        "gpus": list(gpus),
    }
    return {
        "name": name,
        "alias": name,
        "tags": [],
        "host": f"{name}.lab",
        "port": 8081,
        "address": "10.0.0.13",
        "configured": True,
        "status": "online",
        "status_since": ago(3600),
        "last_seen_at": ago(seen),
        "source": "push",
        "error": None,
        "clock_offset_seconds": 0.0,
        "agent_id": None,
        "flapping": False,
        "verdict": None,
        "evidence": [],
        "resolution": None,
        "reports_late": 0,
        "reports_lost": 0,
        "report": report,
    } | values


def fault(code: str, message: str, hint: str | None = None) -> Json:
    """A verdict, a notice or an error."""
    return {"code": code, "message": message, "hint": hint}


def evidence(channel: str, code: str, message: str, age: float) -> Json:
    """One piece of evidence."""
    return {"channel": channel, "code": code, "message": message, "at": ago(age)}


class FakeHub:
    """What the hub says now, and who listens."""

    def __init__(self) -> None:
        self.url = ""
        self.nodes: list[Json] = []
        self.notices: list[Json] = []
        self.refused: dict[str, int] = {}
        self.version = "0.1.0"
        self.past: dict[str, dict[str, dict[str, list[float | None]]]] = {}
        """By node, GPU and metric: what is remembered up to now, in spans of 10 s."""
        self.xids: dict[str, list[Json]] = {}
        """By node."""
        self._files = {f"/{one.name}": one for one in _files()}
        self._listeners: list[SimpleQueue[str | None]] = []

    def message(self, kind: str, **values: Any) -> str:
        """A message of ``/api/events``, with the present notices."""
        body = {"type": kind, "sent_at": ago(0), "hub_version": self.version, "notices": self.notices} | values
        return f"event: {kind}\nid: 1\ndata: {json.dumps(body)}\n\n"

    def show(self, *nodes: Json, notices: list[Json] | None = None) -> None:
        """Tell everybody that these, in this order, are the nodes."""
        self.nodes, self.notices = list(nodes), notices or []
        self._tell(self.message("snapshot", nodes=self.nodes))

    def update(self, *nodes: Json, notices: list[Json] | None = None) -> None:
        """Tell everybody that these nodes changed."""
        changed = {one["name"]: one for one in nodes}
        self.nodes = [changed.get(one["name"], one) for one in self.nodes]
        self.notices = self.notices if notices is None else notices
        self._tell(self.message("nodes", nodes=list(nodes)))

    def remove(self, *names: str) -> None:
        """Tell everybody that these nodes are gone."""
        self.nodes = [one for one in self.nodes if one["name"] not in names]
        self._tell(self.message("removed", names=list(names)))

    def end(self) -> None:
        """End every stream."""
        for listener in self._listeners:
            listener.put(END)

    def _tell(self, message: str) -> None:
        for listener in self._listeners:
            listener.put(message)

    def _events(self) -> Iterator[str]:
        listener: SimpleQueue[str | None] = SimpleQueue()
        listener.put(self.message("snapshot", nodes=self.nodes))
        self._listeners.append(listener)
        while True:
            try:
                message = listener.get(timeout=1)
            except Empty:
                message = ": still here\n\n"
            if message is END:
                return
            yield message

    def _remembered(self, name: str | None) -> Json:
        """The past of one node, or of all, as the API tells it."""
        length = max([0, *(len(v) for gpus in self.past.values() for one in gpus.values() for v in one.values())])
        newest = int(time() // 10) * 10
        nodes = {
            node: [
                {"gpu": gpu, "metric": metric, "unit": "", "values": [*[None] * (length - len(values)), *values]}
                for gpu, metrics in gpus.items()
                for metric, values in metrics.items()
            ]
            for node, gpus in self.past.items()
        }
        told = {"step_seconds": 10, "at": [newest - 10 * (length - 1 - one) for one in range(length)]}
        return told | ({"nodes": nodes} if name is None else self._of_one(name, nodes))

    def _of_one(self, name: str, nodes: Json) -> Json:
        return {"node": name, "series": nodes.get(name, []), "xids": self.xids.get(name, [])}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = request.path.partition("?")[0]
        if path == "/api/events":
            _begin(request, "text/event-stream")
            for message in self._events():
                request.wfile.write(message.encode())
        elif path in ("/api/nodes", "/health"):
            _begin(request, "application/json")
            health = {"status": "ok", "notices": self.notices, "refused": self.refused}
            body = self.nodes if path == "/api/nodes" else health
            request.wfile.write(json.dumps(body).encode())
        elif path == "/api/history":
            _begin(request, "application/json")
            request.wfile.write(json.dumps(self._remembered(None)).encode())
        elif path.startswith("/api/nodes/") and path.endswith("/history"):
            _begin(request, "application/json")
            request.wfile.write(json.dumps(self._remembered(unquote(path.split("/")[3]))).encode())
        elif (file := self._files.get("/index.html" if path == "/" else path)) is not None:
            _begin(request, file.media_type)
            request.wfile.write(file.body)
        else:
            request.send_error(404)


def _files() -> list[File]:
    return [File(FOLDER, path) for path in FOLDER.rglob("*") if path.is_file()]


def _begin(request: BaseHTTPRequestHandler, media_type: str) -> None:
    request.send_response(200)
    for name, value in {**SECURITY_HEADERS, "Content-Type": media_type, "Cache-Control": "no-store"}.items():
        request.send_header(name, value)
    request.end_headers()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A fake hub on a free port of this machine."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):  # the page may leave at any moment
                hub.answer(self)

        def log_message(self, format: str, *values: object) -> None:
            del format, values

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="fake hub")
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.end()
        server.shutdown()
        thread.join()
        server.server_close()
