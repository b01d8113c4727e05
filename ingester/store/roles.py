"""Two roles beside the owner of the tables: what a database lacks for them, as SQL, and doing it.

What an administrator of roles must do (make them, let the one take the other) is apart from what the owner of the
tables does (rights, policies), so that neither needs to be a superuser: managed Postgres gives nobody that. Doing it
again changes nothing. No lock is held or waited for longer than a moment, one table at a time: daemons go on meanwhile.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from ingester.store.db import Connection
from ingester.store.grants import Ground, Role, ground_of, roles_of, tables_of
from ingester.store.rights import (
    API_ROLE,
    LOCK_SECONDS,
    RUNTIME_ROLE,
    Table,
    grant_statements,
    guard_statements,
    quoted,
)

BUSY_SECONDS: Final = 60.0
"""How long a table that others use is tried."""
_PAUSE_SECONDS: Final = 0.5


class RolesError(Exception):
    """It cannot be done; the text says why, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Scripts of SQL, each one transaction: for an administrator of roles, and for the owner of the tables."""

    runtime: str
    api: str
    admin: tuple[str, ...]
    owner: tuple[str, ...]
    remarks: tuple[str, ...]
    """What an operator should know; none of it is changed."""


async def plan(
    connection: Connection, *, runtime: str | None = None, api: str | None = None, verifier: str | None = None
) -> Plan:
    """What the database lacks. The names are by default those in use, else the usual ones.

    `verifier` is a new password of the runtime role, in SCRAM's form. Raises RolesError.
    """
    ground = await ground_of(connection)
    if ground is None:
        raise RolesError("There are no tables yet: run `ingester migrate` first")
    name = runtime or (ground.runtime[0] if len(ground.runtime) == 1 else RUNTIME_ROLE)
    api_name = api or ground.api or API_ROLE
    if ground.api not in (None, api_name):
        raise RolesError(f"The API's role of this database is {ground.api} already")
    if name == api_name:
        raise RolesError(f"{name} cannot be both: who logs in, and what the API becomes for a tenant")
    first, second = await roles_of(connection, ground, [name, api_name], api_name)
    _check(first, second, ground)
    tables = await tables_of(connection, ground.schema)
    _check_writers(tables, {*ground.runtime, name, api_name})
    return Plan(
        runtime=name,
        api=api_name,
        admin=_admin_scripts(first, second, ground, verifier),
        owner=await _owner_scripts(connection, ground, tables, {*ground.runtime, name}, api_name),
        remarks=_remarks(first, second, ground, tables),
    )


async def apply_plan(connection: Connection, one: Plan) -> None:
    """Do it and look whether it took. Raises RolesError, which names the SQL where an administrator must run it."""
    try:
        for script in one.admin:
            await run(connection, script)
    except asyncpg.InsufficientPrivilegeError as error:
        raise RolesError(
            "Your role may not make or change roles (CREATEROLE). Let somebody run this who may, then try again:\n"
            + "\n".join(one.admin)
        ) from error
    for script in one.owner:
        await run(connection, script)
    left = await plan(connection, runtime=one.runtime, api=one.api)
    if left.admin or left.owner:
        raise RolesError("The database did not take all of it:\n" + "\n".join(left.admin + left.owner))


async def renew(connection: Connection) -> None:
    """Give new tables what old ones have, where roles are in use; whoever migrates does it, as the owner.

    Raises RolesError when a table is busy for too long.
    """
    ground = await ground_of(connection)
    if ground is None or not ground.owned or ground.api is None or not ground.runtime:
        return
    tables = await tables_of(connection, ground.schema)
    for script in await _owner_scripts(connection, ground, tables, set(ground.runtime), ground.api):
        await run(connection, script)


async def run(connection: Connection, script: str) -> None:
    """Run one of a plan's scripts, again while a table is busy. Raises RolesError, and what the database raises."""
    end = asyncio.get_running_loop().time() + BUSY_SECONDS
    while True:
        try:
            await connection.execute(script)
        except asyncpg.LockNotAvailableError as error:
            await connection.execute("ROLLBACK")
            if asyncio.get_running_loop().time() > end:
                raise RolesError(
                    f"A table has been busy for {BUSY_SECONDS:.0f} s: look for long transactions in pg_stat_activity"
                ) from error
            await asyncio.sleep(_PAUSE_SECONDS)
        except asyncpg.PostgresError:
            await connection.execute("ROLLBACK")
            raise
        else:
            return


# -- what it lacks ----------------------------------------------------------------------------------------------------


def _check(runtime: Role, api: Role, ground: Ground) -> None:
    """Raises RolesError where rights on tables would be no limit for these roles."""
    if not ground.owned:
        raise RolesError(f"The tables belong to {ground.owner}: run this with a database URL of that role")
    if runtime.owner:
        raise RolesError(f"{runtime.name} may act as {ground.owner}, who owns the tables: take another --runtime")
    for role in (runtime, api):
        if role.powers:
            raise RolesError(f"{role.name} has {', '.join(role.powers)}, which goes before all rights: take them away")
    if api.memberships:
        raise RolesError(f"{api.name} is a member of {', '.join(api.memberships)}, whose rows it sees: take that away")
    if api.can_login:
        raise RolesError(f"{api.name} can log in, which the API's role must not: take another --api")


def _check_writers(tables: Sequence[Table], ours: set[str]) -> None:
    """Raises RolesError where a daemon may be running as a role that would see no row from then on."""
    writers = sorted(
        {
            role
            for table in tables
            for role, privileges in table.grants.items()
            if table.name == "messages" and "INSERT" in privileges
        }
        - ours
    )
    if writers:
        raise RolesError(
            f"{', '.join(writers)} may write mail and would see no row any more: say --runtime {writers[0]} for the "
            "role of your daemons, or revoke its rights first"
        )


def _admin_scripts(runtime: Role, api: Role, ground: Ground, verifier: str | None) -> tuple[str, ...]:
    statements: list[str] = []
    password = "" if verifier is None else f" PASSWORD '{verifier}'"
    who, role = quoted(runtime.name), quoted(api.name)
    if not runtime.exists:
        statements.append(f"CREATE ROLE {who} LOGIN{password};")
    elif password or not runtime.can_login:
        statements.append(f"ALTER ROLE {who} LOGIN{password};")
    if not api.exists:
        statements.append(f"CREATE ROLE {role} NOLOGIN;")
    if not runtime.takes:
        # Since 16 it can be said that the rights are had only by taking the role.
        statements.append(
            f"GRANT {role} TO {who}{' WITH INHERIT FALSE, SET TRUE' if ground.version >= 160000 else ''};"
        )
    if not runtime.connects:
        statements.append(f"GRANT CONNECT ON DATABASE {quoted(ground.database)} TO {who};")
    if not (runtime.uses and api.uses):
        statements.append(f"GRANT USAGE ON SCHEMA {quoted(ground.schema)} TO {who}, {role};")
    if runtime.creates or api.creates:
        # As it was by default before Postgres 15.
        statements.append(f"REVOKE CREATE ON SCHEMA {quoted(ground.schema)} FROM PUBLIC, {who}, {role};")
    return (_script(statements),) if statements else ()


async def _owner_scripts(
    connection: Connection, ground: Ground, tables: Sequence[Table], runtime: set[str], api: str
) -> tuple[str, ...]:
    """Rights first: whoever is let in by a policy has them already."""
    rights = grant_statements(tables, {*runtime, api}, api) + await _function_grants(connection, ground, runtime, api)
    guards = [guard_statements(table, runtime, api) for table in tables]
    return tuple(_script(statements) for statements in (rights, *guards) if statements)


async def _function_grants(connection: Connection, ground: Ground, runtime: set[str], api: str) -> list[str]:
    """Functions are everybody's by default; not so where an administrator has changed the defaults."""
    rows = await connection.fetch(
        """
        SELECT p.oid::regprocedure::text AS name, array_agg(w.role ORDER BY w.role) AS roles
        FROM pg_proc p CROSS JOIN unnest($1::text[]) AS w(role) LEFT JOIN pg_roles r ON r.rolname = w.role
        WHERE p.pronamespace = $2::regnamespace AND pg_get_userbyid(p.proowner) = $3
          AND NOT has_function_privilege(coalesce(r.rolname, 'public'), p.oid, 'EXECUTE')
        GROUP BY 1 ORDER BY 1
        """,
        [*runtime, api],
        quoted(ground.schema),
        ground.owner,
    )
    return [f"GRANT EXECUTE ON FUNCTION {row['name']} TO {', '.join(map(quoted, row['roles']))};" for row in rows]


def _script(statements: Sequence[str]) -> str:
    return "\n".join(["BEGIN;", f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s';", *statements, "COMMIT;"])


def _remarks(runtime: Role, api: Role, ground: Ground, tables: Sequence[Table]) -> tuple[str, ...]:
    found = []
    if runtime.memberships:
        found.append(
            f"{runtime.name} is a member of {', '.join(runtime.memberships)} too, and has those rights as well"
        )
    ours = {runtime.name, api.name, *ground.runtime}
    if takers := ", ".join(sorted({*api.takers} - ours)):
        found.append(
            f"{takers} may become {api.name} too: if that is another database's, take an --api of its own here"
        )
    others = sorted({role for table in tables for role in table.grants} - ours)
    if others:
        found.append(f"{', '.join(others)} has rights on tables but will see no row of a tenant: no policy names it")
    return tuple(found)
