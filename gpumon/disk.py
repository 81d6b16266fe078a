"""What lies on a disk that may hang, as one of a network does: read by one thread at a time, and waited for so long."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Disk:
    """Work that waits for a disk is done in a thread called ``name``, one after the other.

    None of the event loop's own threads does it: a disk that hangs would take one more of those with every try, and the
    program could not end before they do.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy: asyncio.Future[None] | None = None

    async def ask(self, work: Callable[[], T], seconds: float) -> T:
        """What ``work`` gives; it begins now, or when what was asked before has ended. What it gives later than in
        ``seconds`` goes to nobody.

        Raises:
            TimeoutError: it is not done within ``seconds``.
            RuntimeError: the machine allows no further thread.
            Exception: whatever ``work`` raises.
        """
        outcome: list[Callable[[], T]] = []
        async with asyncio.timeout(seconds):
            while self._busy is not None:
                await asyncio.wait({self._busy})
            loop = asyncio.get_running_loop()
            busy = loop.create_future()

            def done() -> None:
                self._busy = None
                busy.set_result(None)

            def do() -> None:
                try:
                    found = work()
                    outcome.append(lambda: found)
                except BaseException as error:
                    outcome.append(_raising(error))
                try:
                    loop.call_soon_threadsafe(done)
                except RuntimeError:
                    log.debug("%s: done after the end of the program", self._name)

            threading.Thread(target=do, name=self._name, daemon=True).start()
            self._busy = busy
            await asyncio.wait({busy})
        return outcome[0]()


def _raising(error: BaseException) -> Callable[[], Any]:
    def give() -> Any:  # noqa: ANN401  (it gives nothing)
        raise error

    return give
