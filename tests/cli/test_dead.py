"""ingester dead: list, show, and a redrive or a discard that is only tried unless --apply."""

from socket import gethostname
from uuid import uuid4

import pytest

from ingester import __version__
from tests.cli.conftest import Cli
from tests.daemon import Town

MAIL = b"From: ada@customer.test\r\nSubject: x\r\nMessage-ID: <x@customer.test>\r\n\r\nx\r\n"


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


def _bury(town: Cli, raw: bytes = MAIL, to: str = "support@acme.test") -> str:
    """Bury a mail and give the id of its letter."""
    before = {one["id"] for one in town.json("dead", "list")}
    assert not town.accept(raw, to, faults="scan:raise").stored
    (new,) = {one["id"] for one in town.json("dead", "list")} - before
    return str(new)


def test_a_dead_letter_is_listed_and_shown_with_its_bytes(town: Cli) -> None:
    assert town.ok("dead", "list") == "There are no dead letters.\n"
    letter = _bury(town)
    shown = town.json("dead", "show", letter)
    wanted = {"id": letter, "state": "dead", "reason": "scan_failed", "attempts": 1, "size": len(MAIL)}
    assert wanted.items() <= shown.items()
    assert shown["envelope"]["recipients"] == ["support@acme.test"]
    assert "Planned" in shown["detail"]
    assert letter in town.ok("dead", "list", "--tenant", "acme")
    assert town.json("dead", "list", "--tenant", "globex") == []
    assert "<ada@customer.test>" in town.ok("dead", "show", letter)
    assert town.run("raw", letter).stdout_bytes == MAIL
    assert town.fails("raw", letter, "--part", 1) == "A dead letter has no parts: it could not be walked"
    assert town.fails("show", letter) == f"That is a dead letter: see `ingester dead show {letter}`"


def test_a_redrive_is_only_tried_unless_applied(town: Cli) -> None:
    letter = _bury(town)
    assert town.ok("dead", "redrive", letter).splitlines() == [
        f"{letter}: would be stored",
        "Nothing was written: add --apply to do it.",
    ]
    assert town.json("dead", "show", letter)["state"] == "dead"
    done = town.json("dead", "redrive", letter, "--apply")
    assert (done["applied"], done["letters"][0]["ending"]) == (True, "stored")
    message_id = done["letters"][0]["message_ids"][0]
    assert town.run("raw", message_id).stdout_bytes == MAIL
    shown = town.json("show", message_id)
    assert [one["dead_letter_id"] for one in shown["receipts"] if one["dead_letter_id"]] == [letter]
    assert town.json("dead", "list") == []
    assert town.json("dead", "list", "--state", "redriven")[0]["id"] == letter
    assert town.fails("dead", "redrive", letter, "--apply") == "1 of 1 dead letters were left as they are"


def test_all_are_redriven_oldest_first(town: Cli) -> None:
    reply = b"From: ada@customer.test\r\nMessage-ID: <y@customer.test>\r\nIn-Reply-To: <x@customer.test>\r\n\r\ny\r\n"
    letters = [_bury(town), _bury(town, reply), _bury(town, b"Subject: z\r\n\r\nz\r\n", "sales@acme.test")]
    done = town.json("dead", "redrive", "--all", "--apply")["letters"]
    assert [one["id"] for one in done] == letters
    answered = town.json("show", done[1]["message_ids"][0])["message"]
    assert answered["reply_to_email_id"] == done[0]["message_ids"][0]
    assert town.ok("dead", "redrive", "--all") == "There are no dead letters.\n"


def test_a_letter_whose_mailbox_is_gone_is_discarded(town: Cli) -> None:
    letter = _bury(town)
    town.ok("route", "remove", "exact", "support@acme.test")
    assert "would be discarded, refused (unknown_mailbox)" in town.ok("dead", "redrive", letter)
    assert town.json("dead", "redrive", letter, "--apply")["letters"][0]["ending"] == "discarded"
    assert town.json("dead", "show", letter)["state"] == "discarded"


def test_what_is_still_dead_counts_its_attempts_and_fails(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    letter = _bury(town)
    monkeypatch.setenv("INGESTER_ENV", "development")
    monkeypatch.setenv("INGESTER_TEST_FAULTS", "scan:raise")
    assert town.fails("dead", "redrive", letter, "--apply") == "1 of 1 dead letters were left as they are"
    monkeypatch.delenv("INGESTER_TEST_FAULTS")
    shown = town.json("dead", "show", letter)
    assert (shown["state"], shown["attempts"]) == ("dead", 2)


def test_which_letters_must_be_said_and_known(town: Cli) -> None:
    letter, unknown = _bury(town), uuid4()
    assert "Name the dead letters, or take --all or filters." in town.usage("dead", "redrive")
    assert "Name the dead letters, or take --all or filters." in town.usage("dead", "redrive", letter, "--all")
    assert town.fails("dead", "show", unknown) == f"No dead letter has the id {unknown}"
    assert town.fails("dead", "redrive", letter, unknown, "--apply") == f"No dead letter has the id {unknown}"
    assert town.json("dead", "show", letter)["state"] == "dead"
    assert town.fails("dead", "list", "--tenant", "nobody").startswith("There is no tenant nobody")


def _backdate(town: Cli, letter: str, days: int, version: str | None) -> None:
    Town(url=town.url).ask(
        "UPDATE dead_letters SET created_at = created_at - $2 * interval '1 day', buried_by = $3 WHERE id = $1",
        letter,
        days,
        version,
    )


def test_letters_are_chosen_by_tenant_reason_time_and_version(town: Cli) -> None:
    old, ours = _bury(town), _bury(town, b"Subject: y\r\n\r\ny\r\n", "support@globex.test")
    _backdate(town, old, 10, "0.0.9")
    choices: dict[tuple[object, ...], list[str]] = {
        ("--tenant", "globex"): [ours],
        ("--reason", "scan_failed"): [old, ours],
        ("--reason", "commit_failed"): [],
        ("--since", "7d"): [ours],
        ("--until", "7d"): [old],
        ("--buried-by", "0.0.9"): [old],
        ("--buried-by", __version__): [ours],
        ("--until", "7d", "--tenant", "globex"): [],
    }
    listed = {choice: [one["id"] for one in town.json("dead", "list", *choice)][::-1] for choice in choices}
    assert listed == choices
    for command in ("redrive", "discard"):
        tried = {choice: [one["id"] for one in town.json("dead", command, *choice)["letters"]] for choice in choices}
        assert tried == choices
    assert len(town.json("dead", "list")) == 2


def test_what_another_version_buried_is_offered_to_this_one(town: Cli) -> None:
    first, second, third = _bury(town), _bury(town, b"Subject: y\r\n\r\ny\r\n"), _bury(town, b"Subject: z\r\n\r\nz\r\n")
    assert "this is" not in town.ok("dead", "list")
    _backdate(town, first, 0, "0.0.9")
    _backdate(town, second, 0, "0.0.9")
    _backdate(town, third, 0, None)
    assert town.ok("dead", "list").splitlines()[-2:] == [
        f"2 letters were buried by 0.0.9, this is {__version__}: try `ingester dead redrive --buried-by 0.0.9`",
        f"1 letter was buried by a version that did not say so, this is {__version__}: "
        "try `ingester dead redrive --buried-by unknown`",
    ]
    assert [one["id"] for one in town.json("dead", "redrive", "--buried-by", "unknown", "--apply")["letters"]] == [
        third
    ]
    assert town.json("dead", "show", third)["settled_by"].endswith(f"@{gethostname()}")


def test_a_discard_is_only_tried_unless_applied_and_says_who_and_why(town: Cli) -> None:
    kept, erased = _bury(town), _bury(town, b"Subject: y\r\n\r\ny\r\n")
    assert town.ok("dead", "discard", kept).splitlines() == [
        f"{kept}: would be discarded",
        "Nothing was written: add --apply to do it.",
    ]
    assert len(town.json("dead", "list")) == 2
    assert town.ok("dead", "discard", kept, "--why", "spam", "--apply") == f"{kept}: discarded\n"
    assert town.ok("dead", "discard", erased, "--erase", "--apply") == f"{erased}: discarded, its bytes erased\n"
    shown = town.json("dead", "show", kept)
    assert (shown["state"], shown["why"], shown["settled_at"] is None) == ("discarded", "spam", False)
    assert "spam" in town.ok("dead", "show", kept)
    assert town.run("raw", kept).stdout_bytes == MAIL
    assert town.fails("raw", erased) == f"The raw mail of {erased} is gone"
    assert "its bytes are gone" in town.ok("dead", "show", erased)
    assert town.json("dead", "list") == []
    assert town.fails("dead", "discard", kept, "--apply") == "1 of 1 dead letters were left as they are"
    assert town.fails("dead", "redrive", erased, "--apply") == "1 of 1 dead letters were left as they are"


def test_many_are_counted_and_only_those_that_stay_are_told(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from ingester.cli import dead

    monkeypatch.setattr(dead, "TOLD_ONE_BY_ONE", 1)
    for n in range(3):
        _bury(town, f"Subject: {n}\r\n\r\n{n}\r\n".encode())
    assert town.ok("dead", "redrive", "--all").splitlines() == [
        "3 would be done.",
        "Nothing was written: add --apply to do it.",
    ]
    assert town.ok("dead", "redrive", "--all", "--apply", "--rate", "100/s") == "3 were done.\n"


@pytest.mark.parametrize("rate", ["fast", "-1", "1/d", "1000000"])
def test_a_rate_that_is_none(cli: Cli, rate: str) -> None:
    assert "is no rate like 20" in cli.usage("dead", "redrive", "--all", "--rate", rate)
