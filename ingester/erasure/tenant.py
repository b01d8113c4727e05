"""Erasing a tenant: nothing more is let in, every row goes, then its objects, and the tenant itself last."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from ingester.erasure.receipt import Objects, Receipt, Watch, sealed, told
from ingester.store import dissolving
from ingester.store.blobs import Blobs
from ingester.store.db import Database
from ingester.store.objects import MissingExtra, ObjectsUnavailable
from ingester.store.registry import Tenant
from ingester.store.trash import empty, trashed

ROUNDS: Final = 5
"""How often the tables are emptied at most: an operator may have added something meanwhile."""

KEPT: Final = (
    "erased_tenants: the tenant's id and the time, so that objects which are found later can be deleted",
    "mail of other tenants that names addresses of this one",
    "what lies in buckets of your own (SES), in backups of the database, and in logs",
)


async def erase_tenant(
    database: Database,
    blobs: Blobs,
    tenant: Tenant,
    *,
    apply: bool,
    new_id: Callable[[], UUID],
    now: Callable[[], datetime],
    watch: Watch = lambda *_: None,
) -> Receipt:
    """Remove a tenant; without `apply` only say what would go. Raises what the database raises."""
    objects, complete = Objects(queued=0, left=0), False
    if apply:
        removed, objects, complete = await _remove(database, blobs, tenant.id, watch)
    else:
        async with database.connection() as connection:
            removed = await dissolving.count_rows(connection, tenant.id)
        objects = Objects(queued=removed["objects"], left=removed["objects"])
    return sealed(
        Receipt(
            id=new_id(),
            at=now(),
            applied=apply,
            complete=complete,
            tenants=(tenant.slug,),
            address=None,
            removed=told(removed, without=("objects",)),
            changed={},
            objects=objects,
            mentions=(),
            kept=KEPT,
        )
    )


async def _remove(
    database: Database, blobs: Blobs, tenant_id: UUID, watch: Watch
) -> tuple[Counter[str], Objects, bool]:
    removed: Counter[str] = Counter()
    async with database.connection() as connection:
        await dissolving.close_tenant(connection, tenant_id)
    for _ in range(ROUNDS):
        await _empty_tables(database, tenant_id, removed, watch)
        left = await _delete_objects(database, blobs, tenant_id)
        objects = Objects(queued=removed["objects"], left=left)
        if left:
            return removed, objects, False
        async with database.connection() as connection:
            if await dissolving.dissolve(connection, tenant_id):
                removed["tenants"] = 1
                return removed, objects, True
    return removed, objects, False


async def _empty_tables(database: Database, tenant_id: UUID, removed: Counter[str], watch: Watch) -> None:
    async with database.connection() as connection:
        async for gone in dissolving.empty_tables(connection, tenant_id):
            removed[gone.table] += gone.rows
            removed["objects"] += gone.objects
            watch(gone.table, gone.rows)


async def _delete_objects(database: Database, blobs: Blobs, tenant_id: UUID) -> int:
    """Delete the objects that the rows have named, and those that no row ever has. Gives how many are there still."""
    await empty(database, blobs)
    async with database.connection() as connection:
        left = await trashed(connection, tenant_id)
    if left or not blobs.on:
        return left
    try:
        stray = [one async for one in blobs.list(tenant_id)]
    except (ObjectsUnavailable, MissingExtra):
        return 1
    return sum(result is not None for result in await blobs.remove(stray))
