"""The moments at which drivers reported errors: each once, by the hub's clock, and no more than a node's share."""

from gpumon.hub.history import History
from gpumon.hub.xids import MOST_OF_ONE_GPU, MOST_XIDS
from gpumon.model import Gpu, Report, Xid
from gpumon.timestamp import rfc3339

NOW = 1_800_000_000.0


def xid(code: int, at: float) -> Xid:
    return Xid(code=code, meaning=f"{code} means this.", gravity="critical", count=1, last_at=rfc3339(at))


def take(history: History, *xids: Xid, ahead: float = 0.0, at: float = NOW, uuid: str = "GPU-a") -> None:
    """A report made ``at`` by the hub's clock, on a node whose own clock is ``ahead``."""
    gpus = [Gpu(index=0, uuid=uuid, status="lost", xids=list(xids))]
    history.take("n", Report(node="n", sampled_at=rfc3339(at + ahead), gpus=gpus), at, at)


def told(history: History, start: float = NOW - 86_400, end: float = NOW + 100) -> list[tuple[str, int, float]]:
    return [(one.gpu, one.code, one.at - NOW) for one in history.xids("n", start, end)]


def test_what_a_report_goes_on_telling_stands_once_and_what_comes_again_stands_again() -> None:
    history = History()
    first, again = xid(63, NOW - 500), xid(63, NOW - 20)
    for second in range(3):
        take(history, first, at=NOW + second)
    take(history, again, xid(79, NOW - 30), at=NOW + 3)
    assert told(history) == [("GPU-a", 63, -500), ("GPU-a", 79, -30), ("GPU-a", 63, -20)]
    assert told(history, start=NOW - 25) == [("GPU-a", 63, -20)]
    assert history.xids("another", 0, NOW) == []


def test_moments_are_of_the_hubs_clock_and_never_in_the_future() -> None:
    history = History()
    take(history, xid(63, NOW + 3600 - 10), ahead=3600)
    take(history, xid(79, NOW + 7200), uuid="GPU-b")
    take(history, Xid(code=13, meaning="m", gravity="warning", count=1, last_at="yesterday"), uuid="GPU-c")
    assert told(history) == [("GPU-a", 63, -10), ("GPU-b", 79, 0), ("GPU-c", 13, 0)]
    long_ago = Xid(code=13, meaning="m", gravity="warning", count=1, last_at="0001-01-01T00:00:00+23:59")
    take(history, long_ago, uuid="GPU-d")
    assert history.xids("n", 0, 1)[0].at == 0


def test_a_gpu_that_reports_all_the_time_is_bounded_and_goes_with_its_node() -> None:
    history = History()
    for second in range(3 * MOST_XIDS):
        take(history, xid(31, NOW - 1000 + second))
    assert [at for _, _, at in told(history)] == [float(-1000 + 2 * MOST_XIDS + one) for one in range(MOST_XIDS)]
    history.keep([])
    assert told(history) == []


def test_a_report_of_very_many_is_taken_in_part_and_once() -> None:
    history = History()
    many = [xid(code, NOW - code) for code in range(64)]
    for second in range(3):
        gpus = [Gpu(index=n, uuid=f"GPU-{n}", status="lost", xids=many) for n in range(128)]
        history.take("n", Report(node="n", sampled_at=rfc3339(NOW + second), gpus=gpus), NOW + second, NOW + second)
    newest = {(f"GPU-{n}", code) for n in range(128) for code in range(MOST_OF_ONE_GPU)}
    assert len(told(history)) == len({(gpu, code) for gpu, code, _ in told(history)} & newest) == MOST_XIDS
