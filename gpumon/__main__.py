"""``python -m gpumon`` is ``gpumon``."""

from gpumon.cli import main

main()
