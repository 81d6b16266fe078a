"""What an agent knows, as metrics for Prometheus: its GPUs and its machine, and how it is itself.

Imported when it is first asked for: most agents are not.
"""

import gzip
from collections.abc import Iterable, Mapping

from gpumon import __version__
from gpumon.agent.linkstate import LinkState
from gpumon.agent.sampler import Sampler
from gpumon.measures import Measures
from gpumon.prometheus import Family, counts, document, format_for, gzip_accepted, labels, lag, single
from gpumon.refusals import REASONS, Refusals

ENDS = ("driver", "gpus", "child", "recycle")


PACKING_LEVEL = 1


def answer(
    sampler: Sampler, link: LinkState | None, refusals: Refusals, asked: Mapping[str, str], *, dcgm_names: bool
) -> tuple[bytes, dict[str, str]]:
    """The whole text and the headers that tell of it, in the format and coding that the headers ``asked`` want.
    ``link`` is None without a hub.

    Where no sample was made for long, there is nothing of the GPUs: what was known would be old.
    """
    measures = Measures(dcgm_names=dcgm_names)
    newest = sampler.newest
    if newest is not None and sampler.is_current:
        measures.add(sampler.node, newest, shows_users=True)
    form = format_for(asked.get("accept", ""))
    families = [*own_health(sampler, refusals), *link_health(link), *measures.families]
    body = b"".join(document(families, form))
    headers = {"Content-Type": form.content_type, "Vary": "Accept, Accept-Encoding"}
    if gzip_accepted(asked.get("accept-encoding", "")):
        return gzip.compress(body, PACKING_LEVEL), headers | {"Content-Encoding": "gzip"}
    return body, headers


def own_health(sampler: Sampler, refusals: Refusals) -> Iterable[Family]:
    """How the agent itself is."""
    info = Family("gpumon_agent", "The agent; the value is always 1.", "info")
    simulated = "true" if sampler.simulated else "false"
    info.add(labels(node=sampler.node, version=__version__, simulated=simulated), 1)
    yield info
    made = sampler.newest.sequence if sampler.newest is not None else 0
    yield single("gpumon_agent_up", "1 while samples are being made, else 0.", int(sampler.is_current))
    yield single("gpumon_agent_reports", "Reports made since the agent started.", made, "counter")
    yield single("gpumon_agent_overruns", "Samples that took longer than the interval.", sampler.overruns, "counter")
    yield single("gpumon_agent_interval", "Time from one sample to the next.", sampler.interval, unit="seconds")
    if not sampler.simulated:
        why = "Ends of the process that reads the GPUs, by why: no driver, no GPU well, hung or dead, grown or old."
        yield counts("gpumon_agent_reader_restarts", why, "reason", sampler.reader_restarts, ENDS)
    yield counts("gpumon_agent_refusals", "What was refused, by reason.", "reason", refusals.counts, REASONS)
    yield lag("gpumon_agent_loop_lag", "How late the sampler was woken, once an interval.", sampler.lag)


def link_health(link: LinkState | None) -> Iterable[Family]:
    """How its way to a hub is."""
    if link is None:
        return
    yield single("gpumon_agent_link_up", "1 while a hub takes the reports, else 0.", int(link.hub is not None))
    yield single("gpumon_agent_link_reconnects", "Connections after the first.", link.reconnects, "counter")
    outbox = Family("gpumon_agent_outbox_reports", "Reports still to be sent, and sent but not acknowledged.")
    outbox.add(labels(state="waiting"), link.reports_waiting)
    outbox.add(labels(state="unacknowledged"), link.reports_unacknowledged)
    yield outbox
    yield single("gpumon_agent_outbox", "Memory that these reports take.", link.bytes_waiting, unit="bytes")
    yield single("gpumon_agent_dropped_reports", "Reports that no hub will ever get.", link.reports_dropped, "counter")
