"""Files of state: whole, their owner's alone, through no link."""

import os
import stat
from pathlib import Path

import pytest

from gpumon import statefile


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statefile, "LOCK_SECONDS", 0.2)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_is_read_again_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "file"
    assert statefile.read(file) is None
    before = os.umask(0)  # whatever the user's mask allows
    try:
        statefile.write(file, b"one")
    finally:
        os.umask(before)
    statefile.write(file, b"two")
    assert statefile.read(file) == b"two"
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_a_file_that_others_could_read_is_closed_to_them_by_the_next_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    (tmp_path / "file").chmod(0o644)
    statefile.write(tmp_path / "file", b"two")
    assert mode(tmp_path / "file") == 0o600


def test_who_asks_first_makes_the_file_and_everybody_gets_it(tmp_path: Path) -> None:
    file = tmp_path / "file"

    def make() -> bytes:
        statefile.write(file, b"of one who was faster")
        return b"ours"

    assert statefile.kept(file, make) == b"of one who was faster"
    assert statefile.kept(tmp_path / "other", lambda: b"ours") == b"ours"
    assert statefile.kept(tmp_path / "other", lambda: b"again") == b"ours"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


def test_no_link_is_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"somebody's")
    link.symlink_to(target)
    for attempt in (statefile.read, lambda path: statefile.hold(path, lambda: b"ours", "program")):
        with pytest.raises(OSError, match="symbolic links"):
            attempt(link)
    statefile.write(link, b"ours")  # takes the link's place
    assert target.read_bytes() == b"somebody's"
    assert not link.is_symlink()
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="symbolic links"):
        statefile.kept(link, lambda: b"ours")
    assert not (tmp_path / "nowhere").exists()


def test_a_disk_that_is_full_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    held = statefile.hold(file, lambda: b"old", "program")

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space"):
            statefile.write(file, b"new")
        with pytest.raises(OSError, match="No space"):
            held.write(b"new")
    assert file.read_bytes() == held.content() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    held.close()


def test_a_held_file_is_held_also_after_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    held = statefile.hold(file, lambda: b"one", "hub")
    held.write(b"two")
    with pytest.raises(statefile.UnusableError, match=r"another hub uses .*file"):
        statefile.hold(file, lambda: b"", "hub")
    assert statefile.read(file) == held.content() == b"two"
    held.close()
    again = statefile.hold(file, lambda: b"", "hub")
    assert again.content() == b"two"
    again.close()


def test_what_is_no_file_is_an_error_and_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=r"Illegal seek|Is a directory"):
            statefile.read(tmp_path / name)
