"""Who is examined: the settings, the domains, and what all checks ask in the same way. It judges nothing."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from ingester.auth.dns import MailLookup, Resolver
from ingester.settings import Settings
from ingester.store.db import Connection, Database
from ingester.telemetry.metrics import Metrics

Address = IPv4Address | IPv6Address
QUESTIONS = 200
"""Of DNS, for one check: far more than any needs."""


class NoDatabase(Exception):
    """There is no database to ask; the check of the database says why."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One set-up. `faults` are what the settings have against them; `settings` is what is usable of them."""

    settings: Settings
    now: datetime
    random_label: str
    faults: tuple[str, ...] = ()
    aside: frozenset[str] = frozenset()
    """The names of settings whose values are faulty: what stands in `settings` for them was not meant."""
    domains: tuple[str, ...] = ()
    """Those that were named; none is all that are in the directory."""
    selectors: tuple[str, ...] = ()
    """DKIM selectors to look for: DNS does not list them."""
    addresses: tuple[Address, ...] = ()
    """Public addresses of ours that this host does not know of, such as a load balancer's."""
    root: Path = field(default=Path("/"))
    metrics: Metrics = field(default_factory=Metrics)
    """That nobody reads."""

    @cached_property
    def hostname(self) -> str:
        """The name in the greeting."""
        return (self.settings.smtp.hostname or socket.gethostname()).lower().removesuffix(".")

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The pool, as a daemon would open it. Raises NoDatabase."""
        if not self.settings.database_url.get_secret_value():
            raise NoDatabase
        # Without prepared statements every check works behind any pooler; whether mails do is a check of its own.
        store = self.settings.store.model_copy(update={"statement_cache": 0})
        database = Database(self.settings.model_copy(update={"store": store}), self.metrics)
        await database.open()
        try:
            yield database
        finally:
            await database.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection, as a mail would use it. Raises NoDatabase, and what the database raises."""
        async with self.database() as database, database.connection() as connection:
            yield connection

    @asynccontextmanager
    async def lookup(self) -> AsyncIterator[MailLookup]:
        """DNS through the name servers of the settings, without a cache. Raises NoNameserver."""
        async with fresh_resolver(self.settings, self.metrics) as resolver:
            yield resolver.lookup()


@asynccontextmanager
async def fresh_resolver(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Resolver]:
    """A resolver without a cache, for what is true now. Raises NoNameserver."""
    dns = settings.dns
    resolver = Resolver(
        [(one.host, one.port) for one in dns.nameservers],
        try_seconds=dns.try_seconds,
        mail_queries=QUESTIONS,
        mail_seconds=30,
        cache_entries=0,
        metrics=metrics,
    )
    try:
        yield resolver
    finally:
        await resolver.close()
