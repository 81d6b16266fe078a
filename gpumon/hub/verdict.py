"""One sentence on each node that is not well: the most likely cause, and what to do.

Drawn from what both channels show of it (:func:`evidence_of`), by rules that stand in one order: first why a node is
silent, then what is wrong with one that speaks. Sentences hold no ages and no figures that move, so that they stay as
they are while their cause does; the moments stand in the evidence.
"""

import shlex

from msgspec.structs import replace

from gpumon.config import DEFAULT_AGENT_PORT
from gpumon.hub.liveness import is_refused, is_unheard
from gpumon.hub.member import Member
from gpumon.model import Channel, Evidence, Fault, Report
from gpumon.wire import HEARTBEAT_SECONDS

SPEAKS_SECONDS = 1.5 * HEARTBEAT_SECONDS
"""For so long after a sign of life an open link counts as one that speaks."""
NAME_FAULTS = frozenset({"name_unknown", "name_unanswered"})
"""Faults of a poll that got no address to ask."""
STRANGE = frozenset({"bad_answer", "answer_too_long"})
"""Faults of a poll that an agent's answer hardly has, and another program's does."""
UNREACHABLE = frozenset({"no_connection", "unreachable"})
"""Faults of a poll to which no machine answered at all."""

_STEPS = ((86_400.0, "a day"), (3_600.0, "an hour"), (0.0, "a minute"))


def is_well(member: Member) -> bool:
    """Whether nothing needs a word: the node is online, and so are its GPUs, and nobody disputes who it is."""
    report = member.report
    return (
        member.status == "online"
        and (member.link == "open" or member.source == "poll")
        and report is not None
        and report.status == "ok"
        and not member.clock_is_wrong
        and not member.flapping
        and member.claim is None
    )


def verdict_of(member: Member, tick: float, hub_url: str, *, in_outage: bool) -> Fault | None:
    """The most likely cause of what is wrong with ``member`` at ``tick``, or None where nothing is.

    ``hub_url`` is where agents find this hub; ``in_outage``: most other nodes fell silent together with this one.
    """
    if is_well(member):
        return None
    if member.status != "online" or (member.link != "open" and member.source == "push"):
        return _why_silent(member, tick, hub_url, in_outage=in_outage)
    if member.report is not None and member.report.status != "ok":
        return _driver_fault(member.report)
    if member.claim is not None:
        return member.claim
    if member.clock_is_wrong:
        return _clock_fault(member)
    return Fault(
        code="flapping",
        message="It has come and gone again and again of late: its network, its machine or its agent is unstable.",
        hint="Look at its agent's log for why the link ended each time.",
    )


# ---- why a node is silent ----


def _why_silent(member: Member, tick: float, hub_url: str, *, in_outage: bool) -> Fault:
    if in_outage and is_unheard(member):
        return Fault(
            code="mass_silence",
            message="It fell silent together with most other nodes: the hub's side of the network is the likely cause.",
            hint="Check this hub's own network first: its cable, its switch, its firewall.",
        )
    match member.link:
        case "open":
            return _why_link_is_silent(member, tick, hub_url)
        case "goodbye":
            return Fault(
                code="agent_stopped",
                message="Its agent was stopped, and said goodbye.",
                hint=f"Start it there again: {_start(member, hub_url)}",
            )
        case "refused" if not is_refused(member):
            return Fault(
                code="push_refused",
                message=f"This hub refuses its agent's link: {member.link_words}.",
                hint="Its agent tries again by itself; mend what the reason names.",
            )
    return _by_poll(member, hub_url) or _by_link(member, hub_url)


def _why_link_is_silent(member: Member, tick: float, hub_url: str) -> Fault:
    """Of a link that is open, and brings no reports."""
    since_contact = tick - (member.contact_tick or 0.0)
    if since_contact <= SPEAKS_SECONDS:
        if member.report_tick is None:
            return Fault(code="no_report", message="Its agent is connected, and has made no report yet.")
        if member.contact_tick == member.report_tick:
            return _late()
        return _hung(member)
    return _by_poll(member, hub_url) or _by_link(member, hub_url)


def _late() -> Fault:
    """Of a node of which nothing was heard since its last report, and nobody knows yet why."""
    return Fault(code="no_report", message="No report has come from its agent in time.")


def _hung(member: Member) -> Fault:
    if member.report is not None and member.report.status not in ("ok", "degraded"):
        return _driver_fault(member.report)
    return Fault(
        code="no_new_reports",
        message="Its agent answers, but makes no new reports: most likely the NVIDIA driver hangs.",
        hint="Run nvidia-smi there, and look for Xid lines in 'dmesg'. If both are well, restart the agent.",
    )


def _by_poll(member: Member, hub_url: str) -> Fault | None:
    """What asking the node shows, where it shows anything."""
    poll, where = member.poll, f"{member.host} port {member.port}"
    if poll is None:
        return None
    if poll == "answered":
        return _late() if member.contact_tick == member.report_tick else _hung(member)
    if member.kind != "gpumon" and (fault := _by_foreign_poll(member, poll, where)) is not None:
        return fault
    was_there = member.contact_tick is not None
    match poll.code:
        case "refused" if was_there:
            return Fault(
                code="agent_died",
                message=f"Its agent ended without a goodbye: its machine is up, and nobody listens at {where}.",
                hint=f"See why in the agent's log, or in 'dmesg' (out of memory?); start it: {_start(member, hub_url)}",
            )
        case "refused":
            return Fault(
                code="agent_not_running",
                message=f"Its machine is up, but nobody listens at {where}: no agent runs there.",
                hint=f"Start it there: {_start(member, hub_url)} (or mend the port in the configuration).",
            )
        case "no_answer":
            return Fault(
                code="agent_hangs",
                message=f"Somebody listens at {where}, but does not answer: its agent hangs or is suspended.",
                hint="Look at the agent there: is it stopped, or is the machine overloaded? Restart it.",
            )
        case code if code in STRANGE:
            return Fault(
                code="not_an_agent",
                message=f"What answers at {where} is no gpumon agent. {poll.message}"[:1024],
                hint=poll.hint or "Check that the port in the configuration is the agent's.",
            )
        case code if code in UNREACHABLE:
            return Fault(
                code="host_unreachable",
                message=f"Its machine does not answer at {member.address or member.host}: it is off or has crashed, "
                "or the network to it is cut.",
                hint="Check its power and its network, and that no firewall stands between.",
            )
    return poll


def _by_foreign_poll(member: Member, poll: Fault, where: str) -> Fault | None:
    """The same of a node on which another program answers; None where that makes no difference."""
    kind = member.kind
    match poll.code:
        case "refused":
            return Fault(
                code="exporter_not_running",
                message=f"Its machine is up, but nobody listens at {where}: no {kind} runs there.",
                hint=f"Start {kind} there, or mend nodes[].port in the configuration.",
            )
        case "no_answer":
            return Fault(
                code="exporter_hangs",
                message=f"Somebody listens at {where}, but does not answer: {kind} hangs or is suspended.",
                hint="Look at it there: is it stopped, or is the machine overloaded? Restart it.",
            )
        case code if code in STRANGE:
            return Fault(
                code="wrong_kind",
                message=f"What answers at {where} is no {kind}. {poll.message}"[:1024],
                hint=poll.hint or "Check nodes[].kind, port and path in the configuration.",
            )
    return None


def _by_link(member: Member, hub_url: str) -> Fault:
    """Of a node that nobody asks, what its link shows."""
    if member.link == "never":
        return Fault(
            code="never_seen",
            message="It has not been seen since this hub started.",
            hint=f"Start its agent there: {_start(member, hub_url)}",
        )
    if member.link == "lost":
        return Fault(
            code="link_lost",
            message="The link to its agent broke without a goodbye: the agent was killed, its machine went down, or "
            "the network was cut.",
            hint="Check that the machine is up, then its agent's log.",
        )
    return Fault(
        code="link_silent",
        message="Nothing comes from its agent any more, and nobody closed the link: its machine or the network is "
        "gone, or the agent is suspended.",
        hint="Check that the machine is up and reached, then its agent's log.",
    )


def _start(member: Member, hub_url: str) -> str:
    is_its_own = member.kind == "gpumon" and member.port not in (None, DEFAULT_AGENT_PORT)
    port = f" --port {member.port}" if is_its_own else ""
    return f"gpumon agent --hub {hub_url} --name {shlex.quote(member.name)}{port}"[:600]


# ---- what is wrong with a node that speaks ----


def _driver_fault(report: Report) -> Fault:
    """What the agent says of its driver and GPUs."""
    sick = [gpu for gpu in report.gpus if gpu.status != "ok"]
    if report.error is not None:
        return report.error
    if not sick:
        return Fault(code=report.status, message=f"Its agent reports the status {report.status!r}, and no reason.")
    first = sick[0]
    why = first.error or Fault(code=first.status, message=f"It is {first.status}.")
    others = f"{len(sick)} of {len(report.gpus)} GPUs are not well; " if len(sick) > 1 else ""
    return replace(why, message=f"{others}GPU {first.index}: {why.message}"[:1024])


def _clock_fault(member: Member) -> Fault:
    offset = member.clock_offset_seconds or 0.0
    step = next(words for least, words in _STEPS if abs(offset) >= least)
    said = f"Its clock is more than {step} {'ahead of' if offset > 0 else 'behind'} the hub's"
    hint = "Compare 'timedatectl' on both machines: one of them is not synchronised."
    if member.kind != "gpumon" and offset < 0:
        said += f", or {member.kind} has not read its GPUs for so long"
        hint = "Compare 'timedatectl' on both machines, and see whether nvidia-smi works there."
    return Fault(code="clock_wrong", message=f"{said}.", hint=hint)


# ---- evidence ----

_LINK_SAYS = {
    "never": "No agent has connected since this hub started.",
    "open": "Its agent's link is open.",
    "goodbye": "Its agent closed the link and said goodbye.",
    "lost": "Its agent's link broke.",
    "silent": "Nothing was heard on its agent's link, so the hub ended it.",
}


def evidence_of(member: Member, tick: float) -> list[Evidence]:
    """What each channel shows at ``tick`` of a node that is not well, and since when; nothing of one that is."""
    if is_well(member):
        return []
    found = [_of_link(member, tick), _of_poll(member), _of_name(member), _of_driver(member)]
    if member.clock_is_wrong:
        fault = _clock_fault(member)
        found.append(_piece("clock", fault.code, fault.message, member.clock_at, member))
    if member.claim is not None:
        found.append(_piece("claim", member.claim.code, member.claim.message, member.claim_at, member))
    return [piece for piece in found if piece is not None]


def _of_link(member: Member, tick: float) -> Evidence:
    if member.link == "open" and tick - (member.contact_tick or 0.0) > SPEAKS_SECONDS:
        said = "Nothing comes on its agent's link, which is open."
        return _piece("push", "silent", said, member.last_seen_at, member)
    words = f"The hub refused its agent's link: {member.link_words}." if member.link == "refused" else ""
    return _piece("push", member.link, words or _LINK_SAYS[member.link], member.link_at, member)


def _of_poll(member: Member) -> Evidence | None:
    poll = member.poll
    if not member.configured:
        words = "It stands in no configuration, so the hub does not ask it."
        return _piece("poll", "not_configured", words, None, member)
    if poll is None or (isinstance(poll, Fault) and poll.code in NAME_FAULTS):
        return None
    if poll == "answered":
        return _piece("poll", "answered", "It answers when asked.", member.poll_at, member)
    return _piece("poll", poll.code, poll.message, member.poll_at, member)


def _of_name(member: Member) -> Evidence | None:
    poll, resolution = member.poll, member.resolution
    if isinstance(poll, Fault) and poll.code in NAME_FAULTS:
        return _piece("name", poll.code, poll.message, member.poll_at, member)
    if resolution is None:
        return None
    code = "kept" if resolution.is_kept else "resolved"
    addresses = ", ".join(resolution.addresses[:4])
    who = f"says {resolution.server}" if not resolution.is_kept else "as was last known, for nobody answers now"
    return _piece("name", code, f"{resolution.host} is {addresses}, {who}."[:1024], resolution.answered_at, member)


def _of_driver(member: Member) -> Evidence | None:
    if member.report is None or member.report.status == "ok":
        return None
    fault = _driver_fault(member.report)
    return _piece("driver", fault.code, fault.message, member.driver_at, member)


def _piece(channel: Channel, code: str, message: str, at: str | None, member: Member) -> Evidence:
    return Evidence(channel=channel, code=code, message=message, at=at or member.known_since)
