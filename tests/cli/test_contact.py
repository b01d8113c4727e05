"""ingester contact: whom a tenant knows, by address or id, and never whom another tenant knows."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_thread import _write
from tests.nameserver import NameServer, in_thread
from tests.signing import key_record, signed

ZONE: dict[str, list[Any]] = {"s._domainkey.customer.test": [{"TXT": key_record()}]}


@pytest.fixture
def town(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """With a name server that has the key of customer.test: what it signs is verified, and makes contacts."""
    with in_thread(NameServer(zone=ZONE)) as server:
        host, port = server.address
        monkeypatch.setenv("INGESTER_DNS__NAMESERVERS", f"{host}:{port}")
        cli.town()
        yield cli


def _mail(name: str, *, verified: bool = True, sender: str = "Ada@customer.test", subject: str = "A question") -> bytes:
    raw = (
        f"From: Ada L <{sender}>\r\nTo: support@acme.test\r\nSubject: {subject}\r\n"
        f"Message-ID: <{name}@customer.test>\r\n\r\nBody of {name}.\r\n"
    ).encode()
    return signed(raw, "customer.test") if verified else raw


def _send(town: Cli, name: str, *to: str, **how: Any) -> UUID:
    return town.accept(_mail(name, **how), *(to or ("support@acme.test",))).stored[0].message_id


def _show(town: Cli, wanted: object = "ada@customer.test", *more: object) -> Any:
    return town.json("contact", "show", wanted, "--tenant", "acme", *more)


def test_a_contact_has_its_messages_and_conversations_newest_first(town: Cli) -> None:
    ids = [_send(town, "one"), _send(town, "two", "sales@acme.test"), _send(town, "three", verified=False)]
    shown = _show(town)
    assert set(shown) == {"contact", "messages", "threads"}
    assert (shown["contact"]["address"], shown["contact"]["name"]) == ("ada@customer.test", "Ada L")
    first = town.json("show", ids[0])["message"]
    assert shown["contact"]["created_at"] == first["received_at"]
    assert [one["id"] for one in shown["messages"]] == [str(one) for one in reversed(ids)]
    assert [one["sender_verified"] for one in shown["messages"]] == [False, True, True]
    assert [one["mailbox"] for one in shown["threads"]] == ["support@acme.test", "sales@acme.test", "support@acme.test"]
    assert [one["role"] for one in shown["threads"]] == [None, "sender", "sender"]
    assert shown["threads"][2]["thread_id"] == first["thread_id"]


def test_limit_keeps_the_newest_of_each(town: Cli) -> None:
    ids = [_send(town, name) for name in ("one", "two", "three")]
    shown = _show(town, "ada@customer.test", "--limit", 2)
    assert [one["id"] for one in shown["messages"]] == [str(ids[2]), str(ids[1])]
    assert len(shown["threads"]) == 2


def test_whom_we_wrote_to_is_a_contact_before_any_answer(town: Cli) -> None:
    ours = _write(town, to="Bob@customer.test", subject="Hello")
    shown = _show(town, "bob@customer.test")
    assert shown["messages"] == []
    (thread,) = shown["threads"]
    assert (thread["thread_id"], thread["role"], thread["subject"]) == (str(ours.thread_id), "recipient", "Hello")
    lines = town.ok("contact", "show", "bob@customer.test", "--tenant", "acme").splitlines()
    assert lines[1] == "bob@customer.test"
    assert "None." in lines
    assert any("recipient" in line and line.endswith(str(ours.thread_id)) for line in lines)


@pytest.mark.parametrize("wanted", ["ADA@customer.test", "Ada@CUSTOMER.TEST.", "<ada@customer.test>"])
def test_an_address_is_found_however_it_is_written(town: Cli, wanted: str) -> None:
    _send(town, "one")
    assert _show(town, wanted) == _show(town)


def test_a_domain_is_found_in_either_of_its_forms(town: Cli) -> None:
    _write(town, to="ada@xn--bcher-kva.test")
    assert _show(town, "ada@b\u00fccher.test")["contact"]["address"] == "ada@xn--bcher-kva.test"


def test_a_contact_is_found_by_its_id_within_its_tenant_alone(town: Cli) -> None:
    _send(town, "one")
    contact_id = _show(town)["contact"]["id"]
    assert _show(town, contact_id) == _show(town)
    for wanted in (contact_id, "ada@customer.test"):
        words = town.fails("contact", "show", wanted, "--tenant", "globex")
        assert words.startswith(f"The tenant globex has no contact {wanted}: ")


def test_messages_and_threads_of_another_tenant_are_not_shown(town: Cli) -> None:
    town.accept(_mail("one"), "support@acme.test", "support@globex.test")
    shown = _show(town)
    assert [one["mailbox"] for one in shown["messages"]] == ["support@acme.test"]
    assert [one["mailbox"] for one in shown["threads"]] == ["support@acme.test"]


def test_a_sender_who_was_never_verified_is_no_contact(town: Cli) -> None:
    _send(town, "one", verified=False)
    assert "has no contact ada@customer.test" in town.fails("contact", "show", "ada@customer.test", "--tenant", "acme")


def test_wrong_usage(town: Cli) -> None:
    assert "neither an address" in town.usage("contact", "show", "nonsense", "--tenant", "acme")
    assert "--tenant" in town.usage("contact", "show", "ada@customer.test")
    assert town.fails("contact", "show", uuid4(), "--tenant", "nobody").startswith("There is no tenant nobody")


def test_hostile_text_does_not_reach_the_terminal(town: Cli) -> None:
    message_id = _send(town, "one", subject="=?utf-8?q?=1B[2J_=E2=80=AEgpj.exe?= " + "long " * 700)
    text = town.ok("contact", "show", "ada@customer.test", "--tenant", "acme")
    assert not {char for char in text if not char.isprintable()} - {"\n"}
    assert max(map(len, text.splitlines())) < 400
    assert str(message_id) in text
