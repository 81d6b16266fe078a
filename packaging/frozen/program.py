"""What the frozen program runs: gpumon, and the process that reads its GPUs.

The agent starts that process as ``sys.executable -P -m MODULE``. Here the executable is the program itself, so it must
answer to this as an interpreter would. No other module can be run in this way.
"""

import fcntl
import os
import runpy
import sys

READER = ["-P", "-m", "gpumon.agent.nvml"]


def keep_unpacked() -> None:
    """Lock the folders into which the single file has unpacked itself, for as long as this process lives.

    Many systems remove from /tmp what nobody has touched for ten days. By systemd's tmpfiles.d(5), a lock on a folder
    spares it and all in it.
    """
    for folder in {sys.__dict__["_MEIPASS"], os.path.dirname(sys.executable)}:
        fcntl.flock(os.open(folder, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)


def leave_others_their_libraries() -> None:
    """Let programs that are started from here, such as systemctl, load the machine's libraries and not ours."""
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    os.environ.pop("LD_LIBRARY_PATH", None)
    if before is not None:
        os.environ["LD_LIBRARY_PATH"] = before


def find_own_libraries() -> None:
    """Start anew with our own libraries in the path: of a program that unpacks itself only the first process is given
    them, and it has left them to nobody.
    """
    before, own = os.environ.get("LD_LIBRARY_PATH", ""), sys.__dict__["_MEIPASS"]
    if own not in before.split(":"):
        os.environ["LD_LIBRARY_PATH"] = f"{own}:{before}" if before else own
        os.execv(sys.executable, [sys.executable, *READER])


unpacks = "STATICX_PROG_PATH" in os.environ
if unpacks:
    keep_unpacked()

if sys.argv[1:] == READER:
    if unpacks:
        find_own_libraries()
    sys.argv = [READER[-1]]
    runpy.run_module(READER[-1], run_name="__main__", alter_sys=True)
else:
    leave_others_their_libraries()
    from gpumon.cli import main

    # The file that somebody started, not what it has unpacked.
    sys.argv[0] = os.environ.get("STATICX_PROG_PATH", sys.argv[0])
    main()
