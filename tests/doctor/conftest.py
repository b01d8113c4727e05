"""A practice: a sound set-up of real servers, in which a test plants one fault."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import dns.flags
import dns.message
import msgspec
import pytest
from click.testing import CliRunner

from ingester.cli import main
from tests.daemon import Daemon, serving, settle
from tests.doctor.authorities import Authority
from tests.nameserver import NameServer, in_thread
from tests.postgres import Cluster, _memory, _migrate, running
from tests.roles import Walled, wall
from tests.zones import Fault, Found, Zone

HOST = "mx.acme.test"
ADDRESS = "192.0.2.25"
SECRET = "cd5f2ae0b1946873cd5f2ae0b1946873cd5f2ae0b1946873"
SOUND_ZONE: dict[str, list[Any]] = {
    "acme.test": [{"MX": [10, HOST]}, {"TXT": "v=spf1 mx -all"}],
    "_dmarc.acme.test": [{"TXT": "v=DMARC1; p=reject"}],
    HOST: [{"A": ADDRESS}],
    "25.2.0.192.in-addr.arpa": [{"PTR": HOST}],
    "org": [{"SOA": "ns.org. root.org. 1 1 1 1 1"}],
    "dnssec-failed.org": [Fault.SERVFAIL],
}
MACHINE = {"system", "disk", "limits"}
"""Checks of the machine itself, which tests take as it is."""


@dataclass(slots=True, kw_only=True)
class Resolver(NameServer):
    """A resolver that validates, or does as if."""

    authentic: bool = True

    def _write(self, asked: dns.message.Message, found: Found, by: str) -> bytes:
        written = bytearray(NameServer._write(self, asked, found, by))
        if self.authentic and asked.flags & dns.flags.AD:
            written[3] |= dns.flags.AD
        return bytes(written)


@dataclass(slots=True, kw_only=True)
class Practice:
    """Where the doctor looks: its settings, its DNS, its database. All of it may be spoiled."""

    env: dict[str, str]
    dns: Resolver
    zone: dict[str, list[Any]]
    database: Walled
    authority: Authority
    arguments: list[str] = field(default_factory=lambda: ["--address", ADDRESS])

    def sql(self, *statements: str) -> None:
        """Run as the owner of the database."""
        asyncio.run(_run(self.database.owner, statements))

    def findings(self, monkeypatch: pytest.MonkeyPatch, *, status: int | None = None) -> list[dict[str, str]]:
        """What `ingester doctor --json` finds."""
        self.dns.zone = Zone(self.zone)
        for name in [one for one in os.environ if one.startswith("INGESTER_")]:
            monkeypatch.delenv(name)
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        done = CliRunner().invoke(main, ["doctor", *self.arguments, "--json"])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        found: list[dict[str, str]] = msgspec.json.decode(done.stdout)
        assert done.exit_code == any(one["level"] == "fault" for one in found), done.output
        assert status in (None, done.exit_code)
        return found


async def _run(url: str, statements: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(url)
    try:
        for one in statements:
            await connection.execute(one)
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hospital:
    """A server as one must be, with a sound database to be cloned, and a daemon that only listens."""

    cluster: Cluster
    sound: Walled
    daemon: Daemon

    @contextmanager
    def clone(self) -> Iterator[Walled]:
        """A database of one's own; the roles are those of the whole server."""
        with self.cluster.clone("sound") as url:
            runtime = urlsplit(self.sound.runtime)._replace(path=urlsplit(url).path).geturl()
            yield replace(self.sound, owner=url, runtime=runtime)


@pytest.fixture(scope="session")
def hospital() -> Iterator[Hospital]:
    """One for the session. fsync is on; that it lies in memory, where there is room, makes no difference here."""
    with running({"max_connections": "60"}, place=_memory()) as cluster:
        cluster.execute("create database sound")
        url = cluster.url_of("sound")
        asyncio.run(_migrate(url))
        asyncio.run(settle(url, {"acme.test": ("support",)}))
        sound = asyncio.run(wall(url))
        with cluster.clone("sound") as other, serving(other) as daemon:
            yield Hospital(cluster=cluster, sound=sound, daemon=daemon)


@pytest.fixture
def practice(hospital: Hospital, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Practice]:
    """A sound one."""
    authority = Authority()
    trusted = tmp_path / "roots.pem"
    trusted.write_bytes(authority.root.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    dns = Resolver(zone={})
    with hospital.clone() as database, in_thread(dns):
        env = {
            "INGESTER_DATABASE_URL": database.runtime,
            "INGESTER_REPLY_TOKEN_SECRETS": SECRET,
            "INGESTER_SMTP__LISTEN": f"127.0.0.1:{hospital.daemon.port}",
            "INGESTER_SMTP__HOSTNAME": HOST,
            "INGESTER_DNS__NAMESERVERS": f"{dns.host}:{dns.port}",
            "INGESTER_DNS__TRY_SECONDS": "1",
            "INGESTER_STORE__CONNECTIONS": "4",
            **authority.write(tmp_path, HOST),
        }
        zone = {name: list(entries) for name, entries in SOUND_ZONE.items()}
        yield Practice(env=env, dns=dns, zone=zone, database=database, authority=authority)
