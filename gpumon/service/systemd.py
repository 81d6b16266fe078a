"""The service manager, asked by its own program."""

import os
import pwd
import subprocess
from pathlib import Path

from gpumon.errors import ServiceError
from gpumon.text import one_line

QUICK_SECONDS = 30.0
START_SECONDS = 150.0
"""More than a unit may take until it is started, and its predecessor to stop."""
MOST_SAID = 300
MARK = Path("/run/systemd/system")
"""Made by systemd where it is the first process (``sd_booted(3)``)."""
LINES = 30


def is_booted(mark: Path = MARK) -> bool:
    """Whether systemd runs this machine."""
    return mark.is_dir()


def lingers(folder: Path = Path("/var/lib/systemd/linger")) -> bool:
    """Whether this user's services run while he is not logged in (``loginctl(1)``, ``enable-linger``)."""
    try:
        return (folder / pwd.getpwuid(os.getuid()).pw_name).exists()
    except (KeyError, OSError):
        return False


class Systemd:
    """systemd, of the machine or of the user (``of_user``). What it does not do raises :class:`ServiceError`."""

    def __init__(self, *, of_user: bool) -> None:
        self._whose = ["--user"] if of_user else []

    def check(self) -> None:
        """Find out whether it can be spoken to at all."""
        self._do("show", "--property=Version")

    def reload(self) -> None:
        """Let it read the units again."""
        self._do("daemon-reload")

    def enable(self, name: str) -> None:
        self._do("enable", name)

    def restart(self, name: str) -> None:
        """Start it, anew if it runs, and wait until it says that it is ready."""
        self._do("restart", name, seconds=START_SECONDS)

    def forget(self, name: str) -> None:
        """Stop it and start it at no boot any more."""
        self._do("disable", "--now", name, seconds=START_SECONDS)

    def stop(self, name: str) -> None:
        """Stop it, also where its unit is not there any more."""
        self._do("stop", name, seconds=START_SECONDS)

    def reset_failed(self, name: str) -> None:
        """Let go of how it ended; that there is nothing to let go of is no fault."""
        self._ask("systemctl", "reset-failed", name)

    def show(self, name: str, /) -> dict[str, str]:
        """Its properties."""
        told = self._do("show", name)
        return dict(line.partition("=")[::2] for line in told.splitlines() if "=" in line)

    def last_lines(self, name: str, /) -> list[str]:
        """What it said last, the newest line last; nothing where we may not read the journal."""
        unit = "--user-unit" if self._whose else "--unit"
        done = self._ask("journalctl", unit, name, "--lines", str(LINES), "--output=cat", "--quiet", whose=False)
        return done.stdout.splitlines() if done.returncode == 0 else []

    def _do(self, *words: str, seconds: float = QUICK_SECONDS) -> str:
        done = self._ask("systemctl", *words, seconds=seconds)
        if done.returncode != 0:
            said = one_line(done.stderr, MOST_SAID) or f"status {done.returncode}"
            raise ServiceError(f"{' '.join(['systemctl', *self._whose, *words])}: {said}")
        return done.stdout

    def _ask(
        self, program: str, *words: str, seconds: float = QUICK_SECONDS, whose: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = [program, *(self._whose if whose else []), *words]
        try:
            return subprocess.run(  # noqa: S603  (no shell, and our own words)
                command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise ServiceError(f"{' '.join(command)}: no answer within {seconds:.0f} s") from None
        except OSError as error:
            raise ServiceError(f"{program}: cannot be started: {error.strerror or error}") from None
