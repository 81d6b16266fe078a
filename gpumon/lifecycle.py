"""From the first line to the exit status: a process that ends when it is told to."""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 4.5
ECHO_SECONDS = 0.5


def run(main: Coroutine[Any, Any, int | None], *, is_answer: bool = False) -> int:
    """Run ``main`` until it returns, or until SIGTERM or SIGINT cancel it; both are a success, unless the exit status
    ``is_answer``: then it is 128 and the signal's number. Returns the exit status.

    A second signal, or a deadline of 4.5 s, ends the process at once, with what it still waits for: a
    service manager must never have to kill us. What comes within half a second of the first is no second signal but
    its echo: a terminal and a service manager signal every process of a program, and one that was started by a
    launcher, as in the single file, is then told by that as well.
    """
    return asyncio.run(_until_signal(main, is_answer=is_answer))


async def _until_signal(main: Coroutine[Any, Any, int | None], *, is_answer: bool) -> int:
    loop = asyncio.get_running_loop()
    status = 0
    async with asyncio.TaskGroup() as group:
        task = group.create_task(main)
        echo_until = 0.0

        def stop(number: int) -> None:
            nonlocal status, echo_until
            if task.cancelling():
                if loop.time() > echo_until:
                    os._exit(status)
                return
            status = 128 + number if is_answer else 0
            log.info("stopping")
            echo_until = loop.time() + ECHO_SECONDS
            # A thread, since the loop itself may be what hangs.
            deadline = threading.Timer(DEADLINE_SECONDS, os._exit, [status])
            deadline.daemon = True
            deadline.start()
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
    return status if task.cancelled() else task.result() or 0


def on_reload(callback: Callable[[], None]) -> None:
    """Call ``callback`` on the event loop at each SIGHUP, which then no longer ends the process."""
    with contextlib.suppress(RuntimeError, ValueError):  # where we are not the program's main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, callback)


def open_many_files() -> None:
    """Let this process open as many files as it may: each connection is one, and the usual limit of 1024 is meant for
    programs that wait by select(2).
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a limit beyond what the system has; it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
