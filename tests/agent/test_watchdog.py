"""The thread that ends an agent whose link does nothing any longer."""

import os
import signal
import subprocess
import sys
import threading
import time

from gpumon.agent.watchdog import Watchdog

HANGING = """
import asyncio, time
from gpumon.agent.watchdog import Watchdog
async def main():
    watchdog.attempt()
    time.sleep(600)
with Watchdog({patience}) as watchdog:
    print("up", flush=True)
    asyncio.run(main())
"""

LIVING = """
import time
from gpumon.agent.watchdog import Watchdog
with Watchdog({patience}) as watchdog:
    while True:
        watchdog.attempt()
        print("up", flush=True)
        time.sleep({patience} / 20)
"""


def started(code: str, patience: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", code.format(patience=patience)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_a_process_whose_loop_hangs_ends_with_a_status_that_is_no_success() -> None:
    process = started(HANGING, 0.8)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == os.EX_SOFTWARE
    assert "not tried anything" in errors


def test_a_process_whose_log_hangs_ends_too() -> None:
    code = "import logging; logging.getLogger('gpumon.agent.watchdog').critical = lambda *_: time.sleep(600)\n"
    process = started(HANGING.replace("async def", code + "async def"), 0.8)
    process.communicate(timeout=30)
    assert process.returncode == os.EX_SOFTWARE


def test_a_process_that_was_halted_is_forgiven() -> None:
    """Halted for longer than the patience; then it goes on as if nothing had been."""
    process = started(LIVING, 0.8)
    process.send_signal(signal.SIGSTOP)
    time.sleep(2)  # what is tested is time that passes
    process.send_signal(signal.SIGCONT)
    assert process.stdout is not None
    for _ in range(40):  # twice the patience
        assert process.stdout.readline() == "up\n"
    process.kill()
    process.communicate(timeout=30)


def test_a_hang_that_was_halted_is_noticed_all_the_same() -> None:
    process = started(HANGING, 0.8)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)  # as above
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=30)
    assert process.returncode == os.EX_SOFTWARE


def test_who_has_nothing_to_try_is_left_alone() -> None:
    bites: list[bool] = []
    with Watchdog(0.2, lambda: bites.append(True)) as watchdog:
        time.sleep(0.3)
        watchdog.attempt()
        watchdog.rest()
        time.sleep(0.4)
        assert not bites
        bitten = threading.Event()
        watchdog._bite = bitten.set
        watchdog.attempt()
        assert bitten.wait(20)
