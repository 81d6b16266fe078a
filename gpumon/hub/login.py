"""``/api/login``: the token for a cookie, and the cookie for nothing."""

import asyncio
import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gpumon.hub.auth import CHALLENGE, SESSION_SECONDS, Auth, caller_of
from gpumon.hub.failures import Failures
from gpumon.hub.openapi import Login
from gpumon.pipe import note_refusal
from gpumon.problem import problem
from gpumon.wire import encode

MOST_BYTES: Final = 4096
BODY_SECONDS: Final = 5.0
MOST_FAILURES: Final = 5
JSON: Final = "application/json"


class _Key(Struct, frozen=True):
    token: Annotated[str, Meta(max_length=512)]


class LoginApi:
    """Lets viewers in and out."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._failures = Failures(MOST_FAILURES)
        self.routes = [Route("/api/login", self.login, methods=["GET", "POST", "DELETE"])]

    async def login(self, request: Request) -> Response:
        """How things are; in; out."""
        if request.method == "POST":
            return await self._enter(request)
        if request.method == "DELETE":
            return await self._leave(request)
        caller = caller_of(request.scope)
        answer = Login(viewers=self._auth.settings.viewers, may_look=caller.may_look, logged_in=caller.is_admin)
        return Response(encode(answer), media_type=JSON)

    async def _enter(self, request: Request) -> Response:
        key = await _key(request)
        address = request.client.host if request.client is not None else ""
        now = time.monotonic()
        if wait := self._failures.wait_seconds(address, now):
            seconds = str(int(wait) + 1)
            note_refusal(request.scope, "failed_login", "a login after too many that have failed")
            return problem(429, f"too many logins have failed; again in {seconds} s", {"Retry-After": seconds})
        if not self._auth.is_token(key.token.encode(errors="surrogatepass")):
            self._failures.add(address, now)
            note_refusal(request.scope, "failed_login", "a login with a token that is not this hub's")
            return problem(401, "this is not the token of this hub", CHALLENGE)
        return self._with_cookie(request, await self._auth.open_session(), SESSION_SECONDS)

    async def _leave(self, request: Request) -> Response:
        if (session := caller_of(request.scope).session) is not None:
            await self._auth.end_session(session)
        return self._with_cookie(request, "", 0)

    def _with_cookie(self, request: Request, value: str, seconds: int) -> Response:
        answer = Response(status_code=204)
        is_secure = request.url.scheme == "https"
        answer.set_cookie(self._auth.cookie, value, seconds, secure=is_secure, httponly=True, samesite="strict")
        return answer


async def _key(request: Request) -> _Key:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise HTTPException(415, f'a login is {JSON}: {{"token": "..."}}')
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    raise HTTPException(413, f"a login has at most {MOST_BYTES} bytes", {"Connection": "close"})
    except TimeoutError:
        raise HTTPException(408, f"the login did not come within {BODY_SECONDS:g} s", {"Connection": "close"}) from None
    try:
        return msgspec.json.decode(body, type=_Key)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HTTPException(400, 'a login is one JSON object, {"token": "..."}') from None
