"""The daemon behind the real pgbouncer in transaction mode, as deploy/scaling.md says it must be set up."""

import asyncio
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from ingester.store.db import is_pooled
from tests import mta
from tests.daemon import Daemon, Town, clean_environment, command, serving
from tests.deploy.pgbouncer import pooling
from tests.e2e.ledger import audit

pytestmark = pytest.mark.thorough

SERVERS = 3
"""Connections of pgbouncer to Postgres: far fewer than the workers would have, so that they change hands."""


@contextmanager
def behind(town: Town, *, direct: bool) -> Iterator[tuple[Daemon, str]]:
    """Two workers behind a pooler, and the URL through it."""
    with pooling(town.url, servers=SERVERS) as url:
        settings = {"INGESTER_WORKERS": "2", "INGESTER_STORE__STATEMENT_CACHE": "0"}
        if direct:
            settings["INGESTER_DATABASE_DIRECT_URL"] = town.url
        with serving(url, settings=settings) as daemon:
            daemon.wait_event("serving", times=2)
            yield daemon, url


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "pooled-alone"])
def test_mail_is_committed_through_a_pooler(acme: Town, direct: bool) -> None:
    """Many connections on three of the server's: every mail is answered yes at once, and its rows are right."""
    mails = mta.letters(200, "support@acme.test", "sales@acme.test")
    with behind(acme, direct=direct) as (daemon, _):
        sent = mta.send(daemon.port, mails, connections=20)
    assert len(sent.attempts) == len(mails)
    assert all(len(one.said("2")) == 2 for one in sent.attempts)
    audit(acme.url, mails, sent.attempts)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "pooled-alone"])
def test_a_suspended_mailbox_is_known(acme: Town, direct: bool) -> None:
    """No notification comes through a pooler. Without a direct URL nothing may be cached that one would take back."""
    with behind(acme, direct=direct) as (daemon, url):
        if not direct:
            daemon.wait_text("directory behind a pooler", times=2)
        assert set(codes(daemon)) == {250}
        command(url, "mailbox", "suspend", "support@acme.test", INGESTER_STORE__STATEMENT_CACHE="0")
        told = codes(daemon)
        if direct:
            while set(told) != {450}:  # the notification is on its way
                told = codes(daemon)
        assert set(told) == {450}


def codes(daemon: Daemon) -> list[int]:
    """What eight connections, which reach both workers, are told at RCPT."""
    found = []
    for _ in range(8):
        with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
            client.ehlo()
            client.mail("ada@customer.test")
            found.append(client.rcpt("support@acme.test")[0])
    return found


def test_a_pooler_is_seen(acme: Town) -> None:
    async def look(url: str) -> bool:
        connection = await asyncpg.connect(url, statement_cache_size=0)
        try:
            return await is_pooled(connection)
        finally:
            await connection.close()

    with pooling(acme.url) as url:
        assert asyncio.run(look(url))
    assert not asyncio.run(look(acme.url))


def test_migrations_do_not_go_through_a_pooler(empty_database_url: str) -> None:
    """Their lock belongs to a session. With the server's own URL beside it they do not go through it."""
    settings = {"INGESTER_STORE__STATEMENT_CACHE": "0"}
    with pooling(empty_database_url) as url:
        words = [sys.executable, "-m", "ingester", "migrate"]
        environment = clean_environment() | settings | {"INGESTER_DATABASE_URL": url}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "must not go through a pooler: set INGESTER_DATABASE_DIRECT_URL" in done.stderr
        beside = {"INGESTER_DATABASE_DIRECT_URL": empty_database_url}
        done = subprocess.run(words, env=environment | beside, capture_output=True, text=True, timeout=60)
        assert "0001_main" in done.stdout
