"""ingester.doctor.segments: what a directory of segments lies on, and who else uses the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingester.doctor.patient import Patient
from ingester.doctor.segments import judge_hosts, look
from ingester.settings import load
from ingester.store import hosts
from ingester.store.hosts import Host, Seen
from ingester.store.segments import segment as files

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def seen(name: str, place: str, *, here: bool = False, fresh: bool = True) -> Seen:
    return Seen(name=name, place=place, store=None, seen_at=NOW, here=here, fresh=fresh)


def patient(directory: Path, root: Path = Path("/")) -> Patient:
    settings = load({"INGESTER_BLOBS": f"file://{directory}"})
    return Patient(settings=settings, now=NOW, random_label="x", root=root)


@contextmanager
def mounted(root: Path, *lines: str) -> Iterator[Path]:
    """A machine with these mounts."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in lines))
    yield root


async def told(directory: Path, root: Path = Path("/")) -> list[str]:
    return [f"{one.level}: {one.what}" for one in await look(patient(directory, root))]


# -- the disk -------------------------------------------------------------------------------------------------------


async def test_a_sound_directory(tmp_path: Path) -> None:
    """One that is there, and one that the daemon will make; nothing is left in it."""
    tmp_path.chmod(0o700)
    for directory in (tmp_path, tmp_path / "segments"):
        assert await told(directory, tmp_path) == [f"ok: raw mails can be written to {tmp_path}, and stay there"]
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_above_that_is_missing(tmp_path: Path) -> None:
    assert await told(tmp_path / "a/b") == [f"fault: {tmp_path / 'a'} is no directory"]


async def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    tmp_path.chmod(0o700)
    (said,) = await told(tmp_path, tmp_path)
    assert said == f"fault: raw mails cannot be written to {tmp_path} (No space left on device)"
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_gives_no_room_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_punch", lambda *_: 95)
    tmp_path.chmod(0o700)
    (said,) = await told(tmp_path, tmp_path)
    assert said.startswith("warning: the file system of")


async def test_others_may_look_in(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    assert await told(tmp_path, tmp_path) == [f"warning: others may look into {tmp_path} (mode 750)"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [("tmpfs", "fault: the directory of INGESTER_BLOBS lies in memory"),
     ("overlay", "fault: the directory of INGESTER_BLOBS lies in the container itself"),
     ("nfs4", "warning: the directory of INGESTER_BLOBS lies on a file system of the network (nfs4)"),
     ("ext4", "ok: raw mails can be written")],
)  # fmt: skip
async def test_kinds_of_disks(tmp_path: Path, kind: str, said: str) -> None:
    """The longest mount point that it lies beneath counts, and of two in one place the later."""
    directory = tmp_path / "seg ments"
    directory.mkdir(mode=0o700)
    escaped = str(directory).replace(" ", "\\040")
    lines = (
        "22 1 8:1 / / rw - xfs /dev/a rw",
        f"23 22 8:2 / {escaped} rw shared:1 - squashfs /dev/b rw",
        f"24 22 8:2 / {escaped} rw shared:1 - {kind} /dev/b rw",
        f"25 22 8:2 / {escaped}more rw - tmpfs none rw",
        "a line of the future",
    )
    with mounted(tmp_path / "root", *lines) as root:
        (found,) = await told(directory, root)
    assert found.startswith(said)


# -- other hosts ----------------------------------------------------------------------------------------------------


def test_a_second_host_is_a_fault_either_way() -> None:
    mine, theirs = seen("mx1", "file:///a", here=True), seen("mx2", "postgres")
    (found,) = judge_hosts([mine, theirs], segments_here=True)
    assert found.level == "fault"
    assert found.what.startswith("the host mx2 uses this database too, and raw mails lie in segments here")
    (found,) = judge_hosts([seen("mx2", "postgres", here=True), seen("mx1", "file:///a")], segments_here=False)
    assert "raw mails lie in segments on mx1" in found.what


def test_hosts_that_do_not_matter() -> None:
    """This one, one that left, and any number where nobody keeps segments."""
    here = seen("mx1", "file:///a", here=True)
    assert list(judge_hosts([here, seen("mx2", "postgres", fresh=False)], segments_here=True)) == []
    assert list(judge_hosts([seen("mx2", "s3://b"), seen("mx3", "postgres")], segments_here=False)) == []


def test_segments_of_a_host_that_left() -> None:
    for segments_here in (False, True):
        (found,) = judge_hosts([seen("mx2", "file:///a", fresh=False)], segments_here=segments_here)
        assert (found.level, "on the host mx2 (file:///a)" in found.what) == ("warning", True)


def test_which_host_it_is(tmp_path: Path) -> None:
    """A machine that was started anew, and containers of one kernel, are the same; a clone elsewhere is not."""
    (tmp_path / "etc").mkdir()
    boot = tmp_path / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("boot-1\n")
    (tmp_path / "etc/machine-id").write_text("m1\n")
    one = hosts.this_host(tmp_path)
    assert "m1" not in one.id
    boot.write_text("boot-2\n")
    again = hosts.this_host(tmp_path)
    assert again.is_same(one.id, one.boot)
    (tmp_path / "etc/machine-id").unlink()
    container = hosts.this_host(tmp_path)
    assert container.is_same(again.id, again.boot)
    assert not container.is_same(one.id, one.boot)
    assert not Host(id="a", boot="", name="").is_same("b", "")
