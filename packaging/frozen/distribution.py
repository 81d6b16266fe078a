"""Prints which of the distribution's packages the one file has libraries of, and what each says of its licence.

The libraries are named on standard input, a path a line. The folder for Debian has none of them.
"""

import subprocess
import sys
from pathlib import Path


def package_of(library: Path) -> tuple[str, str]:
    """Name and version of the package that ``library`` came with; dpkg may know it without its ``/usr``."""
    names = [library, *([Path("/", library.relative_to("/usr"))] if library.is_relative_to("/usr") else [])]
    for name in names:
        found = subprocess.run(["dpkg", "--search", name], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            package = found.stdout.partition(": ")[0].partition(",")[0]
            shown = ["dpkg-query", "--show", "--showformat=${Version}", package]
            return package, subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    sys.exit(f"no package has {library}: who has made it, and under which licence?")


packages = dict(sorted({package_of(Path(line.strip()).resolve()) for line in sys.stdin if line.strip()}))
print("\nIn the one file, from the distribution that it was made on:\n")
for package, version in packages.items():
    print(f"{package.partition(':')[0]:<20}{version}")
for package in packages:
    name = package.partition(":")[0]
    print(f"\n---- {name}\n\n{Path('/usr/share/doc', name, 'copyright').read_text(encoding='utf-8').strip()}")
