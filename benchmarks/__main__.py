"""Every benchmark, one after the other, each in a process of its own: the tables of docs/performance.md.

python -m benchmarks [--long]
"""

import argparse
import subprocess
import sys
from pathlib import Path

LONG = {"ingest", "fanout", "delivery", "rest"}
"""Those that take ``--long``."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--long", action="store_true", help="longer windows and more rounds")
    options = parser.parse_args()
    failed = []
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        command = [sys.executable, "-m", f"benchmarks.{path.stem}"]
        if options.long and path.stem in LONG:
            command.append("--long")
        print("==", *command[1:], flush=True)
        if subprocess.run(command, check=False).returncode:
            failed.append(path.stem)
    if failed:
        print("did not end well:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
