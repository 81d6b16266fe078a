"""What a service is told."""

from dataclasses import dataclass, field
from pathlib import Path

from gpumon.config import Config


@dataclass(slots=True)
class Told:
    """The ``variables`` of a service; the ``config`` file that it is to have, with what stands in it."""

    variables: dict[str, str] = field(default_factory=dict)
    config: Path | None = None
    content: Config | None = None
