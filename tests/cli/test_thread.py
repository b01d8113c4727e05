"""ingester thread: a conversation with its messages in order, what each answers, and who takes part."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from ingester.clock import new_id, now
from ingester.settings import load
from ingester.store.db import Database
from ingester.store.outbound import NewOutbound, Registered, register
from tests.cli.conftest import Cli

SECRET = b"a secret of at least 32 characters!!"


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


def _mail(name: str, answers: str = "", subject: str = "A question") -> bytes:
    lines = ["From: Ada <ada@customer.test>", "To: support@acme.test", f"Subject: {subject}"]
    lines += [f"Message-ID: <{name}@customer.test>", *([f"In-Reply-To: <{answers}>"] if answers else [])]
    return "\r\n".join([*lines, "", f"Body of {name}.", ""]).encode()


def _write(town: Cli, to: str = "Ada@customer.test", **how: Any) -> Registered:
    """Register a mail of ours, from support@acme.test."""
    mailbox = next(one for one in town.json("mailbox", "list") if one["address"] == "support@acme.test")
    new = NewOutbound(
        tenant_id=UUID(mailbox["tenant_id"]), tenant_slug="acme", mailbox_id=UUID(mailbox["id"]), to=(to,)
    )

    async def written() -> Registered:
        connection = await Database(load({}, env="development", database_url=town.url)).connect()
        try:
            return await register(connection, replace(new, **how), secrets=[SECRET], new_id=new_id, now=now())
        finally:
            await connection.close()

    return asyncio.run(written())


def _rows(town: Cli, *arguments: object) -> list[list[str]]:
    """The cells of the table of messages, under its header."""
    lines = town.ok("thread", "show", *arguments).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("Messages")) + 2
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[start : lines.index("", start)]
    ]


def test_every_message_is_shown_oldest_first_with_what_it_answers(town: Cli) -> None:
    first = town.accept(_mail("one"), "support@acme.test").stored[0].message_id
    ours = _write(town, subject="Re: A question", in_reply_to="one@customer.test")
    second = town.accept(_mail("two", ours.rfc_message_id), "support@acme.test").stored[0].message_id
    shown = town.json("thread", "show", ours.thread_id)
    thread, messages = shown["thread"], shown["messages"]
    assert set(shown) == {"thread", "messages", "participants"}
    wanted = {
        "id": str(ours.thread_id), "tenant": "acme", "mailbox": "support@acme.test", "subject": "A question",
        "message_count": 3, "has_outbound": True, "is_read": False,
    }  # fmt: skip
    assert wanted.items() <= thread.items()
    assert [(one["id"], one["direction"]) for one in messages] == [
        (str(first), "inbound"),
        (str(ours.message_id), "outbound"),
        (str(second), "inbound"),
    ]
    assert messages[2]["reply_to_email_id"] == str(ours.message_id)
    assert [(one["reply_match_status"], one["kind"]) for one in (messages[0], messages[2])] == [
        ("unmatched", "new"),
        ("matched", "reply"),
    ]
    assert [(who["address"], who["role"]) for who in shown["participants"]] == [("ada@customer.test", "recipient")]


def test_the_table_tells_senders_matches_and_answers(town: Cli) -> None:
    first = town.accept(_mail("one"), "support@acme.test").stored[0].message_id
    ours = _write(town, subject="Re: A question", in_reply_to="one@customer.test")
    second = town.accept(_mail("two", "one@customer.test"), "support@acme.test").stored[0].message_id
    rows = _rows(town, first)
    assert [[row[0], *row[2:]] for row in rows[::2]] == [
        ["1", "inbound", "new", "ada@customer.test", "not verified, not expected", "unmatched", "-", "A question",
         str(first)],
        ["3", "inbound", "reply", "ada@customer.test", _expectation(town, second), "matched, in_reply_to", "1",
         "A question", str(second)],
    ]  # fmt: skip
    assert (rows[1][0], rows[1][2], rows[1][5], rows[1][-1]) == ("2", "outbound", "-", str(ours.message_id))
    text = town.ok("thread", "show", first)
    assert "3 messages, unread, holds mail of ours" in text
    assert any(line.split()[:2] == ["ada@customer.test", "recipient"] for line in text.splitlines())


def _expectation(town: Cli, message_id: UUID) -> str:
    expected = town.json("show", message_id)["message"]["sender_expected"]
    return f"not verified, {'expected' if expected else 'not expected'}"


def test_a_sure_sender_and_a_quarantined_mail_stand_out(town: Cli) -> None:
    message_id = town.accept(_mail("one"), "support@acme.test").stored[0].message_id
    _execute(town, "UPDATE messages SET sender_verified = true, sender_expected = true, quarantined = true")
    assert _rows(town, message_id)[0][3:6] == ["new, quarantined", "ada@customer.test", "verified, expected"]


def _execute(town: Cli, statement: str) -> None:
    async def executed() -> None:
        connection = await asyncpg.connect(town.url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(executed())


def test_a_thread_is_found_by_the_id_of_a_message_or_an_arrival(town: Cli) -> None:
    outcome = town.accept(_mail("one"), "support@acme.test")
    by_message = town.json("thread", "show", outcome.stored[0].message_id)
    assert town.json("thread", "show", outcome.arrival_id) == by_message
    assert town.json("thread", "show", by_message["thread"]["id"]) == by_message


def test_limit_keeps_the_newest_and_says_how_many_are_older(town: Cli) -> None:
    first = town.accept(_mail("m0"), "support@acme.test").stored[0].message_id
    ids = [first]
    for n in range(1, 4):
        raw = _mail(f"m{n}", f"m{n - 1}@customer.test")
        ids.append(town.accept(raw, "support@acme.test").stored[0].message_id)
    shown = town.json("thread", "show", first, "--limit", 2)
    assert [one["id"] for one in shown["messages"]] == [str(ids[2]), str(ids[3])]
    assert "Messages, the newest 2: 2 more with --limit" in town.ok("thread", "show", first, "--limit", 2)
    rows = _rows(town, first, "--limit", 2)
    assert [(row[0], row[7]) for row in rows] == [("3", str(ids[1])), ("4", "3")]


def test_nothing_of_another_tenant_is_in_it(town: Cli) -> None:
    outcome = town.accept(_mail("one"), "support@acme.test", "support@globex.test")
    shown = [town.json("thread", "show", stored.message_id) for stored in outcome.stored]
    assert {one["thread"]["tenant"] for one in shown} == {"acme", "globex"}
    assert [one["thread"]["message_count"] for one in shown] == [1, 1]
    assert "stands for 2 rows" in town.fails("thread", "show", outcome.arrival_id)


def test_what_is_no_conversation_is_a_sentence(town: Cli) -> None:
    unknown = uuid4()
    assert town.fails("thread", "show", unknown) == f"No conversation or message has the id {unknown}"
    assert not town.accept(_mail("dead"), "support@acme.test", faults="scan:raise").stored
    (letter,) = town.json("dead", "list")
    assert f"`ingester dead show {letter['id']}`" in town.fails("thread", "show", letter["id"])
    assert "not a valid UUID" in town.usage("thread", "show", "nonsense")


def test_hostile_text_neither_moves_the_cursor_nor_hides_the_ids(town: Cli) -> None:
    raw = _mail("one", subject="=?utf-8?q?=1B[2J_=E2=80=AEgpj.exe?= " + "long " * 700)
    message_id = town.accept(raw, "support@acme.test").stored[0].message_id
    text = town.ok("thread", "show", message_id)
    assert not {char for char in text if not char.isprintable()} - {"\n"}
    assert _rows(town, message_id)[0][-1] == str(message_id)
    assert max(len(line) for line in text.splitlines()[2:]) < 400
