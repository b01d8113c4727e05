"""Erasing a person by an address: gone through is everything, again and again, until nothing is left to be done.

The last time nothing was changed: what it has listed is all that still names the person.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from ingester.core.forgetting import bare_receipt, fate, is_sender
from ingester.core.person import Person
from ingester.erasure.receipt import Mention, Objects, Receipt, Watch, sealed, told
from ingester.store import forgetting
from ingester.store.blobs import Blobs
from ingester.store.catalog import Table, tenant_tables
from ingester.store.db import Connection, Database
from ingester.store.forgetting import Holder, Named
from ingester.store.raws import Raws
from ingester.store.registry import Tenant
from ingester.store.trash import empty, trashed

ROUNDS: Final = 5
"""How often everything is gone through at most: mail may come in meanwhile."""
READERS: Final = 4
"""Raw mails that are read and searched at the same time."""
FIRST: Final = ("messages", "dead_letters")
"""With these goes most of the rest."""

KEPT: Final = (
    "claims and provider_events: hashes by which a retry of an erased mail is known as a duplicate, for 14 days",
    "receipts of erased mails: when they came, through which door, and the hash of their bytes",
    "mail that somebody else wrote and that names the address: see the mentions; `ingester delete ID` erases one",
    "the person's name, where it stands without the address: in what others wrote and addressed",
    "what is encoded as a whole (base64 attachments) was not looked into",
    "what lies in buckets of your own (SES), in backups of the database, and in logs",
)


async def erase_person(
    database: Database,
    blobs: Blobs,
    person: Person,
    tenants: Sequence[Tenant],
    *,
    apply: bool,
    new_id: Callable[[], UUID],
    now: Callable[[], datetime],
    watch: Watch = lambda *_: None,
) -> Receipt:
    """Remove a person from these tenants; without `apply` only say what would go.

    Raises what the database and the object store raise.
    """
    tally = _Tally()
    for tenant in tenants:
        await _Erasing(database, Raws(blobs), person, tenant, tally, watch, apply=apply).run()
    left = 0
    if apply:
        await empty(database, blobs)
        async with database.connection() as connection:
            left = sum([await trashed(connection, tenant.id) for tenant in tenants])
    return sealed(
        Receipt(
            id=new_id(),
            at=now(),
            applied=apply,
            complete=apply and not left and not tally.unfinished,
            tenants=tuple(tenant.slug for tenant in tenants),
            address=str(person.address),
            removed=told(tally.removed, without=("objects",)),
            changed=told(tally.changed),
            objects=Objects(queued=tally.removed["objects"], left=left if apply else tally.removed["objects"]),
            mentions=tuple(tally.mentions),
            kept=KEPT,
        )
    )


@dataclass(slots=True)
class _Tally:
    removed: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    mentions: list[Mention] = field(default_factory=list)
    unfinished: bool = False


@dataclass(slots=True)
class _Pass:
    """What was met in going through a tenant once."""

    work: int = 0
    """Rows that had to be removed or changed."""
    going: set[UUID] = field(default_factory=set)
    """Messages and letters that go, or would."""
    mentions: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def list(self, table: str, key: Iterable[object], where: Iterable[str]) -> None:
        self.mentions.setdefault((table, "/".join(map(_name, key))), set()).update(where)


class _Erasing:
    """The erasure in one tenant."""

    def __init__(
        self,
        database: Database,
        raws: Raws,
        person: Person,
        tenant: Tenant,
        tally: _Tally,
        watch: Watch,
        *,
        apply: bool,
    ) -> None:
        self._database = database
        self._raws = raws
        self._person = person
        self._tenant = tenant
        self._tally = tally
        self._watch = watch
        self._apply = apply

    async def run(self) -> None:
        """Go through all until nothing was left to be done, or once."""
        async with self._database.connection() as connection:
            tables = await tenant_tables(connection)
        tables.sort(key=lambda one: FIRST.index(one.name) if one.name in FIRST else len(FIRST))
        for _ in range(ROUNDS if self._apply else 1):
            met = await self._go_through(tables)
            if not met.work:
                break
        self._tally.unfinished |= self._apply and met.work > 0
        self._tally.mentions += [
            Mention(tenant=self._tenant.slug, table=table, id=key, where=tuple(sorted(where)))
            for (table, key), where in sorted(met.mentions.items())
        ]

    async def _go_through(self, tables: Sequence[Table]) -> _Pass:
        met = _Pass()
        for table in tables:
            async with self._database.connection() as connection:
                async for page in forgetting.rows_naming(connection, table, self._tenant.id, self._person):
                    await self._judge(connection, table, page, met)
                    self._watch(table.name, len(page))
        if not (self._apply and met.work):  # bytes are searched when all else is done
            await self._search_bytes(met)
        return met

    async def _judge(self, connection: Connection, table: Table, page: Sequence[Named], met: _Pass) -> None:
        unique = {one.name for one in table.columns if one.unique}
        fates = [(row, fate(table.name, row.texts, self._person, unique=unique)) for row in page]
        going = [row for row, one in fates if one.remove]
        met.work += len(going) + sum(bool(one.changes) for _, one in fates)
        met.going.update(row.key[0] for row in going if table.name in FIRST)
        await self._remove(connection, table, going)
        for row, one in fates:
            if one.changes:
                done = not self._apply or await forgetting.change(connection, table, self._tenant.id, row, one.changes)
                self._tally.changed[table.name] += done
            if one.listed and not _is_of(table, row, met.going):
                met.list(table.name, row.key, one.listed)

    async def _remove(self, connection: Connection, table: Table, rows: Sequence[Named]) -> None:
        tenant_id, removed = self._tenant.id, self._tally.removed
        if not self._apply:
            removed[table.name] += len(rows)
        elif table.name == "messages":
            counts = await forgetting.remove_messages(
                connection, tenant_id, [row.key[0] for row in rows], bare_receipt()
            )
            removed += counts
        else:
            for row in rows:
                if table.name == "dead_letters":
                    await self._remove_letter(connection, row.key[0])
                elif table.name == "contacts":
                    removed["contacts"] += await forgetting.delete_contact(connection, tenant_id, row.key[0])
                else:
                    removed[table.name] += await forgetting.delete(connection, table, tenant_id, row)

    async def _remove_letter(self, connection: Connection, letter_id: UUID) -> None:
        if self._apply:
            self._tally.removed += await forgetting.remove_letter(
                connection, self._tenant.id, letter_id, bare_receipt()
            )
        else:
            self._tally.removed["dead_letters"] += 1

    # -- bytes ------------------------------------------------------------------------------------------------------

    async def _search_bytes(self, met: _Pass) -> None:
        """Search the raw mails, wherever they lie, and the parts that are no view on one."""
        async with self._database.connection() as connection:
            async for page in forgetting.raw_holders(connection, self._tenant.id):
                holders = [one for one in page if one.id not in met.going]
                for start in range(0, len(holders), READERS):
                    await asyncio.gather(*(self._search(one, met) for one in holders[start : start + READERS]))
                self._watch("raws", len(page))
            async for message_id, data in forgetting.parts_with_bytes(connection, self._tenant.id):
                if message_id not in met.going and await self._holds(data):
                    met.list("messages", [message_id], ["bytes"])
            for raw_id in await forgetting.lost_raws(connection, self._tenant.id):
                await self._settle_lost(connection, raw_id, met)

    async def _search(self, holder: Holder, met: _Pass) -> None:
        async with self._database.connection() as connection:
            try:
                data = await self._raws.read(connection, self._tenant.id, holder.raw_id)
            except LookupError:  # gone meanwhile
                return
            if not await self._holds(data):
                return
            if holder.table == "dead_letters" and is_sender(data, self._person):
                met.work += 1
                await self._remove_letter(connection, holder.id)
            else:
                met.list(holder.table, [holder.id], ["bytes"])

    async def _holds(self, data: bytes) -> bool:
        return await asyncio.to_thread(self._person.in_bytes, data)

    async def _settle_lost(self, connection: Connection, raw_id: UUID, met: _Pass) -> None:
        """Raw mails that no row has are nobody's."""
        try:
            data = await self._raws.read(connection, self._tenant.id, raw_id)
        except LookupError:
            return
        if await self._holds(data):
            met.work += 1
            self._tally.removed["raws"] += 1
            if self._apply:
                await forgetting.delete_raw(connection, self._tenant.id, raw_id)


def _is_of(table: Table, row: Named, going: set[UUID]) -> bool:
    """Whether a row goes with a message that goes."""
    return table.name == "parts" and row.key[0] in going


def _name(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
