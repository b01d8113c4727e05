"""Reading raw mails, whole or by ranges, wherever each of them lies: in Postgres or in an object store."""

from uuid import UUID

from ingester.store.blobs import Blobs
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
        try:
            data = await self._blobs.read(row["blob_key"], max_bytes=row["size"])
        except (ObjectMissing, ObjectTooLarge) as error:
            raise LookupError("the object of the raw mail is gone or was changed") from error
        if len(data) != row["size"]:
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
            try:
                piece = await self._blobs.read_range(row["blob_key"], offset, length)
            except ObjectMissing as error:
                raise LookupError("the object of the raw mail is gone or was changed") from error
        if len(piece) != length:
            raise LookupError("the raw mail is shorter")
        return piece
