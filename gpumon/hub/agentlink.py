"""One agent's connection, as the hub keeps it while it lasts."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from starlette.websockets import WebSocket

from gpumon.hub.admission import MESSAGES_PER_SECOND, Allowance
from gpumon.hub.claims import Claimant, RefusedError
from gpumon.hub.member import LinkState
from gpumon.pipe import Pipe, pipe_of
from gpumon.wire import Close

HELLO_SECONDS = 5.0


@dataclass(eq=False, slots=True)
class Link:
    """One agent's connection. ``deadline`` ends it: when there is no hello in time, when :class:`Ingest` says so;
    ``proven``: the agent has shown who it is; ``welcomed``: it speaks for a node.
    """

    websocket: WebSocket
    address: str | None
    claimant: Claimant | None = None
    heard_at: float = 0.0
    deadline: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(HELLO_SECONDS))
    proven: bool = False
    welcomed: bool = False
    replaced: bool = False
    refusal: RefusedError | None = None
    own_fault: Exception | None = None
    end: LinkState = "lost"
    end_words: str = ""
    unacknowledged: int = 0
    acknowledged_at: float = 0.0
    allowance: Allowance = field(default_factory=lambda: Allowance(MESSAGES_PER_SECOND))
    large: int = 0

    @property
    def pipe(self) -> Pipe:
        return pipe_of(self.websocket.scope)

    def why(self) -> RefusedError:
        """Why it was ended before the agent did."""
        if self.replaced:
            return RefusedError(Close.REPLACED, "a newer connection of this agent took over")
        return self.refusal or RefusedError(Close.TOO_SLOW, "nothing was heard in time")

    def refuse(self, error: RefusedError) -> None:
        """End it now, for this reason."""
        self.refusal, self.end, self.end_words = error, "refused", str(error)
        self.expire()

    def expire(self) -> None:
        """End it now."""
        with contextlib.suppress(RuntimeError):  # it is ending by itself
            self.deadline.reschedule(0)
