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


if "STATICX_PROG_PATH" in os.environ:
    keep_unpacked()

if sys.argv[1:] == READER:
    sys.argv = [READER[-1]]
    runpy.run_module(READER[-1], run_name="__main__", alter_sys=True)
else:
    from gpumon.cli import main

    # The file that somebody started, not what it has unpacked.
    sys.argv[0] = os.environ.get("STATICX_PROG_PATH", sys.argv[0])
    main()
