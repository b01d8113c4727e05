"""Dead letters: at every stage our code may fail, the mail is kept whole, answered yes, and can be redriven."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from tests.daemon import Town, arrival, command, serving
from tests.e2e.caller import calling
from tests.e2e.ledger import audit
from tests.mta import letter, letters, send

pytestmark = [pytest.mark.usefixtures("blobs"), pytest.mark.thorough]

STAGES = "scan:raise@1,find:raise@1,decide:raise@1,commit:data@1"
"""Mail after mail passes the point at which the one before has failed."""
REASONS = ["scan_failed", "decide_failed", "decide_failed", "commit_failed"]
"""What is found is part of deciding."""


def listed(town: Town) -> list[dict[str, Any]]:
    """What `ingester dead list` gives, oldest first."""
    found: list[dict[str, Any]] = msgspec.json.decode(command(town.url, "dead", "list", "--json"))
    return found[::-1]


def holders(town: Town) -> set[str]:
    """What holds the claims."""
    rows = town.ask("SELECT CASE WHEN message_id IS NULL THEN 'dead letter' ELSE 'message' END FROM claims")
    return {row[0] for row in rows}


def test_at_each_stage_and_redriven(acme: Town) -> None:
    """Yes, a dead letter with the bytes, a claim that a retry runs into; then the redrive, dry and in earnest."""
    mails = letters(4, "support@acme.test", size=3000)
    with serving(acme.url, settings={"INGESTER_TEST_FAULTS": STAGES}) as daemon, calling(daemon.port) as caller:
        said = [caller.deliver(mail.stuffed) for mail in mails]
        assert [answer[:20] for answer in said] == ["250 2.0.0 stored as "] * 4
        dead = listed(acme)
        assert [one["reason"] for one in dead] == REASONS
        assert acme.count("messages") == 0
        assert (holders(acme), acme.count("claims")) == ({"dead letter"}, 4)
        rows = acme.ask(
            "SELECT r.data, x.arrival_id FROM dead_letters d JOIN raws r ON r.id = d.raw_id"
            " JOIN receipts x ON x.dead_letter_id = d.id ORDER BY d.created_at"
        )
        assert [bytes(row["data"]) for row in rows] == [mail.content for mail in mails]
        assert [row["arrival_id"] for row in rows] == [arrival(answer) for answer in said]

        # The sender did not hear us and comes again, before the redrive.
        assert all(caller.deliver(mail.stuffed).startswith("250") for mail in mails)
        assert (acme.count("messages"), acme.count("dead_letters"), acme.count("receipts")) == (0, 4, 8)

        dry = command(acme.url, "dead", "redrive", "--all")
        assert "Nothing was written" in dry
        assert [dry.count(one["id"]) for one in dead] == [1] * 4
        assert (acme.count("messages"), holders(acme)) == (0, {"dead letter"})

        command(acme.url, "dead", "redrive", dead[0]["id"], "--apply")
        assert acme.count("messages") == 1
        command(acme.url, "dead", "redrive", "--all", "--apply")
        assert listed(acme) == []
        assert (acme.count("messages"), acme.count("raws")) == (4, 4)
        assert (holders(acme), acme.count("claims")) == ({"message"}, 8)

        # The sender comes again, after the redrive.
        assert all(caller.deliver(mail.stuffed).startswith("250") for mail in mails)
        assert (acme.count("messages"), acme.count("receipts")) == (4, 12)
    audit(acme.url, mails, [], dead=4)
    states = acme.ask("SELECT state, attempts FROM dead_letters")
    assert {(row["state"], row["attempts"]) for row in states} == {("redriven", 2)}


def test_two_tenants(acme: Town) -> None:
    """Each tenant has a dead letter of its own, and a redrive of one leaves the other's alone."""
    (mail,) = letters(1, "support@acme.test", "sales@globex.test")
    with serving(acme.url, settings={"INGESTER_TEST_FAULTS": "scan:raise@1"}) as daemon, calling(daemon.port) as caller:
        assert caller.deliver(mail.stuffed, *mail.recipients).startswith("250")
    first, second = listed(acme)
    assert first["tenant_id"] != second["tenant_id"]
    command(acme.url, "dead", "redrive", first["id"], "--apply")
    assert [one["id"] for one in listed(acme)] == [second["id"]]
    assert acme.count("messages") == 1
    command(acme.url, "dead", "redrive", second["id"], "--apply")
    audit(acme.url, [mail], [], dead=2)


def test_redrive_to_a_mailbox_that_is_gone_discards(acme: Town) -> None:
    """It ends in refused, which discards and never bounces; the claim is free again."""
    with serving(acme.url, settings={"INGESTER_TEST_FAULTS": "scan:raise@1"}) as daemon, calling(daemon.port) as caller:
        command(acme.url, "route", "add", "alias", "once@acme.test", "--to", "support@acme.test")
        assert caller.deliver(letters(1)[0].stuffed, "once@acme.test").startswith("250")
        command(acme.url, "route", "remove", "alias", "once@acme.test")
        assert "discarded" in command(acme.url, "dead", "redrive", "--all", "--apply")
    (row,) = acme.ask("SELECT state FROM dead_letters")
    assert row["state"] == "discarded"
    assert (acme.count("messages"), acme.count("claims")) == (0, 0)


def test_the_caps_answer_451(acme: Town) -> None:
    """Above so many an hour the sender keeps the mail; what is a dead letter already stays a yes."""
    mails = letters(3)
    settings = {"INGESTER_TEST_FAULTS": "scan:raise", "INGESTER_STORE__DEAD_LETTERS_PER_PREFIX_HOUR": "2"}
    with serving(acme.url, settings=settings) as daemon, calling(daemon.port) as caller:
        assert [caller.deliver(mail.stuffed)[:9] for mail in mails] == ["250 2.0.0", "250 2.0.0", "451 4.3.0"]
        assert caller.deliver(mails[0].stuffed).startswith("250")
    assert (acme.count("dead_letters"), acme.count("receipts"), acme.count("raws")) == (2, 3, 2)


def test_bad_mails_in_shared_commits(acme: Town) -> None:
    """Postgres takes all but five mails: these become dead letters, and none that shared a commit with them does."""
    acme.ask(
        """
        DO $$ BEGIN
            CREATE FUNCTION poisoned() RETURNS trigger LANGUAGE plpgsql AS $f$
                BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '22P05'; END $f$;
            CREATE TRIGGER poisoned BEFORE INSERT ON messages FOR EACH ROW
                WHEN (new.subject LIKE 'Poison %') EXECUTE FUNCTION poisoned();
        END $$
        """
    )
    good = letters(300, "support@acme.test", "sales@globex.test")
    bad = [letter(f"bad-{number}@customer.test", "support@acme.test", words="Poison") for number in range(5)]
    mixed = [mail for number in range(5) for mail in (bad[number], *good[number * 60 : (number + 1) * 60])]
    with serving(acme.url) as daemon:
        mta = send(daemon.port, mixed)
        assert mta.count("2") == len(mta.attempts) == 305
    fine = {mail.message_id for mail in good}
    audit(acme.url, good, [one for one in mta.attempts if one.letter.message_id in fine], dead=5)
    rows = acme.ask("SELECT r.sha256, d.reason, d.detail FROM dead_letters d JOIN raws r ON r.id = d.raw_id")
    assert {row["sha256"] for row in rows} == {sha256(mail.content).digest() for mail in bad}
    assert {row["reason"] for row in rows} == {"commit_failed"}
    assert all("22P05" in row["detail"] for row in rows)
    assert len({arrival(said) for one in mta.attempts for said in one.answers.values()}) == 305


@pytest.mark.parametrize("stage", ["scan", "decide"])
def test_a_retry_while_it_still_fails(acme: Town, stage: str) -> None:
    """A mail that fails every time stays one dead letter however often it comes, and a redrive leaves it."""
    (mail,) = letters(1)
    with (
        serving(acme.url, settings={"INGESTER_TEST_FAULTS": f"{stage}:raise"}) as daemon,
        calling(daemon.port) as caller,
    ):
        for _ in range(3):
            assert caller.deliver(mail.stuffed).startswith("250")
    assert (acme.count("dead_letters"), acme.count("receipts"), acme.count("raws")) == (1, 3, 1)
