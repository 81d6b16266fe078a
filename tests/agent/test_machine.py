"""The catalogue's rows on the machine around the driver: GPUs that sleep, and GPUs that are missing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpumon.agent.pci import Bus, canonical, information
from gpumon.agent.pipe import EVERY_PASS, Beats, Done, Pass, Start
from gpumon.agent.presence import Presence
from gpumon.agent.reader import NvmlReader
from gpumon.agent.sample import Sample
from gpumon.agent.table import table
from gpumon.agent.words import MEASURED
from gpumon.model import Gpu, Report
from tests import fakenvml
from tests.agent import drivers, talks
from tests.agent.drivers import FAST, children, is_ok, until
from tests.agent.machines import Machine, laptop, of_datacentre
from tests.agent.talks import Talk
from tests.fakenvml import Scenario

EVERYTHING = Pass(beats=EVERY_PASS)
FIRST, SECOND = "0000:01:00.0", "0000:02:00.0"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[talks.Driver]:
    """A driver, and children that are talked to directly."""
    driver = talks.Driver(tmp_path)
    yield driver
    for talk in driver.talks:
        talk.close()


def talk(child: talks.Driver, scenario: Scenario, start: Start) -> Talk:
    scenario.write(child.file)
    child.talks.append(Talk(child.file, child.log, start=start))
    return child.talks[-1]


def calls_of(child: talks.Driver, act: Callable[[], object]) -> list[str]:
    """The functions of the driver that are called while ``act`` runs."""
    before = len(child.calls())
    act()
    return child.calls()[before:]


# ---- row 28: GPUs that sleep ----


def test_row_28_while_all_gpus_sleep_the_driver_is_not_even_initialised(child: talks.Driver, tmp_path: Path) -> None:
    machine = laptop(tmp_path / "machine", gpus=2)
    child.log.touch()
    conversation = talk(child, fakenvml.consumer(), machine.start())
    for _ in range(3):
        done, gpus = conversation.one_pass(EVERYTHING)
        assert (done.error, done.recycle) == (None, False)
        assert [(gpu.index, gpu.asleep, gpu.status, gpu.error) for gpu in gpus] == [
            (0, True, "ok", None),
            (1, True, "ok", None),
        ]
    assert gpus[1].uuid == "GPU-40900000-0000-4000-8000-000000000001"
    assert (gpus[1].name, gpus[1].pci_bus_id) == ("NVIDIA GeForce RTX 4090 Laptop GPU", "00000000:02:00.0")
    assert gpus[1].unavailable == dict.fromkeys(MEASURED, "no_data")
    assert child.calls() == []
    machine.status(FIRST, "active")
    done, gpus = conversation.one_pass(EVERYTHING)
    assert (done.recycle, gpus) == (True, [])
    assert conversation.process.wait(10) == 0


def test_row_28_a_gpu_that_was_never_started_is_told_without_the_uuid_that_nobody_knows(
    child: talks.Driver, tmp_path: Path
) -> None:
    machine = laptop(tmp_path / "machine")
    machine.taken(FIRST, 0)
    child.log.touch()
    _, (gpu,) = talk(child, fakenvml.consumer(1), machine.start()).one_pass()
    assert (gpu.asleep, gpu.uuid, gpu.name, gpu.unavailable["uuid"]) == (True, None, "Board", "no_data")
    machine.remove("proc/driver/nvidia/gpus")
    _, (gpu,) = child.talks[-1].one_pass()
    assert (gpu.name, gpu.pci_bus_id, gpu.unavailable["name"]) == (None, "00000000:01:00.0", "no_data")


def test_row_28_of_two_gpus_the_one_that_sleeps_is_not_asked_a_thing(child: talks.Driver, tmp_path: Path) -> None:
    machine = laptop(tmp_path / "machine", gpus=2)
    machine.status(FIRST, "active")
    scenario = fakenvml.consumer()
    scenario.gpus[1].does[fakenvml.HANDLE] = "segv"  # whoever as much as takes its handle dies
    conversation = talk(child, scenario, machine.start(rest=0.0))
    _, (awake, sleeping) = conversation.one_pass()
    assert (awake.asleep, awake.temperature_celsius) == (False, 38)
    assert (sleeping.asleep, sleeping.index, sleeping.temperature_celsius) == (True, 1, None)
    scenario.gpus[1].does.clear()
    scenario.write(child.file)
    machine.status(SECOND, "active")
    _, (_, woken) = conversation.one_pass()
    assert (woken.asleep, woken.temperature_celsius) == (False, 38)
    # Asleep again it keeps its name, and is read anew as a whole when it wakes.
    machine.status(SECOND, "suspended")
    _, (_, sleeping) = conversation.one_pass()
    assert (sleeping.asleep, sleeping.uuid, sleeping.name) == (True, woken.uuid, woken.name)
    machine.status(SECOND, "active")
    lazy = Pass(beats=Beats(slow_passes=10**9, slow_seconds=1e9, static_seconds=1e9))
    _, (_, woken) = conversation.one_pass(lazy)
    assert woken.persistence_mode is False


def test_row_28_where_the_driver_counts_otherwise_nobody_guesses_who_sleeps(
    child: talks.Driver, tmp_path: Path
) -> None:
    machine = laptop(tmp_path / "machine", gpus=2)
    machine.status(FIRST, "active")
    scenario = fakenvml.consumer()
    scenario.gpus.reverse()  # index 0 is the GPU with the second address
    conversation = talk(child, scenario, machine.start(rest=0.0))
    conversation.one_pass()
    _, gpus = conversation.one_pass()
    assert [(gpu.asleep, gpu.pci_bus_id) for gpu in gpus] == [(True, "00000000:02:00.0"), (False, "00000000:01:00.0")]


def test_row_28_when_all_have_fallen_asleep_the_driver_is_not_called(child: talks.Driver, tmp_path: Path) -> None:
    machine = laptop(tmp_path / "machine", status="active")
    conversation = talk(child, fakenvml.consumer(1), machine.start(rest=0.0))
    _, (gpu,) = conversation.one_pass()
    assert not gpu.asleep
    machine.status(FIRST, "suspended")
    gpus: list[Gpu] = []
    assert calls_of(child, lambda: gpus.extend(conversation.one_pass()[1])) == []
    assert [(gpu.asleep, gpu.uuid) for gpu in gpus] == [(True, "GPU-40900000-0000-4000-8000-000000000000")]


def test_row_28_a_gpu_that_idles_is_left_alone_so_that_it_can_fall_asleep(child: talks.Driver, tmp_path: Path) -> None:
    machine = laptop(tmp_path / "machine", status="active")
    scenario = fakenvml.consumer(1)
    scenario.gpus[0].utilization = 0
    conversation = talk(child, scenario, machine.start())
    _, (first,) = conversation.one_pass()
    again: list[Gpu] = []
    assert calls_of(child, lambda: again.extend(conversation.one_pass()[1])) == []
    assert again == [first]
    # One that works is read in every pass.
    scenario.gpus[0].utilization = 50
    conversation = talk(child, scenario, machine.start())
    conversation.one_pass()
    assert calls_of(child, conversation.one_pass)


def test_row_28_on_request_a_sleeping_gpu_is_read(child: talks.Driver, tmp_path: Path) -> None:
    machine = laptop(tmp_path / "machine")
    _, (gpu,) = talk(child, fakenvml.consumer(1), machine.start(wake=True)).one_pass()
    assert (gpu.asleep, gpu.temperature_celsius) == (False, 38)


async def test_row_28_a_laptop_sleeps_wakes_and_sleeps_again(driver: drivers.Driver, tmp_path: Path) -> None:
    machine = laptop(tmp_path / "machine")
    driver.log.touch()
    driver.start(fakenvml.consumer(1))

    def shows(*, asleep: bool) -> Callable[[Sample], bool]:
        return lambda sample: is_ok(sample) and [gpu.asleep for gpu in sample.gpus] == [asleep]

    async with NvmlReader(FAST, start=machine.start(rest=0.0)) as reader:
        sample = await until(reader, shows(asleep=True))
        assert driver.starts() == 0
        name = sample.gpus[0].name
        machine.status(FIRST, "active")
        sample = await until(reader, shows(asleep=False))
        assert (sample.gpus[0].temperature_celsius, sample.gpus[0].name) == (38, "NVIDIA GeForce RTX 4090")
        assert (sample.gpus[0].name == name, len(sample.gpus)) == (False, 1)
        machine.status(FIRST, "suspended")
        sample = await until(reader, shows(asleep=True))
        assert sample.gpus[0].name == "NVIDIA GeForce RTX 4090"
        for process in children():
            process.kill()
        await until(reader, lambda sample: sample.status != "ok")
        sample = await until(reader, shows(asleep=True))
        assert sample.gpus[0].uuid == "GPU-40900000-0000-4000-8000-000000000000"
        assert driver.starts() == 1
    lines = "\n".join(table(Report(node="n", gpus=sample.gpus), 160, color=False, now=0.0))
    assert "asleep" in lines
    assert "Not available" not in lines


def test_row_28_on_a_server_nothing_is_looked_at_in_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    presence = Presence(of_datacentre(tmp_path / "machine", 8).start())
    presence.look(60.0)
    monkeypatch.setattr(Bus, "is_suspended", None)
    monkeypatch.setattr(Bus, "boards", None)
    presence.look(60.0)
    assert not presence.all_asleep
    assert presence.sleeper(0, 8, dict) is None


# ---- row 48: GPUs that the driver does not list ----


def missing(child: talks.Driver, machine: Machine, listed: int = 7) -> Done:
    done, gpus = talk(child, fakenvml.datacentre(listed), machine.start()).one_pass()
    assert len(gpus) == listed
    return done


def test_row_48_a_gpu_that_the_bus_has_and_the_driver_does_not_list_is_named(
    child: talks.Driver, tmp_path: Path
) -> None:
    fault = missing(child, of_datacentre(tmp_path / "machine", 8)).missing
    assert fault is not None
    assert (fault.code, "0000:1f:00.0" in fault.message, "0000:18" in fault.message) == ("gpus_missing", True, False)
    assert "has 8" in fault.message
    assert "lists 7" in fault.message


def test_row_48_when_all_are_listed_there_is_nothing_to_say(child: talks.Driver, tmp_path: Path) -> None:
    assert missing(child, of_datacentre(tmp_path / "machine", 8), listed=8).missing is None


def rebound(machine: Machine) -> None:
    machine.remove("sys/bus/pci/devices/0000:1f:00.0")
    machine.board("0000:1f:00.0", driver="vfio-pci")


def overridden(machine: Machine) -> None:
    machine.remove("sys/bus/pci/devices/0000:1f:00.0")
    machine.board("0000:1f:00.0", driver=None)
    machine.write("sys/bus/pci/devices/0000:1f:00.0/driver_override", "none\n")


def excluded(machine: Machine) -> None:
    machine.taken("0000:1f:00.0", 7, excluded="Yes")


def a_share_for_guests(machine: Machine) -> None:
    (machine.device("0000:1f:00.0") / "physfn").symlink_to(machine.device("0000:18:00.0"))


def without_its_node(machine: Machine) -> None:
    (machine.root / "dev/nvidia7").unlink()


def of_another_container(machine: Machine) -> None:
    machine.remove("proc/driver/nvidia/gpus/0000:1f:00.0")
    machine.write("proc/self/mountinfo", "36 35 0:33 / /proc/driver/nvidia rw - tmpfs tmpfs rw\n")


def of_another_namespace(machine: Machine) -> None:
    machine.remove("proc/driver/nvidia/gpus/0000:1f:00.0")
    (machine.root / "proc/self/ns").mkdir(parents=True)
    (machine.root / "proc/self/ns/pid").symlink_to("pid:[4026532999]")


def behind_a_wall(machine: Machine) -> None:
    machine.remove("proc/driver/nvidia")


def in_windows(machine: Machine) -> None:
    machine.write("proc/sys/kernel/osrelease", "5.15.153.1-microsoft-standard-WSL2\n")
    machine.write("dev/dxg", "")


@pytest.mark.parametrize(
    "change",
    [
        rebound,
        overridden,
        excluded,
        a_share_for_guests,
        without_its_node,
        of_another_container,
        of_another_namespace,
        behind_a_wall,
        in_windows,
    ],
)
def test_row_48_a_gpu_that_is_given_away_or_not_ours_is_not_missed(
    child: talks.Driver, tmp_path: Path, change: Callable[[Machine], None]
) -> None:
    machine = of_datacentre(tmp_path / "machine", 8)
    change(machine)
    assert missing(child, machine).missing is None


def test_row_48_one_that_no_driver_has_taken_is_missed_on_the_machine_itself(
    child: talks.Driver, tmp_path: Path
) -> None:
    machine = of_datacentre(tmp_path / "machine", 7)
    machine.board("0000:1f:00.0", driver=None)
    fault = missing(child, machine).missing
    assert fault is not None
    assert "0000:1f:00.0" in fault.message


async def test_row_48_the_node_is_degraded_until_the_gpu_is_back(driver: drivers.Driver, tmp_path: Path) -> None:
    machine = of_datacentre(tmp_path / "machine", 2)
    driver.start(fakenvml.datacentre(1))
    async with NvmlReader(FAST, start=machine.start()) as reader:
        sample = await until(reader, lambda sample: sample.status == "degraded")
        assert sample.error is not None
        assert (sample.error.code, [gpu.status for gpu in sample.gpus]) == ("gpus_missing", ["ok"])
        fakenvml.datacentre(2).write(driver.file)
        sample = await until(reader, is_ok)
        assert (sample.error, len(sample.gpus)) == (None, 2)


def test_what_the_kernel_tells_is_read_as_it_is_and_nonsense_as_nothing(tmp_path: Path) -> None:
    machine = laptop(tmp_path / "machine")
    information_of = machine.root / f"proc/driver/nvidia/gpus/{FIRST}/information"
    known = information(machine.root, FIRST)
    assert known is not None
    assert (known.minor, known.excluded, known.uuid) == (0, False, "GPU-40900000-0000-4000-8000-000000000000")
    information_of.write_bytes(b"Model: \xff\x1b[31m\nDevice Minor: \xc2\xb2\nnonsense\n")
    known = information(machine.root, FIRST)
    assert known is not None
    assert (known.name, known.minor, known.uuid) == ("\ufffd\ufffd[31m", None, None)
    assert information(machine.root, SECOND) is None
    assert Bus(tmp_path / "nowhere").boards() == []
    assert canonical("00000000:3B:00.0") == "0000:3b:00.0"
    assert canonical("00010000:3B:00.0") == "10000:3b:00.0"
    assert canonical("nonsense") == "nonsense"
