"""The backlog of dead letters: how many wait for somebody, and since when. Asked every few seconds by every worker."""

from dataclasses import dataclass

from ingester.store.db import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Dead letters in the state `dead`, of all tenants. `oldest_seconds` is 0 without any."""

    letters: int
    oldest_seconds: float


async def backlog(connection: Connection) -> Backlog:
    """Count them: an index holds these alone, so that it costs nothing where there are none, though there were many."""
    row = await connection.fetchrow(
        """
        SELECT count(*) AS letters, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest
        FROM dead_letters WHERE state = 'dead'
        """
    )
    assert row is not None
    return Backlog(letters=row["letters"], oldest_seconds=max(0.0, row["oldest"]))
