"""Where a service keeps what: the machine's, or one user's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Role = Literal["agent", "hub"]
ROLES: tuple[Role, ...] = get_args(Role)
RUN = (Path("/run/gpumon"), Path("/run/private/gpumon"))
"""systemd deletes a service's own folder in these when it ends, and leaves them."""
PACKAGED = (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
"""Where packages have their units. One of ours counts before it; what it was told was theirs before."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of a service for ``role``. Of the machine's, ``private_state`` is where systemd keeps it for a user
    that exists only while the service runs.
    """

    role: Role
    units: Path
    settings: Path
    state_root: Path
    private_state_root: Path | None = None

    @property
    def is_of_user(self) -> bool:
        return self.private_state_root is None

    @property
    def name(self) -> str:
        return f"gpumon-{self.role}.service"

    @property
    def unit(self) -> Path:
        return self.units / self.name

    @property
    def drop_ins(self) -> Path:
        """What a person has changed by ``systemctl edit``."""
        return self.units / f"{self.name}.d"

    @property
    def wanted(self) -> Path:
        """The link by which it starts at boot, or when its user logs in."""
        return self.units / f"{'default' if self.is_of_user else 'multi-user'}.target.wants" / self.name

    @property
    def environment(self) -> Path:
        """Its settings, its owner's alone since some are secrets."""
        return self.settings / f"{self.role}.env"

    @property
    def config(self) -> Path:
        return self.settings / f"{self.role}.json"

    @property
    def own_folders(self) -> list[Path]:
        """Those that nobody needs when nothing is in them any more, inner ones first."""
        if self.private_state_root is not None:
            others = [self.state_root, self.private_state_root, *RUN]
        else:
            others = [self.units, self.units.parent, self.state_root, self.state_root.parent]
        return [self.settings, self.wanted.parent, *others]

    @property
    def state(self) -> Path:
        return self.state_root / self.role


def of_machine(role: Role) -> Place:
    """A service of the whole machine, started at boot."""
    return Place(
        role,
        units=Path("/etc/systemd/system"),
        settings=Path("/etc/gpumon"),
        state_root=Path("/var/lib/gpumon"),
        private_state_root=Path("/var/lib/private/gpumon"),
    )


def of_user(role: Role, config_home: Path, state_home: Path) -> Place:
    """A service of one user, in the folders of the XDG Base Directory Specification."""
    return Place(
        role,
        units=config_home / "systemd/user",
        settings=config_home / "gpumon",
        # Apart from what an agent or a hub that is started by hand keeps: only one at a time can hold that.
        state_root=state_home / "gpumon/service",
    )
