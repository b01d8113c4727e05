"""The wall around a tenant: work for one tenant runs as a role to which row-level security shows that tenant alone.

Then a query that forgets its `WHERE tenant_id` sees nothing foreign, and a row with a foreign tenant cannot be written.
Role and tenant are set for one transaction, so that a pooler in transaction mode keeps them together, and the next user
of the connection finds neither. It is a second wall behind the queries, and none against SQL that a stranger writes:
who logged in as the runtime role can always go back to it.

Where nobody has built it (`ingester roles` was never run, or the daemon logs in as the owner of the tables), work runs
as it is.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import structlog

from ingester.store.db import Connection, Unavailable
from ingester.store.rights import TENANT_SETTING
from ingester.store.standing import standing

_log = structlog.get_logger(__name__)


class Wall:
    """One of a worker. The database is asked once whether there is one: who has built it restarts the daemons."""

    def __init__(self) -> None:
        self._known = False
        self._role: str | None = None

    @asynccontextmanager
    async def around(self, connection: Connection, tenant_id: UUID) -> AsyncIterator[None]:
        """A transaction within the wall, committed at the end. Raises Unavailable where it is there but barred."""
        if not self._known:
            self._role = await _role(connection)
            self._known = True
        if self._role is None:
            yield
            return
        async with connection.transaction():
            await self._enter(connection, self._role, tenant_id)
            yield

    async def _enter(self, connection: Connection, role: str, tenant_id: UUID) -> None:
        try:
            await connection.execute(
                "SELECT set_config('role', $1, true), set_config($2, $3, true)", role, TENANT_SETTING, str(tenant_id)
            )
        except asyncpg.PostgresError as error:
            # The role is gone, or may not be taken any more: the next call asks again how things stand.
            self._known = False
            raise Unavailable("API role") from error


async def _role(connection: Connection) -> str | None:
    """The role of the API, None where this connection's role is above the wall. Raises Unavailable."""
    we = await standing(connection)
    if we.bound and we.api is None:
        _log.error("the API's role cannot be taken, see `ingester roles`", role=we.role)
        raise Unavailable("API role")
    return we.api
