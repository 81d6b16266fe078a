"""What a service answers to who asks for its health."""

import ssl
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

import msgspec
from msgspec import Struct

from gpumon.text import one_line

SECONDS = 5.0
"""For all of an answer, however it trickles in."""
MAX_BYTES = 1024 * 1024
MOST_SAID = 300
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class Complaint(Struct, frozen=True):
    """What is wrong, and what to do about it if that is known."""

    message: str
    hint: str | None = None


class Notice(Struct, frozen=True):
    """What a hub tells everybody who looks."""

    code: str
    message: str
    hint: str | None = None

    def as_complaint(self) -> Complaint:
        return Complaint(self.message, self.hint)


class _Link(Struct, frozen=True):
    hub: str | None = None
    last_error: str | None = None


class Health(Struct, frozen=True):
    """What ``/health`` tells, of an agent or of a hub; ``error`` is of an agent, ``notices`` are of a hub."""

    status: str
    error: Complaint | None = None
    link: _Link | None = None
    notices: list[Notice] = []


class _NowhereElse(urllib.request.HTTPRedirectHandler):
    """Who answers may be another than the service: where he points to, no token goes."""

    def redirect_request(self, *_: object) -> None:
        return None


def ask(host: str, port: int, token: str | None, *, tls: bool) -> Health | Complaint:
    """What the service on ``port`` of this machine answers, or why it does not."""
    address = ANY_ADDRESS.get(host, host)
    shown = f"[{address}]" if ":" in address else address
    url = f"{'https' if tls else 'http'}://{shown}:{port}/health?verbose"
    found: list[Health | Complaint] = []
    # The library bounds each read, not all of them; and who does not answer keeps nobody from ending.
    asking = threading.Thread(target=lambda: found.append(_answer(url, token)), name="health", daemon=True)
    asking.start()
    asking.join(SECONDS)
    return found[0] if found else Complaint(f"{url} does not answer within {SECONDS:g} s")


def _answer(url: str, token: str | None) -> Health | Complaint:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (the scheme is ours)
    context = ssl.create_default_context()
    context.check_hostname = False  # it is our own socket, and the certificate may be for any name
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NowhereElse()
    )
    try:
        try:
            with opener.open(request, timeout=SECONDS) as got:
                body = got.read(MAX_BYTES)
        except urllib.error.HTTPError as error:  # an agent that is not well says so with status 503
            with error:
                body = error.read(MAX_BYTES)
            if error.code != 503:
                return Complaint(f"{url} refuses with status {error.code}")
        return _clean(msgspec.json.decode(body, type=Health))
    except (msgspec.MsgspecError, UnicodeError):
        return Complaint(f"{url} is answered by something that is not gpumon")
    except (OSError, HTTPException) as error:
        reason: Any = getattr(error, "reason", None) or error
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        return Complaint(f"{url} does not answer: {one_line(str(said), MOST_SAID)}")


def _clean(health: Health) -> Health:
    """Somebody else may be what answers there."""
    return Health(
        one_line(health.status, MOST_SAID),
        health.error and _fit(health.error),
        health.link and _Link(_fit_text(health.link.hub), _fit_text(health.link.last_error)),
        [Notice(one.code, one_line(one.message, MOST_SAID), _fit_text(one.hint)) for one in health.notices],
    )


def _fit(complaint: Complaint) -> Complaint:
    return Complaint(one_line(complaint.message, MOST_SAID), _fit_text(complaint.hint))


def _fit_text(text: str | None) -> str | None:
    return None if text is None else one_line(text, MOST_SAID)
