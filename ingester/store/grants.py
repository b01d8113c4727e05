"""What the database says of roles and of our tables: who is who, who may do what, which rows are guarded for whom."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingester.store.db import Connection
from ingester.store.rights import API_POLICY, RIGHTS, RUNTIME_POLICY, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where the tables are and for whom they were set up before."""

    database: str
    schema: str
    owner: str
    owned: bool
    """Whoever is connected may act as the owner."""
    version: int
    runtime: tuple[str, ...]
    api: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role as it is, or, where it does not exist, what it would have as everybody has."""

    name: str
    exists: bool
    can_login: bool
    powers: tuple[str, ...]
    """What goes before every right: SUPERUSER, BYPASSRLS and the like."""
    owner: bool
    """It may act as the owner of the tables."""
    connects: bool
    uses: bool
    creates: bool
    """In the schema."""
    memberships: tuple[str, ...]
    takes: bool
    """It may take the API's role."""
    takers: tuple[str, ...]
    """Who may log in and take this one, but for superusers."""


async def ground_of(connection: Connection) -> Ground | None:
    """None where there is no schema yet."""
    row = await connection.fetchrow(
        """
        SELECT current_database() AS database, n.nspname AS schema, pg_get_userbyid(c.relowner) AS owner,
               pg_has_role(c.relowner, 'USAGE') AS owned, current_setting('server_version_num')::integer AS version,
               ARRAY(SELECT r.rolname FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles)
                     WHERE p.polrelid = c.oid AND p.polname = $1 ORDER BY r.rolname) AS runtime,
               (SELECT r.rolname FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles)
                WHERE p.polrelid = c.oid AND p.polname = $2 LIMIT 1) AS api
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('messages')
        """,
        RUNTIME_POLICY,
        API_POLICY,
    )
    return None if row is None else Ground(**{**dict(row), "runtime": tuple(row["runtime"])})


async def roles_of(connection: Connection, ground: Ground, names: Sequence[str], api: str) -> list[Role]:
    """These roles, whether they exist or not; `api` is the role that they may be able to take."""
    rows = await connection.fetch(
        """
        SELECT w.name, r.oid IS NOT NULL AS exists, coalesce(r.rolcanlogin, false) AS can_login,
               array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
                                  CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
                                  CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
                                  CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
                                  CASE WHEN r.rolreplication THEN 'REPLICATION' END], NULL) AS powers,
               coalesce(pg_has_role(r.oid, o.oid, 'MEMBER'), false) AS owner,
               has_database_privilege(coalesce(r.rolname, 'public'), current_database(), 'CONNECT') AS connects,
               has_schema_privilege(coalesce(r.rolname, 'public'), $2, 'USAGE') AS uses,
               has_schema_privilege(coalesce(r.rolname, 'public'), $2, 'CREATE') AS creates,
               ARRAY(SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                     WHERE m.member = r.oid AND g.rolname <> $4 ORDER BY g.rolname) AS memberships,
               -- Since 16 a member may be one that must not take the role.
               coalesce(pg_has_role(r.oid, a.oid, CASE WHEN $5 >= 160000 THEN 'SET' ELSE 'MEMBER' END), false) AS takes,
               ARRAY(SELECT u.rolname FROM pg_roles u
                     WHERE u.rolcanlogin AND NOT u.rolsuper AND u.oid <> r.oid
                       AND pg_has_role(u.oid, r.oid, CASE WHEN $5 >= 160000 THEN 'SET' ELSE 'MEMBER' END)
                     ORDER BY u.rolname) AS takers
        FROM unnest($1::text[]) WITH ORDINALITY AS w(name, n)
        JOIN pg_roles o ON o.rolname = $3
        LEFT JOIN pg_roles r ON r.rolname = w.name LEFT JOIN pg_roles a ON a.rolname = $4
        ORDER BY w.n
        """,
        names,
        ground.schema,
        ground.owner,
        api,
        ground.version,
    )
    lists = ("powers", "memberships", "takers")
    return [Role(**{**dict(row), **{name: tuple(row[name]) for name in lists}}) for row in rows]


async def tables_of(connection: Connection, schema: str) -> list[Table]:
    """Our tables as they are, in the order of the list of rights."""
    rows = await connection.fetch(
        """
        SELECT c.relname AS name, c.relrowsecurity AS guarded,
               ARRAY(SELECT p.polname || ' ' || r.rolname FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles)
                     WHERE p.polrelid = c.oid AND p.polname = ANY ($3)) AS policies,
               ARRAY(SELECT pg_get_userbyid(a.grantee) || ' ' || a.privilege_type FROM aclexplode(c.relacl) a
                     WHERE a.grantee NOT IN (0, c.relowner)) AS grants
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p')
        ORDER BY array_position($2, c.relname::text)
        """,
        schema,
        list(RIGHTS),
        [RUNTIME_POLICY, API_POLICY],
    )
    return [
        Table(
            schema=schema,
            name=row["name"],
            guarded=row["guarded"],
            policies=_gathered(one.partition(" ") for one in row["policies"]),
            grants=_gathered(one.rpartition(" ") for one in row["grants"]),
        )
        for row in rows
    ]


def _gathered(pairs: Iterable[tuple[str, str, str]]) -> dict[str, frozenset[str]]:
    """What stands behind each first word; the middle is the blank."""
    found: dict[str, set[str]] = {}
    for name, _, one in pairs:
        found.setdefault(name, set()).add(one)
    return {name: frozenset(ones) for name, ones in found.items()}
