"""Which hosts use this database, and where each of them puts raw bytes: a segment can be read on its own host alone."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from ingester.core.ids import SYSTEM_TENANT
from ingester.store.db import Connection

FRESH: Final = timedelta(minutes=5)
"""How long after its last word a host counts as one that is there."""
FORGOTTEN: Final = timedelta(days=30)
"""After so long a host that keeps no segments is forgotten."""
FILES: Final = "file://"
_LOCK: Final = 0x686F737473
"""The advisory lock of whoever claims a directory for a host ("hosts")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """This machine. Containers of one kernel are one host; so is a machine before and after it was started anew."""

    id: str
    boot: str
    name: str

    def is_same(self, host: str, boot: str) -> bool:
        """Whether a row speaks of this machine."""
        return host == self.id or (bool(boot) and boot == self.boot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A host as the database knows it. `here`: it is this one; `fresh`: it was there a moment ago."""

    name: str
    place: str
    store: UUID | None
    seen_at: datetime
    here: bool
    fresh: bool

    @property
    def keeps_segments(self) -> bool:
        return self.place.startswith(FILES)


def this_host(root: Path = Path("/")) -> Host:
    """Which machine this is. The id is a hash: a machine's own id is told to nobody (machine-id(5))."""
    name = socket.gethostname()
    machine = _line(root / "etc/machine-id")
    digest = sha256(f"ingester {machine} {name}".encode()).hexdigest()
    return Host(id=digest[:32], boot=_line(root / "proc/sys/kernel/random/boot_id"), name=name)


async def seen(connection: Connection, here: Host) -> list[Seen]:
    """All hosts that have used the database lately, the newest first."""
    rows = await connection.fetch(
        """
        SELECT host, boot, name, place, store, seen_at, seen_at > now() - $2::interval AS fresh
        FROM blob_hosts WHERE tenant_id = $1 ORDER BY seen_at DESC, host, place
        """,
        SYSTEM_TENANT,
        FRESH,
    )
    return [
        Seen(
            name=row["name"],
            place=row["place"],
            store=row["store"],
            seen_at=row["seen_at"],
            here=here.is_same(row["host"], row["boot"]),
            fresh=row["fresh"],
        )
        for row in rows
    ]


async def lock(connection: Connection) -> None:
    """Let nobody else claim a directory before the caller's transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def note(connection: Connection, here: Host, place: str, store: UUID | None = None) -> None:
    """Say that this host is there and puts raw bytes in this place; forget those that have not come for long."""
    await connection.execute(
        """
        INSERT INTO blob_hosts AS h (tenant_id, host, place, boot, name, store) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (tenant_id, host, place) DO UPDATE
        SET boot = excluded.boot, name = excluded.name, store = coalesce(excluded.store, h.store), seen_at = now()
        """,
        SYSTEM_TENANT,
        here.id,
        place,
        here.boot,
        here.name,
        store,
    )
    await connection.execute(
        "DELETE FROM blob_hosts WHERE tenant_id = $1 AND store IS NULL AND seen_at < now() - $2::interval",
        SYSTEM_TENANT,
        FORGOTTEN,
    )


async def leave(connection: Connection, here: Host) -> None:
    """Say that this host is there no more; another one of its daemons says otherwise within a minute."""
    await connection.execute(
        "UPDATE blob_hosts SET seen_at = now() - $3::interval WHERE tenant_id = $1 AND host = $2",
        SYSTEM_TENANT,
        here.id,
        FRESH,
    )


async def conflict(connection: Connection, place: str) -> str | None:
    """Why no daemon of this host may be started: segments here or there, and another host. A sentence, or None."""
    found = strangers(await seen(connection, this_host()), segments_here=place.startswith(FILES))
    if not found:
        return None
    one = found[0]
    where = f"the host {one.name}" if one.keeps_segments else "this host"
    return (
        f"INGESTER_BLOBS: raw mails lie in segments on {where}, and {one.name} uses the database too: one could not "
        "read the other's mail. Use one host, or an object store; a host that was stopped is forgotten in five minutes"
    )


def strangers(hosts: Sequence[Seen], *, segments_here: bool) -> list[Seen]:
    """Other hosts that are there, where this one or they keep segments: one of both cannot read the other's mail."""
    return [one for one in hosts if not one.here and one.fresh and (segments_here or one.keeps_segments)]


async def database_identity(connection: Connection) -> str:
    """Which Postgres and which database in it. A copy made by dumping has another; one of the whole disk has not."""
    try:
        system = await connection.fetchval("SELECT system_identifier FROM pg_control_system()")
    except asyncpg.PostgresError:  # not allowed here
        system = None
    oid = await connection.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    return f"{system}/{oid}"


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
