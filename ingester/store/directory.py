"""The directory: which mailbox an address reaches. Cached in the process, invalidated by notification.

Only a yes is cached. A no is always asked of Postgres, so that a mailbox added a second ago receives (design page,
RCPT).
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog

from ingester.core.address import Address
from ingester.core.envelope import Route, RouteKind
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.outcome import Reason, Refusal
from ingester.core.rules import Status, status_gate
from ingester.core.token import Token, token_in_local_part, verify
from ingester.store.db import Connection, Database, Trouble, Unavailable, classify, is_pooled

CHANNEL = "ingester_directory"
CACHE_LIMIT = 100_000
"""Routes kept; beyond it the cache starts anew."""
RECONNECT_SECONDS = 2.0
LOOKUP_SECONDS = 5.0
"""How long one try may take when the server hangs: well within a sender's patience (RFC 5321, 4.5.3.2.3)."""
WATCH_SECONDS = 30.0
"""How often the notification connection is tried: a silently dead one leaves the cache stale no longer."""

_log = structlog.get_logger(__name__)

_BARE_POSTMASTER = Route(
    tenant_id=SYSTEM_TENANT,
    mailbox_id=SYSTEM_TENANT,
    domain="",
    kind=RouteKind.EXACT,
    tag=None,
    policy="monitor",
)
"""`postmaster` without a domain (RFC 5321, 4.5.1): the system tenant's mailbox, made by the first migration."""


async def lookup(
    connection: Connection, address: Address, now: datetime, secrets: Sequence[bytes] = ()
) -> tuple[UUID, Route | Refusal]:
    """Ask Postgres. The tenant beside the answer is whom a refusal belongs to.

    Order: a reply token; exact, alias, both for the whole local part before its base without the plus-tag; then the
    system mailbox for postmaster and abuse; then catch_all.
    """
    if not address.domain:
        return SYSTEM_TENANT, _BARE_POSTMASTER
    token = token_in_local_part(address.local)
    if token is not None:
        return await _lookup_token(connection, address, token, now, secrets)
    base, tag = address.split_tag()
    row = await connection.fetchrow(
        """
        SELECT d.tenant_id, d.status = 'verified' AS verified, m.id AS mailbox_id, r.kind, r.local_part,
               mailbox_policy(m) AS policy,
               t.status = 'active' AS tenant_active, m.status = 'active' AS mailbox_active,
               CASE WHEN t.status = 'active' THEN m.status_since ELSE t.status_since END AS suspended_since
        FROM domains d
        JOIN tenants t ON t.id = d.tenant_id
        LEFT JOIN LATERAL (
            SELECT x.mailbox_id, x.kind, x.local_part,
                   CASE WHEN x.kind = 'catch_all' THEN 5
                        ELSE (x.local_part <> $2)::integer * 2 + (x.kind = 'alias')::integer END AS rank
            FROM routes x
            WHERE x.tenant_id = d.tenant_id AND x.domain = d.name AND x.local_part IN ($2, $3, '')
            UNION ALL
            SELECT s.id, 'exact', s.local_part, 4
            FROM mailboxes s
            WHERE s.tenant_id = d.tenant_id AND s.domain = d.name AND s.system = 'postmaster'
              AND $2 IN ('postmaster', 'abuse')
            ORDER BY rank LIMIT 1
        ) r ON true
        LEFT JOIN mailboxes m ON m.tenant_id = d.tenant_id AND m.id = r.mailbox_id
        WHERE d.name = $1
        ORDER BY d.status = 'verified' DESC, d.created_at LIMIT 1
        """,
        address.domain,
        address.key,
        base,
    )
    if row is None:
        return SYSTEM_TENANT, await _unknown_domain(connection)
    tenant_id: UUID = row["tenant_id"]
    if row["verified"] and row["mailbox_id"] is None:
        return tenant_id, Refusal(reason=Reason.UNKNOWN_MAILBOX)
    refusal = status_gate(
        Status(
            tenant_active=row["tenant_active"],
            domain_verified=row["verified"],
            mailbox_active=row["mailbox_active"] is not False,
            suspended_since=row["suspended_since"],
        ),
        now,
    )
    if refusal is not None:
        return tenant_id, refusal
    tagged = tag is not None and row["local_part"] != address.key
    return tenant_id, Route(
        tenant_id=tenant_id,
        mailbox_id=row["mailbox_id"],
        domain=address.domain,
        kind=RouteKind(row["kind"]),
        tag=tag if tagged else None,
        policy=row["policy"],
    )


async def _unknown_domain(connection: Connection) -> Refusal:
    """A no, from whoever can tell. Raises Unavailable where row-level security hides everything from our role.

    Somebody has run `ingester roles` for another role than ours: all mail would be refused for good.
    """
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM tenants WHERE id = $1)", SYSTEM_TENANT):
        _log.error("our role sees no tenant, see `ingester roles`")
        raise Unavailable("no tenant to be seen")
    return Refusal(reason=Reason.UNKNOWN_DOMAIN)


async def _lookup_token(
    connection: Connection, address: Address, token: Token, now: datetime, secrets: Sequence[bytes]
) -> tuple[UUID, Route | Refusal]:
    """Where a token-shaped recipient goes: to its outbound message's mailbox, else where the domain keeps false ones.

    Forged and foreign tokens cost the same as true ones: this one query and an HMAC a secret, found or not.
    """
    row = await connection.fetchrow(
        """
        SELECT d.tenant_id, t.slug, d.status = 'verified' AS verified, d.invalid_tokens = 'refuse' AS refuse,
               t.status = 'active' AS tenant_active, t.status_since AS tenant_since,
               m.id, m.status = 'active' AS active, m.status_since AS since, mailbox_policy(m) AS policy,
               r.id AS reply_id, mailbox_policy(r) AS reply_policy
        FROM domains d
        JOIN tenants t ON t.id = d.tenant_id
        LEFT JOIN messages o ON o.tenant_id = d.tenant_id AND o.id = $2 AND o.direction = 'outbound'
                            AND o.reply_domain = d.name AND coalesce(o.token_expires_at > $3, true)
        LEFT JOIN mailboxes m ON m.tenant_id = d.tenant_id AND m.id = o.mailbox_id
        LEFT JOIN mailboxes r ON r.tenant_id = d.tenant_id AND r.domain = d.name AND r.system = 'reply'
        WHERE d.name = $1
        ORDER BY d.status = 'verified' DESC, d.created_at LIMIT 1
        """,
        address.domain,
        token.id,
        now,
    )
    signed = verify(token, secrets, tenant=row["slug"] if row else "", domain=address.domain)
    if row is None:
        return SYSTEM_TENANT, await _unknown_domain(connection)
    tenant_id: UUID = row["tenant_id"]
    true = signed and row["id"] is not None
    refusal = status_gate(
        Status(
            tenant_active=row["tenant_active"],
            domain_verified=row["verified"],
            mailbox_active=not true or row["active"],
            suspended_since=row["since"] if row["tenant_active"] else row["tenant_since"],
        ),
        now,
    )
    if refusal is None and not true and (row["refuse"] or row["reply_id"] is None):
        refusal = Refusal(reason=Reason.UNKNOWN_MAILBOX)
    if refusal is not None:
        return tenant_id, refusal
    return tenant_id, Route(
        tenant_id=tenant_id,
        mailbox_id=row["id"] if true else row["reply_id"],
        domain=address.domain,
        kind=RouteKind.TOKEN,
        tag=None,
        policy=row["policy"] if true else row["reply_policy"],
        answers=token.id if true else None,
    )


class Directory:
    """The cache in front of `lookup`, one per process. `secrets` are those of the reply tokens."""

    def __init__(self, database: Database, secrets: Sequence[bytes] = ()) -> None:
        self._database = database
        self._secrets = secrets
        self._routes: dict[Address, Route] = {}
        self._asking: dict[Address, asyncio.Task[tuple[UUID, Route | Refusal]]] = {}
        self._abandoned: set[asyncio.Task[tuple[UUID, Route | Refusal]]] = set()
        self._followed = False
        self._generation = 0
        self._follower: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._routes)

    def start(self) -> None:
        """Follow the notifications. Until they are followed nothing is cached."""
        self._follower = asyncio.create_task(self._follow(), name="directory")

    async def stop(self) -> None:
        """Stop following."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)

    def known(self, address: Address) -> Route | None:
        """The cached yes, if there is one; no I/O."""
        return self._routes.get(address)

    async def resolve(self, address: Address, now: datetime) -> tuple[UUID, Route | Refusal]:
        """The cached yes, else Postgres's answer, asked once however many wait for it. Raises Unavailable."""
        route = self._routes.get(address)
        if route is not None:
            return route.tenant_id, route
        task = self._asking.get(address)
        if task is None:
            task = self._asking[address] = asyncio.create_task(self._ask(address, now))
            task.add_done_callback(lambda _: self._asking.pop(address, None))
        return await asyncio.shield(task)

    async def _ask(self, address: Address, now: datetime) -> tuple[UUID, Route | Refusal]:
        generation = self._generation
        look = asyncio.create_task(self._look(address, now))
        await asyncio.wait({look}, timeout=LOOKUP_SECONDS)
        if not look.done():
            # Not awaited: asyncpg takes a connection back only when the server has answered the cancellation.
            self._abandoned.add(look)
            look.add_done_callback(self._drop)
            look.cancel()
            raise Unavailable("directory")
        try:
            tenant_id, answer = look.result()
        except Exception as error:
            raise Unavailable("directory") from error
        fresh = self._followed and generation == self._generation
        # A token comes once, and expires: there is no use in keeping it.
        if isinstance(answer, Route) and answer.kind is not RouteKind.TOKEN and fresh:
            if len(self._routes) >= CACHE_LIMIT:
                self._routes.clear()
            self._routes[address] = answer
        return tenant_id, answer

    def _drop(self, look: asyncio.Task[tuple[UUID, Route | Refusal]]) -> None:
        self._abandoned.discard(look)
        if not look.cancelled():
            look.exception()  # nobody waits for it any more

    async def _look(self, address: Address, now: datetime) -> tuple[UUID, Route | Refusal]:
        try:
            async with self._database.connection() as connection:
                return await lookup(connection, address, now, self._secrets)
        except Exception as error:
            if classify(error) is not Trouble.TRANSIENT:
                raise
        # A pooled connection may have died with the last server: the second try is on another one.
        async with self._database.connection() as connection:
            return await lookup(connection, address, now, self._secrets)

    async def _follow(self) -> None:
        while True:
            try:
                connection = await self._database.connect()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            gone = asyncio.Event()
            connection.add_termination_listener(lambda *_, gone=gone: gone.set())
            try:
                await connection.add_listener(CHANNEL, lambda *_: self._forget())
                self._forget()
                self._followed = not await is_pooled(connection)
                if not self._followed:
                    _log.warning("directory behind a pooler: nothing is cached, set INGESTER_DATABASE_DIRECT_URL")
                await self._watch(connection, gone)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                _log.warning("directory notifications lost, nothing is cached until they are back")
            finally:
                self._followed = False
                self._forget()
                connection.terminate()

    async def _watch(self, connection: asyncpg.Connection, gone: asyncio.Event) -> None:
        """Return when the connection has ended, raise when it has died silently: a firewall tells nobody."""
        while not gone.is_set():
            try:
                async with asyncio.timeout(WATCH_SECONDS):
                    await gone.wait()
            except TimeoutError:
                await connection.execute("SELECT", timeout=LOOKUP_SECONDS)

    def _forget(self) -> None:
        """Drop every route; an answer that was on its way is not cached either."""
        self._generation += 1
        self._routes.clear()
