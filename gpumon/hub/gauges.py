"""What a hub knows, as metrics for Prometheus: its nodes, what these report, and how it is itself.

The numbers of a node that is not online would be old: of it there is its state, and nothing of its report.
"""

from collections import Counter
from collections.abc import Callable
from typing import get_args

from gpumon import __version__
from gpumon.hub.core import Hub
from gpumon.hub.ingest import Ingest
from gpumon.hub.member import Member
from gpumon.measures import Measures
from gpumon.model import Gpu, NodeStatus
from gpumon.prometheus import Family, counts, labels, lag, single
from gpumon.refusals import REASONS

STATES: tuple[NodeStatus, ...] = get_args(NodeStatus)


class NodeGauges:
    """The nodes of a hub; of their users only if that may be told."""

    def __init__(self, now: float, *, dcgm_names: bool, shows_users: bool) -> None:
        self._now = now
        self._shows_users = shows_users
        self._info = Family("gpumon_node", "A node; the value is always 1.", "info")
        self._tag = Family("gpumon_node_tag", "A tag of a node; the value is always 1.", "info")
        self._up = Family("gpumon_node_up", "1 while the node is online, else 0.")
        self._status = Family("gpumon_node_status", "1 for the state that the node is in, else 0.")
        self._seen = Family("gpumon_node_last_seen_timestamp", "Moment of the last sign of life.", unit="seconds")
        self._clock = Family(
            "gpumon_node_clock_offset", "How far the node's clock is ahead of the hub's.", unit="seconds"
        )
        self._flapping = Family("gpumon_node_flapping", "1 while the node comes and goes, else 0.")
        self._late = Family("gpumon_node_reports_late", "Reports of its agent's run that came late.", "counter")
        self._lost = Family("gpumon_node_reports_lost", "Reports of its agent's run that will never come.", "counter")
        self._measures = Measures(dcgm_names=dcgm_names)

    @property
    def families(self) -> list[Family]:
        """All of them, in order."""
        own = [self._info, self._tag, self._up, self._status, self._seen, self._clock, self._flapping]
        return [*own, self._late, self._lost, *self._measures.families]

    def settle(self) -> None:
        """Put together what was added since the last time."""
        for family in self.families:
            family.settle()

    def add(self, member: Member) -> None:
        """Add a node as it is now."""
        own = labels(node=member.name)
        report = member.report
        self._info.add(
            labels(
                node=member.name,
                alias=member.alias,
                agent_version=(report and report.agent_version) or "",
                driver_version=(report and report.driver_version) or "",
                cuda_version=(report and report.cuda_version) or "",
                simulated="true" if report and report.simulated else "false",
                source=member.source or "",
            ),
            1,
        )
        for tag in member.all_tags:
            self._tag.add(labels(node=member.name, tag=tag), 1)
        self._up.add(own, int(member.status == "online"))
        self._status.add_states(own, "status", member.status, STATES)
        self._seen.add(own, member.seen_wall)
        self._clock.add(own, member.clock_offset_seconds)
        self._flapping.add(own, int(member.flapping))
        self._late.add(own, member.reports_late)
        self._lost.add(own, member.gaps.total)
        if report is not None and member.status == "online":
            self._measures.add(
                member.name, report, shows_users=self._shows_users, idle_seconds=self._idle_seconds(member)
            )

    def _idle_seconds(self, member: Member) -> Callable[[Gpu], float | None]:
        idle = member.activity.idle_moments(member.report)

        def seconds(gpu: Gpu) -> float | None:
            since = idle.get(gpu.key)
            if since is not None:
                return round(max(0.0, self._now - since), 3)
            return None if gpu.utilization_percent is None else 0

        return seconds


def own_health(hub: Hub, ingest: Ingest, took_seconds: float | None) -> list[Family]:
    """How the hub itself is. ``took_seconds`` is what it took to make all this the last time."""
    info = Family("gpumon_hub", "The hub; the value is always 1.", "info")
    info.add(labels(version=__version__), 1)
    nodes = Family("gpumon_hub_nodes", "Nodes in each state.")
    states = Counter(member.status for member in hub.fleet)
    for state in STATES:
        nodes.add(labels(status=state), states[state])
    reports = Family("gpumon_hub_reports", "Reports that came, by how, and what became of them.", "counter")
    for (source, outcome), count in hub.reports.items():
        reports.add(labels(source=source, outcome=outcome), count)
    notices = Family("gpumon_hub_notice", "1 for what is wrong with the hub as a whole.")
    for notice in hub.notices:
        notices.add(labels(code=notice.code), 1)
    blocked = sum(link.pipe.blocked for link in ingest.links.values())
    viewers = [mailbox for feed in hub.feeds for mailbox in feed.viewers]
    return [
        info,
        single("gpumon_hub_agents_connected", "Agents whose link is open.", len(ingest.links)),
        single("gpumon_hub_agents_blocked", "Agents that do not read what the hub says.", blocked),
        nodes,
        reports,
        counts("gpumon_hub_polls", "Polls, by how they went.", "outcome", hub.polls, ("answered", "failed")),
        counts("gpumon_hub_refusals", "What was refused, by reason.", "reason", hub.refusals.counts, REASONS),
        notices,
        single("gpumon_hub_viewers", "Streams that are open.", len(viewers)),
        single(
            "gpumon_hub_viewers_waiting",
            "Streams with something to be told that their viewers have not taken.",
            sum(mailbox.is_waiting for mailbox in viewers),
        ),
        single(
            "gpumon_hub_changes_waiting",
            "Changes of nodes that wait for the next message to viewers.",
            sum(feed.waiting for feed in hub.feeds),
        ),
        single("gpumon_hub_history_series", "GPUs with a past.", len(hub.history)),
        single(
            "gpumon_hub_history_refused_samples",
            "Samples of GPUs for whose past there was no room.",
            hub.history.refused,
            "counter",
        ),
        lag("gpumon_hub_loop_lag", "How late the judge was woken, twice a second or more often.", hub.lag),
        single(
            "gpumon_hub_metrics_duration",
            "Time that it took to make the answer before this one.",
            took_seconds,
            unit="seconds",
        ),
    ]
