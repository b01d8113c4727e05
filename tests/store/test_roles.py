"""The roles: everything that a daemon needs, nothing that it must not, made by an owner without great powers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from ingester.clock import new_id, now
from ingester.settings import load
from ingester.store import binaries, roles
from ingester.store.binaries import Binaries
from ingester.store.db import Database
from ingester.store.migrate import MIGRATIONS, migrate
from ingester.store.outbound import NewOutbound, register
from ingester.store.rights import RIGHTS, Rights
from ingester.store.roles import RolesError, apply_plan, plan
from ingester.store.scram import verifier
from ingester.store.standing import standing
from tests.daemon import settle
from tests.postgres import FAST, Cluster, _memory, _migrate, running
from tests.roles import PASSWORD, Walled, passing, remove, url_as

SECRETS = (b"a secret of at least 32 characters!!",)


@pytest.fixture
async def owner(walled: Walled) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(walled.owner)
    yield connection
    await connection.close()


@pytest.fixture
async def runtime(walled: Walled) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(walled.runtime)
    yield connection
    await connection.close()


# -- the list ---------------------------------------------------------------------------------------------------------


async def test_every_table_stands_in_the_list_with_the_column_that_names_its_tenant(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        """
        SELECT c.relname AS name, c.relkind::text AS kind,
               EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id') AS of_tenant
        FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind NOT IN ('i', 'I', 't', 'c')
        """
    )
    assert {row["kind"] for row in rows} == {"r"}, "a view or a sequence needs a thought in store/rights.py"
    found = {row["name"]: "tenant_id" if row["of_tenant"] else None for row in rows}
    assert found | {"tenants": "id"} == {name: rights.tenant for name, rights in RIGHTS.items()}


async def test_no_function_acts_as_its_owner(owner: asyncpg.Connection) -> None:
    """Everybody may call a function; one with its owner's rights would be a door in the wall."""
    names = await owner.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef ORDER BY 1"
    )
    assert names == []


# -- what it makes ----------------------------------------------------------------------------------------------------


async def test_every_table_of_a_tenant_is_guarded_by_the_same_two_policies(
    owner: asyncpg.Connection, walled: Walled
) -> None:
    """Asked of the catalog, not of our list: a table of a later migration that is forgotten fails here."""
    rows = await owner.fetch(
        """
        SELECT c.relname AS table, c.relrowsecurity AS guarded,
               ARRAY(SELECT (p.polname, p.polcmd, p.polpermissive, r.rolname,
                             pg_get_expr(p.polqual, p.polrelid), p.polwithcheck IS NULL)::text
                     FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles) WHERE p.polrelid = c.oid
                     ORDER BY p.polname) AS policies
        FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
          AND (c.relname = 'tenants'
               OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'))
        """
    )
    assert len(rows) >= 24
    assert [row["table"] for row in rows if not row["guarded"]] == []
    setting = "(NULLIF(current_setting('ingester.tenant'::text, true), ''::text))::uuid"
    for row in rows:
        column = "id" if row["table"] == "tenants" else "tenant_id"
        assert row["policies"] == [
            f'(ingester_api,*,t,{walled.api},"({column} = {setting})",t)',
            f"(ingester_runtime,*,t,{walled.role},true,t)",
        ], row["table"]


async def test_a_second_time_nothing_is_left_to_do(owner: asyncpg.Connection, walled: Walled) -> None:
    again = await plan(owner)
    assert (again.runtime, again.api) == (walled.role, walled.api), "the names in use are the default"
    assert again.admin == again.owner == again.remarks == ()


async def test_what_was_granted_by_hand_beyond_it_is_taken_back(owner: asyncpg.Connection, walled: Walled) -> None:
    await owner.execute(f"GRANT TRUNCATE ON claims TO {walled.role}; GRANT DELETE ON messages TO {walled.api}")
    await owner.execute("ALTER TABLE parts DISABLE ROW LEVEL SECURITY; DROP POLICY ingester_api ON receipts")
    again = await plan(owner)
    text = "\n".join(again.owner)
    assert f'REVOKE TRUNCATE ON public.claims FROM "{walled.role}";' in text
    assert f'REVOKE DELETE ON public.messages FROM "{walled.api}";' in text
    await apply_plan(owner, again)
    assert (await plan(owner)).owner == ()
    assert await owner.fetchval("SELECT bool_and(relrowsecurity) FROM pg_class WHERE relname IN ('parts', 'receipts')")


async def test_a_second_runtime_role_joins_the_first(owner: asyncpg.Connection, walled: Walled) -> None:
    """So that a login can be replaced without a gap."""
    with_two = f"{walled.role}_b"
    await apply_plan(owner, await plan(owner, runtime=with_two))
    try:
        roles_ = await owner.fetchval(
            "SELECT array_agg(r.rolname::text ORDER BY 1) FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles) "
            "WHERE p.polrelid = 'raws'::regclass AND p.polname = 'ingester_runtime'"
        )
        assert roles_ == [walled.role, with_two]
        assert (await plan(owner, runtime=walled.role)).owner == ()
    finally:
        await owner.execute(f"DROP OWNED BY {with_two}; DROP ROLE {with_two}")
    assert (await plan(owner, runtime=walled.role)).owner == ()


async def test_a_table_of_a_later_migration_is_cared_for_by_migrate(
    owner: asyncpg.Connection, walled: Walled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in MIGRATIONS.glob("*.sql"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "9000_news.sql").write_text("CREATE TABLE news (tenant_id uuid, id uuid, PRIMARY KEY (tenant_id, id))")
    for room in ("grants", "rights"):
        monkeypatch.setattr(f"ingester.store.{room}.RIGHTS", {**RIGHTS, "news": Rights(runtime="SI", api="S")})
    assert await migrate(owner, directory=tmp_path) == ["9000_news"]
    assert await owner.fetchval("SELECT relrowsecurity FROM pg_class WHERE relname = 'news'")
    privileges = "has_table_privilege($1, 'news', 'SELECT'), has_table_privilege($1, 'news', 'INSERT')"
    assert tuple(await owner.fetchrow(f"SELECT {privileges}", walled.role)) == (True, True)
    assert tuple(await owner.fetchrow(f"SELECT {privileges}", walled.api)) == (True, False)


async def test_without_roles_a_migration_guards_nothing(database_url: str) -> None:
    """Whoever has one role for everything notices nothing of all this."""
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relrowsecurity") == 0
    found = await standing(connection)
    await connection.close()
    assert (found.guarded, found.bound, found.api) == (False, False, None)


# -- what the roles may -----------------------------------------------------------------------------------------------

FORBIDDEN = (
    "DROP TABLE {}",
    "TRUNCATE {}",
    "ALTER TABLE {} ADD COLUMN extra integer",
    "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {} OWNER TO CURRENT_USER",
    "CREATE POLICY mine ON {} USING (true)",
    "CREATE INDEX ON {} ((1))",
    "CREATE TRIGGER mine AFTER DELETE ON {} EXECUTE FUNCTION directory_changed()",
)


async def test_the_runtime_role_can_change_no_table(owner: asyncpg.Connection, walled: Walled) -> None:
    """Nor can the API's; and both fail for want of a right, not for another reason."""
    for role in (walled.role, walled.api):
        await owner.execute(f"SET ROLE {role}")
        for name in RIGHTS:
            for statement in FORBIDDEN:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await owner.execute(statement.format(name))
        await owner.execute("RESET ROLE")


async def test_the_roles_have_on_each_table_what_the_list_says_and_no_more(
    owner: asyncpg.Connection, walled: Walled
) -> None:
    """Whatever the way by which a right came."""
    words = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}
    everything = (*words.values(), "TRUNCATE", "REFERENCES", "TRIGGER")
    for name, rights in RIGHTS.items():
        for role, letters in ((walled.role, rights.runtime), (walled.api, rights.api)):
            held = [one for one in everything if await _may(owner, role, name, one)]
            assert held == [words[letter] for letter in letters], (role, name)


async def _may(connection: asyncpg.Connection, role: str, table: str, privilege: str) -> bool:
    return bool(await connection.fetchval("SELECT has_table_privilege($1, $2, $3)", role, table, privilege))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (x integer)",
        "CREATE FUNCTION mine() RETURNS void LANGUAGE sql AS ''",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "ALTER SYSTEM SET fsync = off",
        "INSERT INTO schema_migrations VALUES (9999, 'mine', '')",
        "DELETE FROM schema_migrations",
        "SELECT * FROM pg_authid",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY messages TO PROGRAM 'cat'",
        "ALTER FUNCTION directory_changed() SECURITY DEFINER",
        "DROP OWNED BY ingester",
        "SET SESSION AUTHORIZATION ingester",
    ],
)
async def test_the_runtime_role_cannot(runtime: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await runtime.execute(statement)


async def test_without_a_tenant_the_api_sees_and_writes_no_row(owner: asyncpg.Connection, walled: Walled) -> None:
    """Each table is asked, those too that the API has no right on: that right is lent to it for the question."""
    tenants = await _fill(walled)
    full = await _counts(owner)
    assert full["messages"] == 2
    await owner.execute(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {walled.api}")
    await owner.execute(f"SET ROLE {walled.api}")
    for setting in ("RESET ingester.tenant", "SET ingester.tenant = ''", f"SET ingester.tenant = '{new_id()}'"):
        await owner.execute(setting)
        assert {name: count for name, count in (await _counts(owner)).items() if count} == {}, setting
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await owner.execute("INSERT INTO contacts VALUES ($1, $2, 'x', '', NULL, now())", tenants["acme"], new_id())
    await owner.execute("SET ingester.tenant = 'acme'")
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await owner.fetch("SELECT FROM messages")


async def test_with_a_tenant_the_api_sees_and_writes_only_that_one(owner: asyncpg.Connection, walled: Walled) -> None:
    tenants = await _fill(walled)
    full = await _counts(owner)
    own = {name: await owner.fetchval(_own(name), tenants["acme"]) for name in full}
    assert 0 < own["threads"] < full["threads"]
    await owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {walled.api}")
    await owner.execute(f"SET ROLE {walled.api}")
    await owner.execute(f"SET ingester.tenant = '{tenants['acme']}'")
    assert await _counts(owner) == own
    insert = "INSERT INTO contacts VALUES ($1, $2, 'x', '', NULL, now())"
    await owner.execute(insert, tenants["acme"], new_id())
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await owner.execute(insert, tenants["globex"], new_id())
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await owner.execute("UPDATE threads SET tenant_id = $1", tenants["globex"])
    assert await owner.execute("DELETE FROM messages") == f"DELETE {own['messages']}"
    await owner.execute("RESET ROLE")
    assert (await _counts(owner))["messages"] == full["messages"] - own["messages"]


def _own(name: str) -> str:
    return f"SELECT count(*) FROM {name} WHERE {RIGHTS[name].tenant} = $1"


async def _counts(connection: asyncpg.Connection) -> dict[str, int]:
    guarded = [name for name, rights in RIGHTS.items() if rights.tenant is not None]
    return {name: await connection.fetchval(f"SELECT count(*) FROM {name}") for name in guarded}


async def _fill(walled: Walled) -> dict[str, UUID]:
    """Two tenants with a message each."""
    town = await settle(walled.owner, {"acme.test": ("support",), "globex.test": ("support",)})
    rows = await town.fetch(
        """
        SELECT t.id, t.slug, m.id AS mailbox FROM tenants t JOIN mailboxes m ON m.tenant_id = t.id
        WHERE m.system IS NULL
        """
    )
    connection = await _prepared(walled.runtime)
    for row in rows:
        new = NewOutbound(tenant_id=row["id"], tenant_slug=row["slug"], mailbox_id=row["mailbox"], to=("a@b.test",))
        await register(connection, new, secrets=SECRETS, new_id=new_id, now=now())
    await connection.close()
    return {row["slug"]: row["id"] for row in rows}


async def _prepared(url: str) -> asyncpg.Connection:
    return await Database(load({}, env="development", database_url=url)).connect()


# -- what it costs ----------------------------------------------------------------------------------------------------

T, ONE, HASH = f"'{new_id()}'::uuid", f"'{UUID(int=1)}'::uuid", r"'\x00'::bytea"
HOT = (
    f"SELECT thread_id FROM thread_ids WHERE tenant_id = {T} AND mailbox_id = {ONE} AND id_hash = ANY (ARRAY[{HASH}])",
    f"SELECT FROM threads WHERE tenant_id = {T} AND id = ANY (ARRAY[{ONE}]) ORDER BY id FOR UPDATE",
    f"SELECT id FROM bearers({T}, {ONE}, {HASH})",
    f"UPDATE messages SET thread_id = {ONE} WHERE tenant_id = {T} AND id = {ONE} AND {HASH} <> ALL (cited_hashes)",
    f"DELETE FROM raws WHERE tenant_id = {T} AND id = {ONE}",
)


@pytest.mark.parametrize("statement", HOT, ids=lambda text: text.split()[0])
async def test_the_runtime_role_has_the_plans_of_the_owner(
    owner: asyncpg.Connection, walled: Walled, statement: str
) -> None:
    """The policy that shows it everything is folded away. That of the API is not: else this could not fail."""
    await owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {walled.api}; SET enable_seqscan = off")
    plans = []
    for role in ("NONE", walled.role, walled.api):
        await owner.execute(f"SET ROLE {role}")
        plans.append([row[0] for row in await owner.fetch(f"EXPLAIN (COSTS OFF) {statement}")])
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


# -- whoever makes them -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=binaries.find(), ids=lambda one: f"postgres{one.major}")
def any_server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each version that is here: since 16 CREATEROLE is another thing."""
    chosen: Binaries = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binaries, "find", lambda: [chosen])
        with running(FAST, place=_memory()) as cluster:
            yield cluster


@pytest.fixture
def managed(any_server: Cluster) -> Iterator[Cluster]:
    """A database as managed Postgres has it: its owner is no superuser, and may or may not make roles."""
    made = asyncio.run(_managed(any_server))
    yield made
    asyncio.run(remove(made.url, "ingester_runtime", "ingester_api"))
    any_server.execute("DROP DATABASE house WITH (FORCE)")
    any_server.execute("DROP ROLE landlord")


async def _managed(cluster: Cluster) -> Cluster:
    connection = await asyncpg.connect(cluster.url)
    await connection.execute(f"CREATE ROLE landlord LOGIN PASSWORD '{PASSWORD}'")
    await connection.execute("CREATE DATABASE house OWNER landlord")
    await connection.close()
    await _migrate(url_as(cluster.url_of("house"), "landlord"))
    return Cluster(server=cluster.server, url=cluster.url_of("house"))


@asynccontextmanager
async def as_landlord(cluster: Cluster) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url_as(cluster.url, "landlord"))
    yield connection
    await connection.close()


async def test_an_owner_who_may_make_roles_does_all_of_it(managed: Cluster) -> None:
    managed_admin = await asyncpg.connect(managed.url)
    await managed_admin.execute("ALTER ROLE landlord CREATEROLE")
    await managed_admin.close()
    async with as_landlord(managed) as connection:
        await apply_plan(connection, await plan(connection, verifier=verifier(PASSWORD, b"salt")))
        assert (await plan(connection)).owner == ()
        found = await standing(connection)
        assert (found.owner, found.bound, found.api, found.guarded) == (True, False, None, True), "it works as before"
    await _works(managed)


async def test_an_owner_who_may_not_tells_what_an_administrator_must_run(managed: Cluster) -> None:
    """And does the rest when that was done."""
    async with as_landlord(managed) as connection:
        with pytest.raises(RolesError, match="CREATEROLE") as caught:
            await apply_plan(connection, await plan(connection, verifier=verifier(PASSWORD, b"salt")))
        assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relrowsecurity") == 0
        script = str(caught.value).partition("\n")[2]
        assert PASSWORD not in script
        administrator = await asyncpg.connect(managed.url)
        await administrator.execute(script)
        await administrator.close()
        left = await plan(connection)
        assert left.admin == ()
        await apply_plan(connection, left)
    await _works(managed)


async def test_a_schema_where_everybody_may_create_is_closed(managed: Cluster) -> None:
    """As every schema was before Postgres 15, and is after an upgrade."""
    administrator = await asyncpg.connect(managed.url)
    await administrator.execute("GRANT CREATE ON SCHEMA public TO PUBLIC; REVOKE CONNECT ON DATABASE house FROM PUBLIC")
    await administrator.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
    await apply_plan(administrator, await plan(administrator, verifier=verifier(PASSWORD, b"salt")))
    await administrator.close()
    await _works(managed)


async def _works(cluster: Cluster) -> None:
    """The runtime role logs in, and registers a message within the wall."""
    connection = await asyncpg.connect(url_as(cluster.url, "ingester_runtime"))
    found = await standing(connection)
    await connection.close()
    assert (found.owner, found.may_create, found.bound, found.sees_all) == (False, False, True, True)
    assert (found.api, found.unguarded) == ("ingester_api", ())
    made = Walled(
        owner=cluster.url, runtime=url_as(cluster.url, "ingester_runtime"), role="ingester_runtime", api="ingester_api"
    )
    assert len(await _fill(made)) == 2


# -- what it refuses --------------------------------------------------------------------------------------------------


async def test_it_waits_for_a_busy_table_and_gives_up_in_the_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(roles, "LOCK_SECONDS", 1)
    reader, connection = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    async with passing(database_url, "busy_runtime", "busy_api"):
        async with reader.transaction():
            await reader.fetch("SELECT FROM parts")
            with pytest.raises(RolesError, match="busy"):
                await apply_plan(connection, await plan(connection, runtime="busy_runtime", api="busy_api"))
        assert not connection.is_in_transaction()
        await apply_plan(connection, await plan(connection, runtime="busy_runtime", api="busy_api"))
        await reader.close()
        await connection.close()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("CREATE ROLE bad_one LOGIN SUPERUSER", "may act as"),
        ("CREATE ROLE bad_one LOGIN BYPASSRLS", "BYPASSRLS"),
        ("CREATE ROLE bad_one LOGIN CREATEROLE", "CREATEROLE"),
        ("CREATE ROLE bad_one LOGIN IN ROLE ingester", "may act as"),
    ],
)
async def test_a_role_for_which_rights_are_no_limit_is_refused(database_url: str, made: str, says: str) -> None:
    connection = await asyncpg.connect(database_url)
    async with passing(database_url, "bad_one"):
        await connection.execute(made)
        with pytest.raises(RolesError, match=says):
            await plan(connection, runtime="bad_one")
        with pytest.raises(RolesError, match=r"SUPERUSER|BYPASSRLS|CREATEROLE|whose rows it sees"):
            await plan(connection, api="bad_one")
    await connection.close()


async def test_other_refusals(walled: Walled, empty_database_url: str) -> None:
    runtime, owner = await asyncpg.connect(walled.runtime), await asyncpg.connect(walled.owner)
    empty = await asyncpg.connect(empty_database_url)
    with pytest.raises(RolesError, match="The tables belong to ingester"):
        await plan(runtime)
    with pytest.raises(RolesError, match="cannot be both"):
        await plan(owner, runtime=walled.api)
    with pytest.raises(RolesError, match=f"is {walled.api} already"):
        await plan(owner, api="another_api")
    with pytest.raises(RolesError, match="ingester migrate"):
        await plan(empty)
    for one in (runtime, owner, empty):
        await one.close()


async def test_it_tells_whom_it_locks_out_and_who_has_more(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    async with passing(database_url, "reader", "helper", "remarked"):
        await connection.execute("CREATE ROLE reader; GRANT SELECT ON messages TO reader; CREATE ROLE helper")
        await connection.execute("CREATE ROLE remarked LOGIN IN ROLE helper")
        first, second = (await plan(connection, runtime="remarked")).remarks
    await connection.close()
    assert first.startswith("remarked is a member of helper too")
    assert second.startswith("reader has rights on tables but will see no row")


async def test_who_writes_mail_is_not_locked_out(database_url: str) -> None:
    """A daemon of a role with hand-made rights would find no mailbox, and refuse everything for good."""
    connection = await asyncpg.connect(database_url)
    async with passing(database_url, "by_hand"):
        await connection.execute("CREATE ROLE by_hand LOGIN; GRANT SELECT, INSERT ON messages TO by_hand")
        with pytest.raises(RolesError, match="by_hand may write mail"):
            await plan(connection)
        assert (await plan(connection, runtime="by_hand")).owner
    await connection.close()


async def test_it_tells_who_else_may_become_the_api(walled: Walled, database_url: str) -> None:
    """Such as the daemon of another database of the server, which could read here."""
    connection = await asyncpg.connect(database_url)
    async with passing(database_url, "other_daemon"):
        await connection.execute(f"CREATE ROLE other_daemon LOGIN IN ROLE {walled.api}")
        (remark,) = (await plan(connection)).remarks
    await connection.close()
    assert remark.startswith(f"other_daemon may become {walled.api} too")
