"""The directory of segments: can raw mails be written there for good, and does nobody else need to read them?"""

import asyncio
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import NoDatabase, Patient
from ingester.store import hosts
from ingester.store.db import Unavailable, classify
from ingester.store.hosts import FILES, Seen
from ingester.store.segments import segment as files

_MEMORY: Final = frozenset({"tmpfs", "ramfs", "rootfs"})
_LAYERS: Final = frozenset({"overlay", "aufs"})
_REMOTE: Final = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "gluster", "afs")

_pen = Pen("blobs")


async def look(patient: Patient) -> Sequence[Finding]:
    """The disk, then the other hosts."""
    directory = Path(patient.settings.blobs.removeprefix(FILES))
    return [*(await asyncio.to_thread(_disk, patient, directory)), *(await look_at_hosts(patient))]


async def look_at_hosts(patient: Patient) -> Sequence[Finding]:
    """Whether mail of one host is to be read on another, which cannot be."""
    try:
        async with patient.connection() as connection:
            seen = await hosts.seen(connection, hosts.this_host(patient.root))
    except (NoDatabase, Unavailable):
        return []
    except Exception as error:
        if classify(error) is None:
            raise
        return []
    return list(judge_hosts(seen, segments_here=patient.settings.blobs.startswith(FILES)))


def judge_hosts(seen: Sequence[Seen], *, segments_here: bool) -> Iterator[Finding]:
    """What other hosts, which the database has seen lately, mean for raw mails in segments."""
    for one in hosts.strangers(seen, segments_here=segments_here):
        where = f"on {one.name}" if one.keeps_segments else "here"
        yield _pen.fault(
            f"the host {one.name} uses this database too, and raw mails lie in segments {where}: one cannot read the "
            "other's mail",
            "Use one host with segments; for several, put raw mails into Postgres or an object store.",
        )
    for one in seen:
        if not one.here and not one.fresh and one.keeps_segments:
            yield _pen.warning(
                f"raw mails lie in segments on the host {one.name} ({one.place}), which was last here on "
                f"{one.seen_at:%Y-%m-%d}: they cannot be read on this one",
                "Bring its disk here under the same name; or forget it: DELETE FROM blob_hosts.",
            )


def _disk(patient: Patient, directory: Path) -> list[Finding]:
    where = directory if directory.exists() else directory.parent
    if not where.is_dir():
        return [_pen.fault(f"{where} is no directory", "Make it, or mount its disk.")]
    found = [*_kind(_file_system(patient.root, where)), *_mode(directory)]
    try:
        files.probe(where)
        punches = files.can_punch(where)
    except OSError as error:
        why = error.strerror or type(error).__name__
        return [
            *found,
            _pen.fault(f"raw mails cannot be written to {where} ({why})", "Look at its owner, its mode and its disk."),
        ]
    if not punches:
        found.append(
            _pen.warning(
                f"the file system of {where} cannot give the room of erased mails back before they are compacted",
                "Use ext4, xfs or btrfs.",
            )
        )
    return found or [_pen.ok(f"raw mails can be written to {where}, and stay there")]


def _mode(directory: Path) -> Iterator[Finding]:
    if not directory.exists():
        return
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o077:
        yield _pen.warning(f"others may look into {directory} (mode {mode:o})", f"chmod 700 {directory}")


def _kind(name: str) -> Iterator[Finding]:
    """What a file system does with what is written to it."""
    if name in _MEMORY:
        yield _pen.fault(
            "the directory of INGESTER_BLOBS lies in memory: a restart of the host loses all raw mails",
            "Name a directory on a disk.",
        )
    elif name in _LAYERS:
        yield _pen.fault(
            "the directory of INGESTER_BLOBS lies in the container itself: raw mails go when it is replaced",
            "Mount a volume there.",
        )
    elif name.startswith(_REMOTE):
        yield _pen.warning(
            f"the directory of INGESTER_BLOBS lies on a file system of the network ({name})",
            "Use a disk of this host: a server may say that bytes are safe when they are not.",
        )


def _file_system(root: Path, where: Path) -> str:
    """The type of the file system that a directory lies on, as Linux tells (proc_pid_mountinfo(5)); else nothing."""
    try:
        lines = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, found = "", ""
    real = os.path.realpath(where)
    for line in lines:
        mount, _, rest = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5 or not rest:
            continue
        point = fields[4].encode().decode("unicode_escape", "replace")
        beneath = real == point or real.startswith(point.rstrip("/") + "/")
        if beneath and len(point) >= len(best):  # of two in one place the later one counts
            best, found = point, rest.split(" ")[0]
    return found
