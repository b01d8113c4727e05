"""Running commands in this process, on a database of the test's own."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import structlog
import uvloop
from click.testing import CliRunner, Result

from ingester.app import App
from ingester.cli import main
from ingester.clock import new_id, now
from ingester.core.address import parse_path
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.core.outcome import Outcome
from ingester.settings import load
from tests.quiet_dns import nameservers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cli:
    """`ingester` against one database. Each way of calling it asserts the exit status that it names."""

    url: str

    def run(self, *arguments: object, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(main, [str(one) for one in arguments], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def ok(self, *arguments: object, stdin: bytes | None = None) -> str:
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        assert not result.stderr
        return result.stdout

    def json(self, *arguments: object, stdin: bytes | None = None) -> Any:
        return msgspec.json.decode(self.ok(*arguments, "--json", stdin=stdin))

    def fails(self, *arguments: object, stdin: bytes | None = None) -> str:
        """Exit status 1 and a sentence on stderr, which it gives."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 1, result.output
        assert result.stderr.startswith("Error: ")
        return result.stderr.removeprefix("Error: ").strip()

    def usage(self, *arguments: object) -> str:
        """Exit status 2, wrong usage."""
        result = self.run(*arguments)
        assert result.exit_code == 2, result.output
        return result.stderr

    def accept(
        self,
        raw: bytes,
        *recipients: str,
        mail_from: str = "ada@customer.test",
        door: Door = Door.SMTP,
        faults: str = "",
    ) -> Outcome:
        """Bring a mail through the pipeline as this door would, with these fault points armed."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._accept(raw, recipients, mail_from, door, faults))

    async def _accept(self, raw: bytes, recipients: Sequence[str], mail_from: str, door: Door, faults: str) -> Outcome:
        app = App(load(env="development", database_url=self.url, test__faults=faults))
        await app.open()
        addresses = [parse_path(text) for text in recipients or ("support@acme.test",)]
        try:
            return await app.pipeline.accept(
                Envelope(
                    door=door,
                    raw=raw,
                    mail_from=mail_from,
                    recipients=tuple(Recipient(address=address) for address in addresses if address is not None),
                    client=Client(ip="192.0.2.1", helo="client.test", tls="TLSv1.3"),
                    arrival_id=new_id(),
                    received_at=now(),
                )
            )
        finally:
            await app.close()

    def town(self) -> None:
        """A tenant acme with support and sales, and a tenant globex with support, made by the commands themselves."""
        for slug, names in (("acme", ("support", "sales")), ("globex", ("support",))):
            self.ok("tenant", "add", slug)
            self.ok("domain", "add", f"{slug}.test", "--tenant", slug, "--verified")
            for name in names:
                self.ok("mailbox", "add", f"{name}@{slug}.test")


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches the commands."""
    for name in list(os.environ):
        if name.startswith("INGESTER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INGESTER_DNS__NAMESERVERS", nameservers())


@pytest.fixture
def cli(database_url: str, bare_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """The commands on a migrated database."""
    monkeypatch.setenv("INGESTER_DATABASE_URL", database_url)
    logging = structlog.get_config()
    yield Cli(url=database_url)
    structlog.configure(**logging)
