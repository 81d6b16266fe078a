"""What went wrong with a hub, in words for the log, and when that lets the agent come back."""

import ssl
from dataclasses import dataclass
from http import HTTPStatus

import websockets

from gpumon import wire
from gpumon.agent.backoff import Setback
from gpumon.certificates import distrust
from gpumon.errors import CertificateError, JoinError, ResolveError, WireError
from gpumon.text import one_line

MOST_SAID = 300
REFUSING = frozenset({401, 403})
ENDING = frozenset({wire.GOODBYE, wire.Close.GOING_AWAY})
OUR_COMPLAINTS = frozenset({1002, 1003, 1007, 1009})


@dataclass(frozen=True, slots=True)
class Failure:
    """One try that ended. ``kind`` is the same for what a person would call the same."""

    setback: Setback
    kind: str
    text: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a try had come, and how long it may take."""

    name: str
    silence: str
    seconds: float


def failure_of(error: BaseException, stage: Stage, *, was_welcomed: bool) -> Failure | None:
    """What ``error`` means for the link; None if it is a fault of gpumon's own."""
    match error:
        case websockets.ConnectionClosed():
            return _closed(error, was_welcomed=was_welcomed)
        case websockets.InvalidStatus():
            return _refused(error)
        case TimeoutError():
            return Failure(Setback.LOST, f"silent {stage.name}", f"{stage.silence} within {stage.seconds:g} s")
        case JoinError():
            return Failure(Setback.REFUSED, "proof", str(error))
        case ResolveError():
            return Failure(Setback.LOST, "name", _said(error))
        case websockets.InvalidMessage():
            text = f"does not talk as a hub does: {_said(error)}; if it is http:// that we speak, is it https:// there?"
            return Failure(Setback.UNWELCOME, f"nonsense {stage.name}", text)
        case WireError() | websockets.WebSocketException() | UnicodeError():
            return Failure(Setback.UNWELCOME, f"nonsense {stage.name}", f"does not talk as a hub does: {_said(error)}")
        case ssl.SSLError():
            return Failure(Setback.UNWELCOME, "tls", distrust(error))
        case CertificateError():
            return Failure(Setback.UNWELCOME, "tls", f"cannot be trusted: {_said(error)}")
        case OSError():
            setback = Setback.UNWELCOME if stage.name in ("upgrade", "welcome") else Setback.LOST
            return Failure(setback, f"lost {stage.name}", f"cannot be reached: {_said(error)}")
    return None


def _closed(error: websockets.ConnectionClosed, *, was_welcomed: bool) -> Failure:
    if error.rcvd is None:
        if error.sent is not None and error.sent.code in OUR_COMPLAINTS:
            return Failure(Setback.UNWELCOME, "nonsense link", f"does not talk as a hub does: {_said(error)}")
        setback = Setback.LOST if was_welcomed else Setback.UNWELCOME
        return Failure(setback, "lost link", "the connection was lost")
    code = error.rcvd.code
    reason = one_line(error.rcvd.reason, MOST_SAID) or "without a reason"
    if code in wire.SLOW_RETRY and not (was_welcomed and code in wire.REPORT_REFUSED):
        setback = Setback.REFUSED
    else:
        setback = Setback.LOST if code in ENDING else Setback.UNWELCOME
    return Failure(setback, f"closed {code}", f"closed the link: {reason} ({code})")


def _refused(error: websockets.InvalidStatus) -> Failure:
    status = error.response.status_code
    said = one_line((error.response.body or b"")[:MOST_SAID].decode(errors="replace"), MOST_SAID)
    try:
        meaning = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        meaning = str(status)
    hint = _seconds(error.response.headers.get_all("Retry-After")) if status in (429, 503) else None
    return Failure(
        Setback.REFUSED if status in REFUSING else Setback.UNWELCOME,
        f"status {status}",
        f"refused the link with status {meaning}" + (f": {said}" if said else ""),
        hint,
    )


def _seconds(values: list[str]) -> float | None:
    """A ``Retry-After`` in seconds (RFC 9110, section 10.2.3). Dates would need two clocks that agree."""
    text = values[0].strip() if values else ""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _said(error: BaseException) -> str:
    return one_line(str(error), MOST_SAID) or type(error).__name__
