"""The dashboard's files, from memory: what the build of ``web/`` left beside this module."""

import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gpumon.problem import problem

FOLDER = Path(__file__).parent / "page"
KINDS = frozenset({".html", ".js", ".css", ".svg", ".png", ".woff2", ".txt"})
"""What a page is made of; the build leaves notes of its own beside it."""


class File:
    """One file of the page. Names under ``assets/`` carry a hash, so their contents never change."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.body = path.read_bytes()
        self.name = path.relative_to(folder).as_posix()
        self.media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self.headers = {
            "ETag": f'"{hashlib.sha256(self.body).hexdigest()[:16]}"',
            "Cache-Control": "public, max-age=31536000, immutable" if self.name.startswith("assets/") else "no-cache",
        }

    async def __call__(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self.headers["ETag"]:
            return Response(status_code=304, headers=self.headers)
        return Response(self.body, headers=self.headers, media_type=self.media_type)


class Page:
    """All files of the page: a route for each, and :attr:`index` for ``/``; no other path reaches a disk."""

    def __init__(self, folder: Path = FOLDER) -> None:
        files = [File(folder, path) for path in sorted(folder.rglob("*")) if path.suffix in KINDS and path.is_file()]
        index = next((file for file in files if file.name == "index.html"), None)
        self.index: Callable[[Request], Awaitable[Response]] = index.__call__ if index else _not_built
        self.paths = [f"/{file.name}" for file in files]
        self.routes = [Route(f"/{file.name}", file.__call__, methods=["GET"]) for file in files]


async def _not_built(_: Request) -> Response:
    return problem(503, "the page was not built into this installation; 'make web' builds it, /api/nodes works")
