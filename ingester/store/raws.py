"""Reading raw mails, whole or by ranges, wherever each of them lies: in Postgres, an object store, or a segment."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from ingester.store.blobs import Blobs, Named
from ingester.store.db import Connection
from ingester.store.objects import ObjectMissing, ObjectTooLarge


class Raws:
    """Gives the bytes of stored mails. A part is a range."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def read(self, connection: Connection, tenant_id: UUID, raw_id: UUID) -> bytes:
        """A whole mail. Raises LookupError when it is gone, ObjectsUnavailable when its store is away."""
        row = await connection.fetchrow(
            "SELECT size, data, blob_key FROM raws WHERE tenant_id = $1 AND id = $2", tenant_id, raw_id
        )
        if row is None:
            raise LookupError("the raw mail is gone")
        if row["blob_key"] is None:
            return bytes(row["data"])
        size = row["size"]
        named = Named(tenant_id=tenant_id, raw_id=raw_id, url=row["blob_key"])
        data = await self._outside(connection, named, lambda one: self._blobs.read(one, max_bytes=size))
        if len(data) != size:
            raise LookupError("the object of the raw mail is shorter")
        return data

    async def read_range(
        self, connection: Connection, tenant_id: UUID, raw_id: UUID, offset: int, length: int
    ) -> bytes:
        """`length` bytes from `offset` on. Raises LookupError when they are gone, ObjectsUnavailable as above."""
        row = await connection.fetchrow(
            """
            SELECT blob_key, substring(data FROM $3::integer FOR $4::integer) AS piece
            FROM raws WHERE tenant_id = $1 AND id = $2
            """,
            tenant_id,
            raw_id,
            offset + 1,
            length,
        )
        if row is None:
            raise LookupError("the raw mail is gone")
        if row["blob_key"] is None:
            piece = bytes(row["piece"])
        else:
            named = Named(tenant_id=tenant_id, raw_id=raw_id, url=row["blob_key"])
            piece = await self._outside(connection, named, lambda one: self._blobs.read_range(one, offset, length))
        if len(piece) != length:
            raise LookupError("the raw mail is shorter")
        return piece

    async def _outside(self, connection: Connection, named: Named, read: Callable[[Named], Awaitable[bytes]]) -> bytes:
        """Read bytes that lie outside Postgres. They may be moved meanwhile: then they are where the row says now."""
        while True:
            try:
                return await read(named)
            except (ObjectMissing, ObjectTooLarge) as error:
                now = await connection.fetchval(
                    "SELECT blob_key FROM raws WHERE tenant_id = $1 AND id = $2", named.tenant_id, named.raw_id
                )
                if now is None or now == named.url:
                    raise LookupError("the object of the raw mail is gone or was changed") from error
                named = Named(tenant_id=named.tenant_id, raw_id=named.raw_id, url=now)
