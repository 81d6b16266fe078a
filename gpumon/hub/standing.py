"""How a hub is, for its service manager."""

from collections import Counter
from typing import get_args

from gpumon.hub.core import Hub
from gpumon.model import NodeStatus
from gpumon.notify import Manager
from gpumon.vitals import OwnDoor, Pulse

MOST_SILENT_SECONDS = 5.0
STATES = get_args(NodeStatus)


async def look_after(manager: Manager, hub: Hub, judged: Pulse, door: OwnDoor) -> None:
    """Tell ``manager`` until cancelled. The hub is well as long as it judges its nodes, and answers."""

    async def trouble() -> str | None:
        if judged.silence_seconds > MOST_SILENT_SECONDS:
            return f"the nodes were not judged for {judged.silence_seconds:.0f} s"
        return await door.trouble()

    def status() -> str:
        states = Counter(member.status for member in hub.fleet)
        told = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
        viewers = sum(len(feed.viewers) for feed in hub.feeds)
        return f"nodes: {told or 'none yet'}; viewers: {viewers}"

    await manager.look_after(trouble, status)
