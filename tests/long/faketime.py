"""A wall clock that jumps when a script says so, by Debian's libfaketime; the monotonic clock goes on as it is."""

from pathlib import Path

from tests.long.harness import Run

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")


class FakeTime:
    """``environment`` puts a process under it. Where the library is not here, nothing ever jumps."""

    def __init__(self, run: Run) -> None:
        self._file = run.folder / "faketime"
        found = [library for pattern in LIBRARIES for library in Path("/").glob(pattern[1:])]
        self.is_here = bool(found)
        self.environment: dict[str, str] = {}
        if not found:
            run.say("libfaketime is not here (Debian: apt install libfaketime): no clock jumps")
            return
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: float) -> None:
        """From now on the wall shows so much more than it is."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+.0f}s\n")
        fresh.replace(self._file)
