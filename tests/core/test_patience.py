"""What a small mail may cost while the event loop waits, and that haste changes nothing that a mail says."""

import pytest

from ingester.core.message import digest, digest_at_once
from ingester.core.mime import Bounds
from ingester.core.patience import PARTS
from tests.bench.hostile import shapes
from tests.cost import assert_cheap

BOUNDS = Bounds()
SIZE = 128 << 10
"""What the pipeline digests on its loop at most."""
SHAPES = shapes(SIZE)
HEAD = b"From: a@b.test\r\nMessage-ID: <x@y>\r\n"


def html(tags: int) -> bytes:
    return HEAD + b"Content-Type: text/html\r\n\r\n" + b"<p>Hello</p>\r\n" * (tags // 2)


def parts(number: int) -> bytes:
    return HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * number + b"--b--\r\n"


def lines(number: int) -> bytes:
    return HEAD + b"\r\n" + b"some words\r\n" * number


@pytest.mark.parametrize("name", SHAPES)
def test_no_small_mail_holds_the_loop(name: str) -> None:
    raw = SHAPES[name]()
    found = assert_cheap(lambda: digest_at_once(raw, BOUNDS), seconds=0.05)  # law 9's 25 ms, on a busy machine
    assert found is None or found == digest(raw, BOUNDS)


@pytest.mark.parametrize(
    "raw", [html(600), parts(PARTS), lines(1500), HEAD + b"Subject: " + b"x" * 30_000 + b"\r\n\r\n"]
)
def test_what_people_send_is_digested_at_once(raw: bytes) -> None:
    found = digest_at_once(raw, BOUNDS)
    assert found is not None
    assert found == digest(raw, BOUNDS)


@pytest.mark.parametrize(
    "raw",
    [
        html(602),
        html(2) + b"x" * (48 << 10),
        parts(PARTS + 1),
        lines(1501),
        HEAD + b"Subject: " + b"x" * (32 << 10) + b"\r\n\r\n",
        HEAD + b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n" + b"!\r\n" * (12 << 10),
    ],
)
def test_what_costs_more_is_left_for_another_place(raw: bytes) -> None:
    assert digest_at_once(raw, BOUNDS) is None
    assert digest(raw, BOUNDS).rfc_message_id == "x@y"


def test_a_bound_of_few_parts_stays_what_it_is() -> None:
    few = Bounds(max_parts=3)
    found = digest_at_once(parts(10), few)
    assert found == digest(parts(10), few)
    assert found is not None
    assert "parts_limit" in found.flags
