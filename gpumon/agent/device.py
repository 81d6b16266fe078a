"""Asking one GPU, function by function, without being hurt by what it answers."""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

import time
from collections.abc import Callable
from typing import Any

from gpumon.agent.words import REASONS
from gpumon.model import Reason

ASK_AGAIN_SECONDS = 3600.0

Call = tuple[Any, ...]
"""A function that takes a handle, and its further arguments."""


class UnavailableError(Exception):
    """There is no value: the driver's return code, if that is why, and the reason in a report's words."""

    def __init__(self, reason: Reason, code: int | None = None) -> None:
        super().__init__(reason, code)
        self.reason = reason
        self.code = code


def unavailable(error: Exception) -> UnavailableError:
    """Whatever the binding raised, as one thing.

    Not all that it raises are its own errors: a name that is not UTF-8 raises UnicodeDecodeError, a figure
    of all ones TypeError.
    """
    if isinstance(error, UnavailableError):
        return UnavailableError(error.reason, error.code)
    code = getattr(error, "value", None)  # of the binding's own errors
    if isinstance(code, int):
        return UnavailableError(REASONS.get(code, "error"), code)
    return UnavailableError("error")


class Device:
    """One GPU during one pass: no function is called twice, none that is known not to be supported.

    ``refusals`` is that knowledge: until when not to ask again.
    """

    def __init__(self, handle: Any, refusals: dict[Call, float]) -> None:
        self.handle = handle
        self.uuid: str | None = None
        self.mig = False
        self._refusals = refusals
        self._answers: dict[Call, Any] = {}

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` tells of this GPU. Raises :class:`UnavailableError`."""
        call = (function.__name__, *arguments)
        if call not in self._answers:
            self._answers[call] = self._call(function, arguments, (self.uuid, self.mig, *call))
        answer = self._answers[call]
        if isinstance(answer, UnavailableError):
            raise unavailable(answer)
        return answer

    def _call(self, function: Callable[..., Any], arguments: Call, key: Call) -> Any:
        if time.monotonic() < self._refusals.get(key, 0.0):
            return UnavailableError("unsupported")
        try:
            return function(self.handle, *arguments)
        except Exception as error:  # the binding raises what it likes: see unavailable()
            answer = unavailable(error)
        if answer.reason == "unsupported" and self.uuid is not None:
            self._refusals[key] = time.monotonic() + ASK_AGAIN_SECONDS
        return answer

    def first(self, *calls: Call) -> Any:
        """The newest form of a function that this driver has. Raises :class:`UnavailableError`."""
        for call in calls[:-1]:
            try:
                return self.ask(*call)
            except UnavailableError as refusal:
                if refusal.reason != "unsupported":
                    raise
        return self.ask(*calls[-1])
