"""ingester.core.person: whose address it is, in what spelling, and whose it is not."""

import time

import pytest

from ingester.core.address import parse_path
from ingester.core.person import ERASED, Person


def person(address: str = "Ada@customer.test", *, tags: bool = False) -> Person:
    found = parse_path(address)
    assert found is not None
    return Person(found, tags)


@pytest.mark.parametrize(
    "text",
    [
        "ada@customer.test",
        "Write to <ADA@Customer.TEST>.",
        "mailto:ada%40customer.test",
        "%3Cada%40customer.test%3E",
        '<a href=3D"mailto:ada=40customer.test">',
        "ada&#64;customer.test",
        '"ada"@customer.test',
        "bounce+ada=customer.test@lists.test",
        "SRS0=HHH=TT=customer.test=ada@relay.test",
    ],
)
def test_it_is_found_in_every_spelling(text: str) -> None:
    assert person().in_text(text)
    assert person().in_bytes(text.encode())
    assert person().in_value({"a": [{"b": text}]})
    assert person().in_value({text: 1})
    left = person().without(text)
    assert ERASED in left
    assert not person().in_text(left)


@pytest.mark.parametrize(
    "text",
    [
        *("xada@customer.test", "o.ada@customer.test", "x+ada@customer.test", "ada@customer.test.example"),
        *("ada@customer.tests", "ada@customer.test-2", "ada+shop@customer.test", "ada at customer.test", ""),
    ],
)
def test_what_only_looks_like_it_is_another_one_s(text: str) -> None:
    assert not person().in_text(text)
    assert not person().in_bytes(text.encode())
    assert person().without(text) == text
    assert not person().has(text)


def test_addresses_are_compared_as_everywhere() -> None:
    assert person().has("<ADA@CUSTOMER.TEST>")
    assert not person().has(None)
    assert not person().has("ada+shop@customer.test")
    assert person(tags=True).has("Ada+Shop@customer.test")
    assert person(tags=True).in_text("ada%2Bshop%40customer.test")
    assert person("ada@b\u00fccher.test").has("ada@xn--bcher-kva.test")
    assert person("ada@xn--bcher-kva.test").in_text("ADA@B\u00dcCHER.test")
    assert person("ada@b\u00fccher.test").in_bytes("ada@b\u00fccher.test".encode())


def test_all_of_them_or_some() -> None:
    assert person().is_all(["ada@customer.test", "ADA@customer.test"])
    assert not person().is_all(["ada@customer.test", "grace@other.test"])
    assert not person().is_all([])


@pytest.mark.parametrize("crafted", ["ada+", "ada@", "ada+" + "a" * 127, "ada=customer.tes", "%40ada@customer.test"])
def test_time_grows_with_the_text_alone(crafted: str) -> None:
    """Per character, so that a machine that is busy at one moment does not count."""
    one = person(tags=True)
    ending = " customer.test"

    def seconds(many: int) -> float:
        text = crafted * (many // len(crafted)) + ending
        began = time.thread_time()
        one.in_text(text)
        one.in_bytes(text.encode())
        return time.thread_time() - began

    assert min(seconds(400_000) for _ in range(3)) < 12 * max(min(seconds(100_000) for _ in range(3)), 0.001)
