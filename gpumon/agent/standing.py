"""How an agent is, for its service manager."""

from gpumon.agent.link import Link
from gpumon.agent.sampler import Sampler
from gpumon.notify import Manager


async def look_after(manager: Manager, sampler: Sampler, link: Link) -> None:
    """Tell ``manager`` until cancelled. The agent is well as long as its beat goes round: a driver that hangs is
    reported, and a hub that is away is waited for, and to start the agent anew would help with neither.
    """

    async def trouble() -> str | None:
        return sampler.overdue()

    def status() -> str:
        return f"{_gpus(sampler)}; {_hub(link)}"

    await manager.look_after(trouble, status)


def _gpus(sampler: Sampler) -> str:
    status, error = sampler.health()
    if error is not None:
        return f"{status}: {error.message.rstrip('.')}"
    count = len(sampler.newest.gpus) if sampler.newest else 0
    return f"{count} {'GPU' if count == 1 else 'GPUs'}{' (simulated)' if sampler.simulated else ''}"


def _hub(link: Link) -> str:
    if not link.hubs:
        return "no hub to report to"
    state = link.state()
    if state.hub is not None:
        return f"connected to {state.hub}"
    return f"not connected to a hub{f': {state.last_error}' if state.last_error else ' yet'}"
