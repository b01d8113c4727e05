"""Quotas and the spam filter, from the settings to the rows and the replies, on a real Postgres."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from ingester.app import App
from ingester.core.outcome import Reason
from ingester.core.rules import Quota, quota_gate
from ingester.settings import load
from tests.daemon import Town
from tests.quiet_dns import nameservers
from tests.test_conversations import SECRETS, app, mail, office, row, send, town

__all__ = ["app", "town"]


# -- quotas ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "size", "matched", "taken"),
    [
        (Quota(mails=None, size=None, matched_share=0, used_mails=10**9, used_size=10**12), 1, False, True),
        (Quota(mails=2, size=None, matched_share=0, used_mails=1, used_size=0), 1, False, True),
        (Quota(mails=2, size=None, matched_share=0, used_mails=2, used_size=0), 1, True, False),
        (Quota(mails=10, size=None, matched_share=20, used_mails=8, used_size=0), 1, False, False),
        (Quota(mails=10, size=None, matched_share=20, used_mails=8, used_size=0), 1, True, True),
        (Quota(mails=None, size=100, matched_share=0, used_mails=0, used_size=50), 50, False, True),
        (Quota(mails=None, size=100, matched_share=0, used_mails=0, used_size=50), 51, False, False),
        (Quota(mails=0, size=None, matched_share=0, used_mails=0, used_size=0), 1, True, False),
    ],
)
def test_what_a_quota_has_room_for(quota: Quota, size: int, matched: bool, taken: bool) -> None:
    refusal = quota_gate([quota], size, matched=matched)
    assert (refusal is None) is taken
    assert refusal is None or refusal.code.smtp == 452


async def test_a_mailbox_over_its_quota_defers_cold_mail_and_keeps_a_share_for_answers(app: App, town: Town) -> None:
    first = await (await office(app, town)).writes()
    await town.fetch("UPDATE mailboxes SET quota_mails = 2, quota_matched_share = 50 WHERE local_part = 'support'")
    assert (await send(app, mail("a"))).reason is Reason.ACCEPTED
    over = await send(app, mail("b"))
    assert over.smtp_line.startswith("452 4.2.2 ")
    assert (await send(app, mail("a"))).reason is not Reason.ACCEPTED, "a retry is judged like any arrival"
    assert (await send(app, mail("b"), "sales@acme.test")).reason is Reason.ACCEPTED
    assert (await send(app, mail("c"), first.reply_address)).reason is Reason.ACCEPTED
    assert (await send(app, mail("d"), first.reply_address)).reason is Reason.QUOTA_EXCEEDED
    usage = await town.fetch("SELECT mails, bytes FROM quota_usage")
    assert [tuple(one) for one in usage] == [(2, len(mail("a")) + len(mail("c")))]


async def test_the_quota_of_a_tenant_binds_all_its_mailboxes_and_no_other(app: App, town: Town) -> None:
    await town.fetch("UPDATE tenants SET quota_bytes = $1 WHERE slug = 'acme'", len(mail("a")))
    both = await send(app, mail("a"), "support@acme.test", "support@globex.test")
    assert both.reason is Reason.ACCEPTED
    assert (await send(app, mail("b"), "sales@acme.test")).reason is Reason.QUOTA_EXCEEDED
    assert (await send(app, mail("b"), "support@globex.test")).reason is Reason.ACCEPTED
    assert len(await town.fetch("SELECT 1 FROM quota_usage")) == 1, "what has no quota is not counted"


async def test_a_duplicate_is_not_counted_twice(app: App, town: Town) -> None:
    await town.fetch("UPDATE mailboxes SET quota_mails = 5 WHERE local_part = 'support'")
    await send(app, mail("a"))
    assert (await send(app, mail("a"))).reason is Reason.DUPLICATE
    (usage,) = await town.fetch("SELECT mails FROM quota_usage")
    assert usage["mails"] == 1


# -- spam --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def filtered(town: Town, unused_port: int) -> AsyncIterator[tuple[App, Callable[[str], None], list[str]]]:
    """An app with a spam filter that says what it is told to, and whom it was asked about."""
    words, asked = ["no action"], list[str]()

    async def check(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Rcpt", ""))
        answer = {"action": words[-1], "score": 7.5, "required_score": 15.0, "symbols": {"LOOKS_BAD": {"score": 7.5}}}
        return web.json_response(answer)

    server = web.Application()
    server.router.add_post("/checkv2", check)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_port).start()
    how: dict[str, Any] = {"spam__url": f"http://127.0.0.1:{unused_port}/checkv2", "reply_token_secrets": SECRETS}
    one = App(load({}, env="development", database_url=town.url, dns__nameservers=nameservers(), **how))
    await one.open()
    yield one, words.append, asked
    await one.close()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("word", "reason", "flagged"),
    [
        ("no action", Reason.ACCEPTED, False),
        ("add header", Reason.ACCEPTED, True),
        ("soft reject", Reason.SPAM_DEFERRED, None),
        ("reject", Reason.SPAM_REFUSED, None),
    ],
)
async def test_cold_mail_goes_by_the_filters_word(
    filtered: tuple[App, Callable[[str], None], list[str]], town: Town, word: str, reason: Reason, flagged: bool | None
) -> None:
    app, say, _ = filtered
    say(word)
    outcome = await send(app, mail("a"))
    assert outcome.reason is reason
    if flagged is not None:
        message = await row(town, outcome)
        assert message["quarantined"] is flagged
        spam = msgspec.json.decode(message["decision"])["spam"]
        assert spam["symbols"] == [{"name": "LOOKS_BAD", "score": 7.5}]


async def test_an_answer_to_our_mail_is_not_taken_for_spam(
    filtered: tuple[App, Callable[[str], None], list[str]], town: Town
) -> None:
    app, say, asked = filtered
    say("reject")
    first = await (await office(app, town)).writes()
    assert (await send(app, mail("a"), first.reply_address)).reason is Reason.ACCEPTED
    assert asked == [], "a reply token is proof enough"
    assert (await send(app, mail("b", In_Reply_To=first.headers["Message-ID"]))).reason is Reason.ACCEPTED
    assert (await send(app, mail("c"))).reason is Reason.SPAM_REFUSED


async def test_a_filter_that_is_away_flags_and_loses_nothing(town: Town, unused_port: int) -> None:
    how: dict[str, Any] = {"spam__url": f"http://127.0.0.1:{unused_port}/checkv2"}
    app = App(load({}, env="development", database_url=town.url, dns__nameservers=nameservers(), **how))
    await app.open()
    message = await row(town, await send(app, mail("a")))
    await app.close()
    assert message["quarantined"]
    assert msgspec.json.decode(message["decision"])["spam"]["note"] == "unreachable"
