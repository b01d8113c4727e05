"""ingester refusals: why a mail was not taken, before and after DATA, and within which tenant."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ingester.clock import new_id, now
from ingester.core.envelope import Client, Door
from ingester.core.ids import SYSTEM_TENANT
from ingester.core.outcome import Reason
from ingester.settings import load
from ingester.store.db import Database
from ingester.store.refusals import Refusals
from tests.cli.conftest import Cli

NOON = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
MAIL = b"From: ada@customer.test\r\nSubject: x\r\n\r\nx\r\n"


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


def _note(town: Cli, *recipients: str, **how: Any) -> None:
    """Count refusals as a door does before DATA, and write them."""
    given = {"door": Door.SMTP, "reason": Reason.UNKNOWN_MAILBOX, "now": NOON, "mail_from": "", **how}
    slug = given.pop("tenant", "acme")
    tenant_id = next(UUID(one["id"]) for one in town.json("tenant", "list") if one["slug"] == slug)

    async def note() -> None:
        database = Database(load({}, env="development", database_url=town.url))
        await database.open()
        refusals = Refusals(database, new_id)
        for recipient in recipients:
            refusals.note(
                tenant_id=tenant_id, client=Client(ip="192.0.2.9"), recipients=(recipient,), detail="", **given
            )
        if not recipients:
            refusals.note(tenant_id=tenant_id, client=Client(ip="192.0.2.9"), recipients=(), detail="", **given)
        await refusals.flush()
        await database.close()

    asyncio.run(note())


def _line(town: Cli, *arguments: object) -> str:
    """The only line under the header."""
    header, line = town.ok("refusals", "list", *arguments).splitlines()
    assert header.split() == ["time", "tenant", "door", "reason", "reply", "client", "count", "from", "to", "detail"]
    return line


def test_a_refusal_after_data_has_its_own_line_with_the_detail(town: Cli) -> None:
    assert town.ok("refusals", "list") == "There are no refusals.\n"
    town.ok("sender", "block", "ada@customer.test", "--tenant", "acme")
    outcome = town.accept(MAIL, "support@acme.test", mail_from="")
    (one,) = town.json("refusals", "list", "--tenant", "acme", "--since", "1h")
    wanted = {
        "tenant": "acme", "door": "smtp", "reason": "sender_blocked", "client_prefix": "192.0.2.1/32", "count": 1,
        "arrival_id": str(outcome.arrival_id), "reply": outcome.smtp_line,
    }  # fmt: skip
    assert wanted.items() <= one.items()
    (attempt,) = one["attempts"]
    assert (attempt["mail_from"], attempt["recipients"]) == ("", ["support@acme.test"])
    assert attempt["helo"] == "client.test"
    assert attempt["detail"]
    line = _line(town)
    assert "550 5.7.1 This mailbox does not take mail from this sender  192.0.2.1/32  1" in line
    assert "  <>    support@acme.test  " in line
    assert line.endswith(attempt["detail"])
    assert datetime.fromisoformat(attempt["at"]).strftime("%Y-%m-%d %H:%M:%S UTC") in line


def test_refusals_before_data_are_one_line_a_minute_with_samples(town: Cli) -> None:
    _note(town, *(f"guess{n}@acme.test" for n in range(7)))
    (one,) = town.json("refusals", "list")
    assert (one["count"], one["arrival_id"], len(one["attempts"])) == (7, None, 3)
    line = _line(town)
    assert line.startswith("2026-11-20 12:00 UTC  acme    smtp  unknown_mailbox  550 5.1.1 No such mailbox here")
    assert "  7      -     guess0@acme.test, guess1@acme.test, guess2@acme.test  -" in line


def test_the_newest_come_first_over_all_tenants_and_limit_cuts_the_oldest(town: Cli) -> None:
    _note(town, "a@acme.test", now=NOON)
    _note(town, "b@globex.test", tenant="globex", now=NOON + timedelta(minutes=2))
    _note(town, "c@nowhere.test", tenant="system", now=NOON + timedelta(minutes=1), reason=Reason.UNKNOWN_DOMAIN)
    listed = town.json("refusals", "list")
    assert [one["tenant"] for one in listed] == ["globex", "system", "acme"]
    assert [one["tenant"] for one in town.json("refusals", "list", "--limit", 2)] == ["globex", "system"]
    assert listed[1]["tenant_id"] == str(SYSTEM_TENANT)


def test_a_tenant_sees_its_own_alone(town: Cli) -> None:
    _note(town, "a@acme.test")
    _note(town, "b@globex.test", tenant="globex")
    (one,) = town.json("refusals", "list", "--tenant", "globex")
    assert one["attempts"][0]["recipients"] == ["b@globex.test"]
    assert town.json("refusals", "list", "--tenant", "system") == []
    assert town.fails("refusals", "list", "--tenant", "nobody").startswith("There is no tenant nobody")


def test_since_and_reason_choose(town: Cli) -> None:
    _note(town, "a@acme.test", now=NOON)
    _note(town, "b@acme.test", now=NOON - timedelta(days=1), reason=Reason.HARVEST_SUSPECTED)
    _note(town, "c@acme.test", now=now())

    def found(*how: str) -> list[str]:
        return [one["attempts"][0]["recipients"][0][0] for one in town.json("refusals", "list", *how)]

    assert set(found("--since", "2026-11-20T12:00:59")) == {"a", "c"}  # the minute counts that it falls into
    assert found("--since", "2026-11-20T12:01") == ["c"]
    assert found("--since", "1h") == ["c"]
    assert found("--reason", "harvest_suspected") == ["b"]
    assert found("--reason", "harvest_suspected", "--since", "2026-11-20") == []
    assert "neither an age like 1h" in town.usage("refusals", "list", "--since", "yesterday")
    assert "unknown_mailbox" in town.usage("refusals", "list", "--reason", "nonsense")


@pytest.mark.parametrize(
    ("how", "reply"),
    [
        (
            {"reason": Reason.MAILBOX_SUSPENDED},
            "450 4.2.1 The mailbox is suspended, try again later; when it has lasted: 550",
        ),
        ({"reason": Reason.UNKNOWN_DOMAIN, "door": Door.HTTP}, "HTTP 200 We do not receive mail for this domain"),
        ({"reason": Reason.OVERLOADED}, "452 4.3.1 We are busy"),
    ],
)
def test_the_reply_is_that_of_the_door(town: Cli, how: dict[str, Any], reply: str) -> None:
    _note(town, "a@acme.test", **how)
    assert town.json("refusals", "list")[0]["reply"].startswith(reply)
    assert reply in _line(town)


def test_who_was_turned_away_at_the_connect_heard_421(town: Cli) -> None:
    _note(town, tenant="system", reason=Reason.OVERLOADED)
    assert town.json("refusals", "list")[0]["reply"].startswith("421 4.3.2 ")


def test_hostile_text_does_not_reach_the_terminal_nor_widen_it(town: Cli) -> None:
    _note(town, "\x1b[2Jx@acme.test", "y" * 300 + "@acme.test", mail_from="\u202egpj@evil.test")
    line = _line(town)
    assert line.isprintable()
    assert "y" * 120 not in line
    assert "\ufffd[2Jx@acme.test" in line
    assert "y" * 300 in town.ok("refusals", "list", "--json")
