"""Asking one GPU, function by function, without being hurt by what it answers."""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

import time
from collections.abc import Callable, Hashable
from time import perf_counter
from typing import Any

from gpumon.agent.meter import Meter
from gpumon.agent.words import REASONS
from gpumon.model import Process, Reason

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
    return returned(getattr(error, "value", None))  # of the binding's own errors


def returned(code: object) -> UnavailableError:
    """What a return code other than that of success means."""
    if isinstance(code, int):
        return UnavailableError(REASONS.get(code, "error"), code)
    return UnavailableError("error")


def told(function: Callable[..., Any], arguments: Call) -> str:
    """The name of a call, which a function that makes it has for an argument."""
    return next((one for one in arguments if isinstance(one, str)), function.__name__)


class Device:
    """One GPU, or one MIG device. In one pass no function is called twice, and none that is known not to be
    supported: that is remembered for an hour, for as long as this object lives.
    """

    def __init__(self, handle: Any, meter: Meter) -> None:
        self.handle = handle
        self.meter = meter
        self.uuid: str | None = None
        self.name = ""
        self.links: int | None = None  # of NVLink, once it is known
        self.full = True  # whether this pass reads what is slow, too
        self.parts: dict[str, Device] = {}  # MIG devices by UUID
        self.processes: list[Process] = []  # of a MIG device
        self.truncated = 0  # processes that a report has no room for
        self.shares_at = 0  # the newest moment, on the driver's clock, whose processes' shares are known
        self.wanted: dict[Hashable, Any] = {}  # what is left to ask for of a set, while nothing else is refused
        self._mig = False
        self._refused: dict[Hashable, float] = {}
        self._answers: dict[Hashable, Any] = {}

    def end(self) -> None:
        """A pass is over: what was answered in it is forgotten."""
        self._answers.clear()

    @property
    def mig(self) -> bool:
        return self._mig

    @mig.setter
    def mig(self, enabled: bool) -> None:
        """MIG mode decides what else is supported."""
        if enabled != self._mig:
            self._mig = enabled
            self._refused.clear()
            self.wanted.clear()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` tells of this GPU. Raises :class:`UnavailableError`."""
        call = (function, *arguments)
        answers = self._answers
        if call in answers:
            answer = answers[call]
        elif call in self._refused and self.refuses(call):
            raise UnavailableError("unsupported")
        else:
            began = perf_counter()
            try:
                answer = function(self.handle, *arguments)
            except Exception as error:  # the binding raises what it likes: see unavailable()
                answer = unavailable(error)
                if answer.reason == "unsupported":
                    self.refuse(call)
            seconds = perf_counter() - began
            if seconds > self.meter.seconds:
                self.meter.took(told(function, arguments), seconds)
            answers[call] = answer
        if type(answer) is UnavailableError:
            raise unavailable(answer)
        return answer

    def refuse(self, what: Hashable) -> None:
        """The GPU does not support it: it is not asked for it again, for an hour."""
        self._refused[what] = time.monotonic() + ASK_AGAIN_SECONDS
        self.wanted.clear()

    def refuses(self, what: Hashable) -> bool:
        """Whether it is of no use to ask."""
        until = self._refused.get(what)
        return until is not None and time.monotonic() < until

    def first(self, *calls: Call) -> Any:
        """The newest form of a function that this driver has. Raises :class:`UnavailableError`."""
        refused = None
        for call in calls:
            if call in self._refused and self.refuses(call):
                continue
            try:
                return self.ask(*call)
            except UnavailableError as refusal:
                if refusal.reason != "unsupported":
                    raise
                refused = refusal
        raise refused or UnavailableError("unsupported")

    def once(self, derive: Callable[["Device"], Any]) -> Any:
        """What ``derive`` makes of this GPU's answers, made once in a pass. Raises :class:`UnavailableError`."""
        answers = self._answers
        if derive not in answers:
            try:
                answers[derive] = derive(self)
            except Exception as error:  # see unavailable()
                answers[derive] = unavailable(error)
        answer = answers[derive]
        if type(answer) is UnavailableError:
            raise unavailable(answer)
        return answer
