"""A hub whose time moves when a test says so: its synchronous middle, without sockets."""

import msgspec

from gpumon.config import HubSection, NodeEntry
from gpumon.hub.core import Hub
from gpumon.hub.member import Member
from gpumon.model import Fault, Gpu, Node, Report
from gpumon.timestamp import rfc3339
from tests.hub.clocks import SteppedClock

A = NodeEntry(name="a", host="10.0.0.1", alias="Alpha")
B = NodeEntry(name="b", host="10.0.0.2")


class World:
    """A hub with nodes ``b`` and ``a`` (in that order), and its clock."""

    def __init__(self, settings: HubSection | None = None) -> None:
        self.clock = SteppedClock()
        self.hub = Hub([B, A], settings, self.clock)
        self.sequence = 0

    def member(self, name: str = "a") -> Member:
        return self.hub.fleet.admit(name, None, None)

    def report(self, boot: str = "boot", interval: float = 1.0, ahead: float = 0.0, name: str = "a") -> Report:
        self.sequence += 1
        return Report(
            node=name,
            boot_id=boot,
            sequence=self.sequence,
            interval_seconds=interval,
            sampled_at=rfc3339(self.clock.time() + ahead),
            gpus=[Gpu(index=0, utilization_percent=self.sequence % 100)],
        )

    def push(self, report: Report | None = None, *, late: bool = False, ahead: bool = False) -> None:
        """Let an agent push a report; a link is opened for each new run of it."""
        report = report or self.report()
        member = self.member(report.node)
        if report.boot_id is not None and (report.boot_id != member.pushed_boot_id or member.link != "open"):
            self.hub.link_opened(member, report.boot_id, None)
        self.hub.take_pushed(member, report, late=late, ahead=ahead)

    def poll(self, report: Report | None = None, name: str = "a") -> None:
        self.hub.record(self.member(name), report or self.report(), "poll")

    def node(self, name: str = "a") -> Node:
        self.hub.judge()
        return msgspec.json.decode(self.hub.fleet.encoded(name), type=Node)

    def status_after(self, seconds: float) -> str:
        self.clock.advance(seconds)
        return self.node().status

    def names(self) -> list[str]:
        return [member.name for member in self.hub.fleet]

    def advance(self, seconds: float) -> None:
        """Let time pass, with the judge at work."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.hub.judge()

    def fail(self, code: str, name: str = "a") -> None:
        """Let a poll fail."""
        self.hub.fault(self.member(name), Fault(code=code, message="What the poll says."))
