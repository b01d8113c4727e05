"""Answers that come before what they answer is known, and who may profit from that: on a real Postgres."""

import asyncpg
import pytest

from ingester.app import App
from ingester.clock import now
from ingester.core.outcome import Outcome
from ingester.core.resolve import id_hash
from ingester.store.outbound import Registered, Sent, record_sent
from tests.daemon import Town
from tests.test_conversations import Office, app, bounce, mail, office, row, send, status, town
from tests.test_parallel_conversations import judge_again

pytestmark = pytest.mark.usefixtures("blobs")

__all__ = ["app", "town"]

PROVIDERS = "ses-1@email.amazonses.com"


async def note(ours: Office, one: Registered, rfc_message_id: str | None = PROVIDERS) -> None:
    async with ours.app.database.connection() as connection:
        assert await record_sent(
            connection,
            ours.tenant_id,
            one.message_id,
            provider_message_id="ses-1",
            rfc_message_id=rfc_message_id,
            at=now(),
        )


async def thread(town: Town, one: Registered) -> asyncpg.Record:
    (found,) = await town.fetch(
        "SELECT h.* FROM threads h JOIN messages m ON m.tenant_id = h.tenant_id AND m.thread_id = h.id WHERE m.id = $1",
        one.message_id,
    )
    return found


async def test_an_answer_that_nobody_has_read_stays_unread_when_it_joins(app: App, town: Town) -> None:
    ours = await office(app, town)
    first = await ours.writes()
    await send(app, mail("early", In_Reply_To=f"<{PROVIDERS}>"))
    assert (await thread(town, first))["is_read"]
    await note(ours, first)
    joined = await thread(town, first)
    assert (joined["message_count"], joined["is_read"]) == (2, False)


async def test_a_late_registration_has_not_read_the_answers_to_itself(app: App, town: Town) -> None:
    ours = await office(app, town)
    early = await row(town, await send(app, mail("early", In_Reply_To="<old@acme.test>")))
    first = await ours.writes(sent=Sent(rfc_message_id="old@acme.test"))
    joined = await thread(town, first)
    assert (joined["message_count"], joined["is_read"], joined["has_outbound"]) == (2, False, True)
    again = await ours.writes(in_reply_to="early@customer.test")
    assert (await thread(town, again))["is_read"], "whoever answers has read it"
    assert early["thread_id"] != first.thread_id == again.thread_id


async def test_a_rematched_answer_is_unread(app: App, town: Town) -> None:
    ours = await office(app, town)
    first = await ours.writes()
    early = await row(town, await send(app, mail("early", In_Reply_To=f"<{PROVIDERS}>")))
    await town.fetch(
        "UPDATE messages SET sent_message_id = $1, sent_id_hash = $2 WHERE id = $3",
        PROVIDERS,
        id_hash(PROVIDERS),
        first.message_id,
    )
    assert early["thread_id"] != first.thread_id
    await judge_again(ours)
    joined = await thread(town, first)
    assert (joined["message_count"], joined["is_read"]) == (2, False)


async def test_what_bounced_was_not_merely_sent(app: App, town: Town) -> None:
    """The provider's bounce may be faster than the application's word that it was sent."""
    ours = await office(app, town)
    first = await ours.writes()
    await send(app, bounce("x@x.test"), first.envelope_sender, mail_from="")
    await note(ours, first)
    assert await status(town, first) == "bounced"


@pytest.mark.parametrize("first_comes", ["squatter", "answer"])
async def test_a_squatter_does_not_keep_an_answer_to_ours(app: App, town: Town, first_comes: str) -> None:
    """He sends the provider's id before the application tells of it, and has the answer until then."""
    ours = await office(app, town)
    first = await ours.writes()
    if first_comes == "squatter":
        squatter = await squat(app)
    early = await send(app, mail("early", In_Reply_To=f"<{PROVIDERS}>"))
    if first_comes == "answer":
        squatter = await squat(app)
    caught = await row(town, early)
    assert caught["reply_to_email_id"] == squatter.stored[0].message_id
    await note(ours, first)
    freed = await row(town, early)
    assert (freed["reply_to_email_id"], freed["thread_id"]) == (first.message_id, first.thread_id)
    assert (await thread(town, first))["message_count"] == 2
    counts = await town.fetch("SELECT message_count FROM threads ORDER BY 1")
    assert [one["message_count"] for one in counts] == [1, 2]


async def squat(app: App) -> Outcome:
    raw = f"From: eve@evil.test\r\nSubject: x\r\nMessage-ID: <{PROVIDERS}>\r\n\r\nmine\r\n"
    return await send(app, raw.encode())


async def test_an_answer_of_ours_that_moves_makes_the_conversation_ours(app: App, town: Town) -> None:
    """It answers a mail that comes later, and lay meanwhile with others that cite it."""
    ours = await office(app, town)
    await send(app, mail("root", References="<w@x.test>"))
    await send(app, mail("child", References="<w@x.test> <later@customer.test>"))
    reply = await ours.writes(in_reply_to="later@customer.test")
    await send(app, mail("later"))
    assert (await thread(town, reply))["has_outbound"]


async def test_a_rematch_attaches_no_mail_whose_author_cannot_be_judged(app: App, town: Town) -> None:
    """Two From fields are a permerror of the mail itself: on arrival as good as forged, and later too."""
    ours = await office(app, town)
    first = await ours.writes(sent=Sent(rfc_message_id="order-1@acme.test"))
    raw = b"From: eve@evil.test\r\n" + mail("two", In_Reply_To="<order-1@acme.test>")
    two = await send(app, raw)
    assert (await row(town, two))["reason"] == "candidate_unverified"
    await judge_again(ours)
    again = await row(town, two)
    assert again["reply_match_status"] == "unmatched"
    assert again["thread_id"] != first.thread_id


@pytest.mark.parametrize("written", ["Ada@BÜCHER.test", "ADA@XN--BCHER-KVA.TEST", '"ada"@bücher.test'])
async def test_who_was_written_to_is_expected_however_the_address_is_spelt(app: App, town: Town, written: str) -> None:
    first = await (await office(app, town)).writes("ada@xn--bcher-kva.test")
    reply = await row(town, await send(app, mail("a", sender=written, In_Reply_To=first.headers["Message-ID"])))
    assert reply["sender_expected"]
    assert reply["contact_id"] is not None


@pytest.mark.parametrize("name", ["größe", "a\x7fb"])
async def test_what_has_an_id_that_no_field_can_hold_can_be_answered(app: App, town: Town, name: str) -> None:
    ours = await office(app, town)
    strange = await row(town, await send(app, mail(name)))
    by_thread = await ours.writes(thread_id=strange["thread_id"])
    by_id = await ours.writes(in_reply_to=f"{name}@customer.test")
    assert by_thread.thread_id == by_id.thread_id == strange["thread_id"]
    assert "References" not in by_id.headers
    (ours_row,) = await town.fetch("SELECT reply_to_email_id FROM messages WHERE id = $1", by_id.message_id)
    assert ours_row["reply_to_email_id"] == strange["id"]


async def test_an_answer_cites_what_it_answers_whatever_strangers_cited_before(app: App, town: Town) -> None:
    ours = await office(app, town)
    root = await row(town, await send(app, mail("root", References="<next@customer.test> <x@x.test>")))
    await send(app, mail("next", In_Reply_To="<root@customer.test>"))
    reply = await ours.writes(thread_id=root["thread_id"], in_reply_to="next@customer.test")
    assert reply.headers["In-Reply-To"] == "<next@customer.test>"
    assert reply.headers["References"].endswith("<root@customer.test> <next@customer.test>")
