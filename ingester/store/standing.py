"""What this connection's role is and may in the database: facts, for whoever acts on them or tells the operator."""

from dataclasses import dataclass

from ingester.store.db import Connection
from ingester.store.rights import API_POLICY, RIGHTS, RUNTIME_POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`role` is who the connection is. All is false and empty where the schema is not there yet."""

    role: str
    superuser: bool
    owner: bool
    """It owns the tables, or may act as their owner: it could drop them."""
    may_create: bool
    """It may make tables in the schema."""
    guarded: bool
    """`ingester roles --apply` was run here: row-level security is on."""
    bound: bool
    """Row-level security counts for this role: it is neither the owner nor above it."""
    sees_all: bool
    """It is a runtime role of this database: the policy for those names it."""
    api: str | None
    """The role that a connection takes for the API, where this one may."""
    unguarded: tuple[str, ...]
    """Tables of tenants without row-level security."""


async def standing(connection: Connection) -> Standing:
    """Ask the catalog; a few milliseconds."""
    row = await connection.fetchrow(
        """
        SELECT current_user AS role, u.rolsuper AS superuser,
               coalesce(pg_has_role(u.oid, c.relowner, 'MEMBER'), false) AS owner,
               coalesce(has_schema_privilege(c.relnamespace, 'CREATE'), false) AS may_create,
               coalesce(c.relrowsecurity, false) AS guarded, coalesce(row_security_active(c.oid), false) AS bound,
               EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = $1
                       AND u.oid = ANY (p.polroles)) AS sees_all,
               (SELECT r.rolname FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles)
                WHERE p.polrelid = c.oid AND p.polname = $2
                  -- Since 16 a member may be one that must not take the role.
                  AND pg_has_role(u.oid, r.oid, CASE WHEN current_setting('server_version_num')::integer >= 160000
                                                     THEN 'SET' ELSE 'MEMBER' END) LIMIT 1) AS api,
               ARRAY(SELECT t.relname FROM pg_class t
                     WHERE t.relnamespace = c.relnamespace AND t.relname = ANY ($3) AND NOT t.relrowsecurity
                     ORDER BY t.relname) AS unguarded
        FROM pg_roles u LEFT JOIN pg_class c ON c.oid = to_regclass('messages')
        WHERE u.rolname = current_user
        """,
        RUNTIME_POLICY,
        API_POLICY,
        [name for name, rights in RIGHTS.items() if rights.tenant is not None],
    )
    assert row is not None  # everybody is in pg_roles
    return Standing(**{**dict(row), "unguarded": tuple(row["unguarded"])})
