"""HTTP errors as ``application/problem+json`` (RFC 9457), for agent and hub alike."""

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from gpumon.model import Problem
from gpumon.wire import encode

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """The answer that says in words what went wrong."""
    body = encode(Problem(title=HTTPStatus(status).phrase, status=status, detail=detail))
    return Response(body, status, headers=headers, media_type=MEDIA_TYPE)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        allowed = (error.headers or {}).get("Allow")
        detail = (
            f"{request.method} is not possible here; allowed: {allowed}"
            if allowed
            else f"there is nothing at {request.url.path}"
        )
    return problem(error.status_code, detail, dict(error.headers or {}))


async def _failed(_: Request, error: Exception) -> Response:
    return problem(500, f"a fault of gpumon's own ({type(error).__name__}); its log has the details")


class LoggedFaults:
    """Logs what goes wrong in ``app``: the server's own log is silent, for it tells of each lost connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:  # it left before its request was whole, or was refused
            return
        except Exception:
            log.exception("a fault of gpumon's own, answering %s %r", scope["type"], scope.get("path"))
            raise


handlers: dict[type[Exception], ExceptionHandler] = {HTTPException: _refused, Exception: _failed}
"""For Starlette's ``exception_handlers``."""
