"""ingester.core.forgetting: what of a row goes, what is changed, and what is only listed."""

from typing import Any

import pytest

from ingester.core.address import parse_path
from ingester.core.forgetting import Fate, fate, is_sender
from ingester.core.person import ERASED, Person

ADDRESS = parse_path("ada@customer.test")
assert ADDRESS is not None
ADA = Person(ADDRESS)


def message(**columns: Any) -> dict[str, Any]:
    nobody: dict[str, Any] = {
        "direction": "inbound",
        "kind": "new",
        "from_address": "g@other.test",
        "envelope_from": "",
    }
    return nobody | {"to_addresses": [], "cc_addresses": [], "details": {}, "subject": "", "decision": {}} | columns


@pytest.mark.parametrize(
    "row",
    [
        message(from_address="Ada@customer.test"),
        message(envelope_from="ada@customer.test"),
        message(direction="outbound", to_addresses=["ada@customer.test"]),
        message(kind="bounce", details={"report": {"recipients": [{"address": "ada@customer.test"}]}}),
    ],
)
def test_mail_of_the_person_goes(row: dict[str, Any]) -> None:
    assert fate("messages", row, ADA) == Fate(remove=True)


def test_mail_of_others_loses_the_address_and_keeps_its_words() -> None:
    row = message(
        cc_addresses=["ada@customer.test", "x@y.test"], subject="Of ada@customer.test", details={"report": "?"}
    )
    found = fate("messages", row, ADA)
    assert found == Fate(changes={"cc_addresses": [ERASED, "x@y.test"]}, listed=("subject",))
    ours = message(direction="outbound", to_addresses=["ada@customer.test", "x@y.test"])
    assert fate("messages", ours, ADA).changes == {"to_addresses": [ERASED, "x@y.test"]}
    assert fate("messages", message(), ADA) == Fate()


def test_what_must_be_unique_is_listed() -> None:
    row = {
        "provider_event_id": "e-ada@customer.test",
        "recipients": ["x@y.test"],
        "detail": {"to": "ada@customer.test"},
    }
    found = fate("delivery_events", row, ADA, unique={"provider_event_id"})
    assert (dict(found.changes), found.listed) == ({"detail": {"to": ERASED}}, ())
    row["provider_event_id"] = "ada@customer.test"
    assert fate("delivery_events", row, ADA, unique={"provider_event_id"}).listed == ("provider_event_id",)


def test_what_operators_wrote_is_listed() -> None:
    assert fate("api_keys", {"name": "key of ada@customer.test"}, ADA) == Fate(listed=("name",))


def test_receipts_of_the_person_are_bared_those_of_others_changed() -> None:
    row = {"envelope_from": "ada@customer.test", "client_ip": "192.0.2.1", "metadata": {"x": 1}}
    assert fate("receipts", row, ADA).changes["client_ip"] is None
    assert fate("receipts", row, ADA).changes["metadata"] == {}
    row = {"envelope_from": "x@y.test", "client_ip": "192.0.2.1", "metadata": {"to": "ada@customer.test"}}
    assert fate("receipts", row, ADA).changes == {"metadata": {"to": ERASED}}


@pytest.mark.parametrize(
    ("raw", "hers"),
    [
        (b"From: Ada <ada@customer.test>\r\n\r\n", True),
        (b"Subject: x\r\nfrom:\r\n\tAda\r\n <ADA@customer.test>\r\n\r\n", True),
        (b"Sender: ada@customer.test\n\n", True),
        (b"To: ada@customer.test\r\nFrom: x@y.test\r\n\r\nFrom: ada@customer.test\r\n", False),
        (b"X-From: ada@customer.test\r\n", False),
        (b"", False),
    ],
)
def test_who_sent_what_nobody_could_read(raw: bytes, hers: bool) -> None:
    assert is_sender(raw, ADA) is hers
