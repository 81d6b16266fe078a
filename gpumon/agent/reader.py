"""Reads this machine's GPUs through a child process, which the driver may hang or kill.

The agent itself never loads NVIDIA's library. Its life, from top to bottom::

    start a child -> initialised? -> wait for read() -> one pass over the GPUs -> wait ...
         ^               | no              ^                  | hung, died, talked nonsense, no GPU is well
         |               v                 +---- done --------+
         +--- back-off <-+-----------------------------------+

``read()`` waits for the pass while the child makes progress, and no longer: what a silent child does not
tell is reported as last known, with its age and with the name of the GPU that it is silent about. That GPU
becomes a *suspect*: the children to come leave it out, until a child of its own has read it without harm.

A child that has grown, or is a day old, is replaced between two passes. While reading is paused there is none.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Literal, Self

from msgspec.structs import replace

from gpumon.agent.child import Child, ChildError
from gpumon.agent.known import KnownGpus, Seen
from gpumon.agent.pause import LONGEST_SECONDS, Pause
from gpumon.agent.pipe import Doing, Done, FromChild, Pass, Read, Ready, Start
from gpumon.agent.sample import Sample
from gpumon.agent.tally import Tally
from gpumon.agent.trouble import (
    ELSEWHERE,
    EVENTS,
    MAX_UNDEAD,
    PROCESSES,
    Age,
    Deadlines,
    Limits,
    Suspect,
    Trouble,
    where,
)
from gpumon.agent.words import PAUSED, STARTING, WEDGED
from gpumon.model import Fault, Gpu, ReportStatus

log = logging.getLogger(__name__)

Outcome = Literal["driver", "gpus", "child", "recycle"]

MACHINE: Final = Start()
"""This machine, whose sleeping GPUs sleep on."""


class NvmlReader:
    """The GPUs of this machine, for as long as ``async with`` it lasts. See :class:`gpumon.agent.sample.Reader`."""

    simulated = False

    def __init__(
        self, deadlines: Deadlines | None = None, limits: Limits | None = None, start: Start | None = None
    ) -> None:
        self._deadlines = deadlines or Deadlines()
        self._limits = limits or Limits()
        self._begin = start or MACHINE
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        # What is known.
        self._known = KnownGpus(self._deadlines.doubt)
        self._about = Ready()
        self._status: ReportStatus = "ok"  # of the driver as a whole, with the next
        self._error: Fault | None = None
        self._missing: Fault | None = None  # GPUs that the driver should list
        self._suspects: dict[str, Suspect] = {}
        self._undead: list[Child] = []
        self._tally = Tally()
        self._init = self._deadlines.init  # without persistence mode the driver can need more
        # Where the child is.
        self._phase: Literal["idle", "working", "resting"] = "working"
        self._heard_at = 0.0
        self._doing: Doing | None = None
        self._awake = False  # a GPU, since the child began with all of them asleep: a fresh one has to read it
        self._trouble: Trouble | None = None
        self._pause = Pause()
        self._wanted = asyncio.Event()  # read() -> supervisor: begin a pass
        self._told = asyncio.Event()  # supervisor -> read(): there is nothing more to wait for

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._heard_at = self._now()
        self._start(self._supervise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        # The group wraps what it is given, and only its own errors are its business.
        cancelled = error if isinstance(error, asyncio.CancelledError) else None
        await self._tasks.__aexit__(type(cancelled) if cancelled else None, cancelled, trace if cancelled else None)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # ---- the caller's side ----

    async def read(self) -> Sample:
        """One sample, at the latest when the driver has been silent for the soft deadline."""
        self._told.clear()
        self._wanted.set()
        began = self._now()
        await asyncio.sleep(0)  # a caller that asks and asks must not keep the answer from coming
        while not self._told.is_set() and (patience := self._patience(began)) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._told.wait()
        return self._sample()

    def _patience(self, began: float) -> float:
        """For how long it pays to wait: not while there is no child, not for one that is silent."""
        soft = self._deadlines.soft
        match self._phase:
            case "resting":
                return 0.0
            case "idle":
                return began + soft - self._now()
            case "working":
                return min(self._heard_at + soft, began + 1.2 * soft) - self._now()

    def _sample(self) -> Sample:
        trouble = self._trouble
        if trouble is None and self._silence() > 0.9 * self._deadlines.soft:
            trouble = Trouble("timeout", "", self._heard_at, self._where())
        fault = trouble.fault(self._now()) if trouble else None
        gpus = [self._tally.with_xids(self._shown(key, seen, fault), key) for key, seen in self._known.items()]
        gpus.sort(key=lambda gpu: gpu.index)
        status, error = self._status, self._error
        if error is None:
            well = [gpu.status == "ok" for gpu in gpus]
            error = (fault or self._missing) if gpus or fault else STARTING
            status = "ok" if all(well) and error is None else "degraded" if any(well) or error is None else "error"
        return Sample(
            status=status,
            error=error,
            driver_version=self._about.driver_version,
            cuda_version=self._about.cuda_version,
            nvml_version=self._about.nvml_version,
            open_kernel_module=self._about.open_kernel_module,
            gpus=gpus,
            cost=self._tally.cost,
            restarts=dict(self._tally.ended),
        )

    def _shown(self, key: str, seen: Seen, fault: Fault | None) -> Gpu:
        """The GPU as the present state of the child lets it appear."""
        suspect = self._suspects.get(key)
        if suspect is not None and (suspect.held or seen.at < suspect.last):  # not read since
            return replace(seen.gpu, status="unresponsive", error=suspect.fault)
        if seen.gpu.status != "ok":
            return seen.gpu
        if self._error is not None:
            return replace(seen.gpu, status="unresponsive", error=self._error)
        is_read = self._doing is not None and self._doing.index == seen.gpu.index
        if fault is not None and (is_read or self._now() - seen.at > 2 * self._deadlines.soft):
            return replace(seen.gpu, status="unresponsive", error=fault)
        return seen.gpu

    # ---- letting go of the driver ----

    def pause(self, seconds: float = LONGEST_SECONDS) -> None:
        """End the child, so that the driver can be unloaded, and start no other one for so long, or until resume()."""
        self._pause.begin(seconds)
        self._wanted.set()

    def resume(self) -> None:
        self._pause.end()

    def toggle(self) -> None:
        """Pause, or resume."""
        self.resume() if self._pause else self.pause()

    # ---- the life of a child ----

    async def _supervise(self) -> None:
        retry, before = self._deadlines.first_retry, ""
        while True:
            if self._pause:
                self._status, self._error, self._trouble = "error", PAUSED, None
                await self._pause.wait()
            born = self._now()
            outcome = await self._life()
            self._tally.ended[outcome] += 1
            if outcome == "recycle":
                continue
            if outcome != before or self._now() - born > self._deadlines.stable:
                retry, before = self._deadlines.first_retry, outcome
            await asyncio.sleep(min(retry, self._deadlines.driver_retry) if outcome == "driver" else retry)
            retry = min(2 * retry, self._deadlines.last_retry)
            while self._wedged():
                self._status, self._error = "error", WEDGED
                await asyncio.sleep(self._deadlines.last_retry)

    async def _life(self) -> Outcome:
        """From start to end; what it was that brought the end."""
        self._phase, self._heard_at, self._doing = "working", self._now(), Doing(step="init")
        try:
            child = await Child.start(self._begin)
        except OSError as error:
            self._phase = "resting"
            self._trouble = Trouble("spawn", f"cannot be started ({error.strerror})", self._now(), "")
            self._told.set()
            return "child"
        hung = False
        try:
            return await self._converse(child)
        except ChildError as error:
            hung = error.code == "timeout"
            self._blame(error)
            return "child"
        finally:
            self._phase = "resting"
            self._told.set()
            self._tally.count_child()
            await self._end(child, hung=hung)

    async def _converse(self, child: Child) -> Outcome:
        about = await self._until_ready(child)
        if about.error is not None:
            self._know(about)
            return "driver"  # a library that did not start does not get better: only a fresh child helps
        age = Age(self._limits, self._now())
        while True:
            self._phase = "idle"
            await self._wanted.wait()
            self._wanted.clear()
            if self._pause:
                return "recycle"
            self._phase, self._heard_at = "working", self._now()
            well = await self._pass(child)
            self._told.set()
            if self._error is not None:
                return "driver"
            if not well:
                return "gpus"  # as after a reload of the driver under this child
            if self._awake:
                return "recycle"
            if age.is_over(self._tally.resident_bytes, self._now()):
                log.info("the process that reads the GPUs has grown or aged, and is replaced")
                return "recycle"

    async def _until_ready(self, child: Child) -> Ready:
        while True:
            match await self._hear(child, self._init):
                case Ready() as about:
                    self._about, self._init = about, self._deadlines.init
                    return about
                case Read() | Done():
                    raise ChildError("protocol", "talks nonsense")

    async def _pass(self, child: Child) -> bool:
        """Every GPU once. Whether any is well, or all are left out."""
        held = [key for key, suspect in self._suspects.items() if suspect.held]
        child.say(
            Pass(
                skip_indexes=[self._known.index(key) for key in held if key in self._known],
                skip_uuids=held,
                describe_processes=PROCESSES not in held,
                watch_events=EVENTS not in held,
                beats=self._deadlines.beats,
            )
        )
        present = set(held)
        well: list[bool] = []
        while True:
            match await self._hear(child, self._deadlines.hard):
                case Read(gpu=gpu):
                    present.add(self._known.take(gpu, self._now()))
                    well.append(gpu.status == "ok")
                case Doing(uuid=str(key), index=int(index)) if key in held:
                    self._known.renumber(key, index)
                case Done() as done:
                    break
                case Ready():
                    raise ChildError("protocol", "talks nonsense")
        self._know(done)
        self._tally.count(done)
        self._awake, self._missing = done.recycle, done.missing
        if done.status in ("ok", "no_gpus") and not done.recycle:
            self._known.settle(present)
        return any(well) or not well

    async def _hear(self, child: Child, silence: float) -> FromChild:
        message = await child.hear(silence)
        self._heard_at = self._now()
        if isinstance(message, Doing):
            self._doing = message
        return message

    async def _end(self, child: Child, *, hung: bool) -> None:
        close = 0.0 if hung else self._deadlines.close
        await child.end(close=close, terminate=self._deadlines.terminate - close, kill=self._deadlines.kill)
        if not child.ended:
            log.error("a child that reads the GPUs cannot be ended: the driver holds it")
            self._undead.append(child)

    def _wedged(self) -> bool:
        self._undead = [child for child in self._undead if not child.ended]
        return len(self._undead) >= MAX_UNDEAD

    # ---- what is known ----

    def _know(self, told: Ready | Done) -> None:
        """The driver has spoken as a whole: whatever was wrong with the child is over."""
        if told.status != self._status:
            log.info("driver: %s%s", told.status, f": {told.error.message}" if told.error else "")
        self._status, self._error = told.status, told.error
        self._trouble = self._doing = None

    # ---- suspects ----

    def _blame(self, error: ChildError) -> None:
        """Remember what the child was doing when it hung or died, and leave that out from now on."""
        now = self._now()
        self._trouble = trouble = Trouble(error.code, str(error), self._heard_at, self._where())
        happened = trouble.fault(now)
        log.warning("%s", happened.message)
        doing = self._doing
        if doing is None or (doing.index is None and doing.step not in ELSEWHERE):
            if doing is not None and doing.step == "init" and error.code == "timeout":
                self._init = min(2 * self._init, 4 * self._deadlines.init)
            return
        fault = replace(happened, message=f"{happened.message} It is left out, and tried again apart from the others.")
        key = doing.step if doing.step in ELSEWHERE else doing.uuid or self._known.key(doing.index or 0)
        if key not in ELSEWHERE:
            self._known.expect(key, Gpu(index=doing.index or 0, uuid=doing.uuid), fault)
        before = self._suspects.get(key)
        recent = before is not None and now - before.last < self._deadlines.forgive
        offences = before.offences + 1 if before is not None and recent else 1
        self._suspects[key] = Suspect(fault, offences, now)
        if before is None or not before.held:
            self._start(self._clear(key))

    async def _clear(self, key: str) -> None:
        """Let a suspect go once it was read without harm, by a child that serves nothing else."""
        while self._suspects[key].held:
            offences = self._suspects[key].offences
            if key in ELSEWHERE:  # which no child of its own can try: the more often, the longer
                await asyncio.sleep(self._deadlines.quarantine * min(offences, 10))
            else:
                await asyncio.sleep(self._deadlines.quarantine if offences > 1 else self._deadlines.first_retry)
            if key in ELSEWHERE or await self._reads_well(key):
                self._suspects[key].held = False

    async def _reads_well(self, key: str) -> bool:
        if key not in self._known:
            return True  # it has told its UUID since, and is known by that
        if self._wedged() or self._pause:
            return False
        try:
            child = await Child.start(self._begin)
        except OSError:
            return False
        hung = False
        try:
            while not isinstance(message := await child.hear(self._deadlines.init), Ready):
                pass
            if message.error is not None:
                return False
            child.say(Pass(only=self._known.index(key), describe_processes=False))
            while not isinstance(await child.hear(self._deadlines.hard), Done):
                pass
        except ChildError as error:
            hung = error.code == "timeout"
            self._suspects[key].offences += 1
            self._suspects[key].last = self._now()
            return False
        else:
            return True
        finally:
            await self._end(child, hung=hung)

    # ---- words and clock ----

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _silence(self) -> float:
        return self._now() - self._heard_at if self._phase == "working" else 0.0

    def _where(self) -> str:
        doing = self._doing
        return where(doing, self._known.uuid(doing.index) if doing and doing.index is not None else None)
