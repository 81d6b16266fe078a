"""Time that moves when a test says so."""


class SteppedClock:
    """Both clocks of a hub; the wall clock may jump by itself."""

    def __init__(self) -> None:
        self.tick = 1000.0
        self.wall = 1_800_000_000.0

    def monotonic(self) -> float:
        return self.tick

    def time(self) -> float:
        return self.wall

    def beat(self) -> float:
        return 0.0

    def advance(self, seconds: float) -> None:
        self.tick += seconds
        self.wall += seconds
