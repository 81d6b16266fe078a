"""Many nodes that fall silent at once are one event, most likely on the hub's side of the network."""

from gpumon.model import Fault

WINDOW_SECONDS = 15.0
LONGEST_SECONDS = 900.0
"""After so long the hub's side would have been mended: each node's silence has a cause of its own again."""
LEAST_NODES = 5


class Outage:
    """Watches for at least 5 nodes and half of those online falling silent within 15 s, until most are back, or for
    15 minutes.
    """

    def __init__(self) -> None:
        self.notice: Fault | None = None
        """What to tell of the hub as a whole, while it lasts."""
        self._began = 0.0
        self._fell_at: dict[str, float] = {}
        self._struck: set[str] = set()
        self._silent: set[str] = set()

    def fell_silent(self, name: str, tick: float) -> None:
        """Note that a node which was online is heard no more."""
        self._fell_at.pop(name, None)  # so that the order is that of time
        self._fell_at[name] = tick

    def is_heard(self, name: str) -> None:
        """Note that a node is back, or that nobody waits for it any longer."""
        self._fell_at.pop(name, None)
        self._silent.discard(name)

    def holds(self, name: str) -> bool:
        """Whether the silence of this node is part of the event."""
        return name in self._silent

    def judge(self, tick: float, online: int) -> None:
        """Decide whether there is such an event, while ``online`` nodes are online."""
        while self._fell_at and next(iter(self._fell_at.values())) < tick - WINDOW_SECONDS:
            del self._fell_at[next(iter(self._fell_at))]
        fell = len(self._fell_at)
        if not self._struck and fell >= LEAST_NODES and fell >= online:
            self._began = tick
        elif not self._struck:
            return
        if self._fell_at and tick - self._began <= WINDOW_SECONDS:
            self._struck |= self._fell_at.keys()
            self._silent |= self._fell_at.keys()
            self._fell_at.clear()
            self.notice = _notice(len(self._struck), online)
        if len(self._silent) * 2 < len(self._struck) or tick - self._began > LONGEST_SECONDS:
            self._struck, self._silent, self.notice = set(), set(), None


def _notice(struck: int, online: int) -> Fault:
    return Fault(
        code="mass_silence",
        message=f"Hub side suspected: {struck} of {struck + online} nodes fell silent within {WINDOW_SECONDS:g} s.",
        hint="Check this hub's own network first: its cable, its switch, its firewall.",
    )
