"""What becomes of a dead letter: it is locked, tried again, put away, and its receipts go to the messages it became."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ingester.core.address import parse_path
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.store.db import Connection
from ingester.store.documents import clean
from ingester.store.letters import Buried


def revive(buried: Buried, raw: bytes) -> Envelope:
    """The envelope of a buried mail, as it arrived. Routes are not kept: today's directory decides."""
    stored = buried.envelope
    addresses = [parse_path(text) for text in stored["recipients"]]
    return Envelope(
        door=Door(stored["door"]),
        raw=raw,
        mail_from=stored["envelope_from"],
        recipients=tuple(Recipient(address=address) for address in addresses if address is not None),
        client=Client(ip=stored["client_ip"] or "", helo=stored["helo"], tls=stored["tls"]),
        arrival_id=UUID(stored["arrival_id"]),
        received_at=datetime.fromisoformat(stored["received_at"]),
        flags=tuple(stored["flags"]),
        provider=stored["provider"],
        provider_event_id=stored["provider_event_id"],
        metadata=stored.get("metadata") or {},
        source=stored.get("source"),
    )


async def lock(connection: Connection, tenant_id: UUID, letter_id: UUID) -> bool:
    """Lock a dead letter for its redrive. False when it is not dead (any more)."""
    row = await connection.fetchrow(
        "SELECT state FROM dead_letters WHERE tenant_id = $1 AND id = $2 FOR UPDATE", tenant_id, letter_id
    )
    return row is not None and row["state"] == "dead"


async def release(connection: Connection, tenant_id: UUID, letter_id: UUID) -> None:
    """Give up the claims of a dead letter, so that the message can take them in the same transaction."""
    await connection.execute("DELETE FROM claims WHERE tenant_id = $1 AND dead_letter_id = $2", tenant_id, letter_id)


async def still_dead(connection: Connection, tenant_id: UUID, letter_id: UUID, *, detail: str, version: str) -> None:
    """Record a redrive in vain, and by which version. What another redrive has settled meanwhile stays settled."""
    await connection.execute(
        """
        UPDATE dead_letters SET attempts = attempts + 1, detail = $3, buried_by = $4
        WHERE tenant_id = $1 AND id = $2 AND state = 'dead'
        """,
        tenant_id,
        letter_id,
        detail,
        version,
    )


async def settle(
    connection: Connection,
    tenant_id: UUID,
    letter_id: UUID,
    *,
    state: str,
    by: str,
    tried: bool,
    why: str | None = None,
) -> None:
    """Put a letter that was locked away as `redriven` or `discarded`, whether it was `tried` again for that or not."""
    await connection.execute(
        """
        UPDATE dead_letters SET state = $3, attempts = attempts + $4::int, settled_at = now(), settled_by = $5, why = $6
        WHERE tenant_id = $1 AND id = $2
        """,
        tenant_id,
        letter_id,
        state,
        int(tried),
        clean(by),
        None if why is None else clean(why),
    )


async def erase_bytes(connection: Connection, tenant_id: UUID, letter_id: UUID) -> None:
    """Delete the bytes of a letter that became no message."""
    await connection.execute(
        """
        DELETE FROM raws r USING dead_letters d
        WHERE d.tenant_id = $1 AND d.id = $2 AND r.tenant_id = d.tenant_id AND r.id = d.raw_id
        """,
        tenant_id,
        letter_id,
    )


async def hand_over(connection: Connection, tenant_id: UUID, letter_id: UUID, new_id: Callable[[], UUID]) -> None:
    """Give the receipts of a letter to the messages that it has become, each to the one for its recipients.

    The first arrival has receipts of the messages' own by now, one a mailbox: they take the place of the letter's. A
    later one, a retry, may be for several mailboxes too: then it becomes several receipts.
    """
    await connection.execute(
        """
        WITH gone AS (
            DELETE FROM receipts WHERE tenant_id = $1 AND dead_letter_id = $2 AND NOT duplicate RETURNING arrival_id
        )
        UPDATE receipts r SET dead_letter_id = $2
        FROM gone WHERE r.tenant_id = $1 AND r.arrival_id = gone.arrival_id AND r.message_id IS NOT NULL
        """,
        tenant_id,
        letter_id,
    )
    rows = await connection.fetch(
        """
        SELECT id, message_id, envelope_to FROM receipts WHERE tenant_id = $1 AND dead_letter_id = $2 ORDER BY id
        """,
        tenant_id,
        letter_id,
    )
    own = {row["message_id"]: {*map(str.lower, row["envelope_to"])} for row in rows if row["message_id"] is not None}
    if not own:
        return
    shares = [
        {"id": row["id"], "new_id": row["id"] if n == 0 else new_id(), "message_id": message_id, "names": names}
        for row in rows
        if row["message_id"] is None
        for n, (message_id, names) in enumerate(_shares(own, row["envelope_to"]))
    ]
    await _share(connection, tenant_id, shares)


def _shares(own: Mapping[UUID, set[str]], names: Sequence[str]) -> list[tuple[UUID, list[str]]]:
    """Whose a receipt is, by its recipients; one that is nobody's (its mailbox is gone) stays with the first."""
    found = {
        message_id: [name for name in names if name.lower() in recipients] for message_id, recipients in own.items()
    }
    shares = [(message_id, mine) for message_id, mine in found.items() if mine] or [(next(iter(own)), [])]
    nobodys = [name for name in names if not any(name in mine for mine in found.values())]
    return [(message_id, [*mine, *(nobodys if n == 0 else ())]) for n, (message_id, mine) in enumerate(shares)]


async def _share(connection: Connection, tenant_id: UUID, shares: Sequence[Mapping[str, Any]]) -> None:
    if not shares:
        return
    # The copies first: they are made of the receipt as it was.
    await connection.execute(
        """
        INSERT INTO receipts
        SELECT x.* FROM jsonb_to_recordset($2::jsonb) AS s(id uuid, new_id uuid, message_id uuid, names text[])
        JOIN receipts r ON r.tenant_id = $1 AND r.id = s.id
        CROSS JOIN LATERAL jsonb_populate_record(
            r, jsonb_build_object('id', s.new_id, 'message_id', s.message_id, 'envelope_to', s.names)) AS x
        WHERE s.new_id <> s.id
        """,
        tenant_id,
        shares,
    )
    await connection.execute(
        """
        UPDATE receipts r SET message_id = s.message_id, envelope_to = s.names
        FROM jsonb_to_recordset($2::jsonb) AS s(id uuid, new_id uuid, message_id uuid, names text[])
        WHERE r.tenant_id = $1 AND r.id = s.id AND s.new_id = s.id
        """,
        tenant_id,
        shares,
    )


async def became(connection: Connection, tenant_id: UUID, letter_id: UUID) -> list[UUID]:
    """The messages that a letter has become."""
    rows = await connection.fetch(
        """
        SELECT message_id FROM receipts WHERE tenant_id = $1 AND dead_letter_id = $2 AND message_id IS NOT NULL
        GROUP BY message_id ORDER BY min(id::text)
        """,
        tenant_id,
        letter_id,
    )
    return [row["message_id"] for row in rows]
