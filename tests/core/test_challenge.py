"""The proof of a domain: its own for every tenant, name and moment."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from ingester.core.challenge import challenge_of, holds, owner_name, record_text

ACME, GLOBEX = UUID(int=1), UUID(int=2)
THEN = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)


def test_it_does_not_change_and_is_nobody_elses() -> None:
    one = challenge_of(ACME, "acme.test", THEN)
    assert one == challenge_of(ACME, "Acme.TEST", THEN) == "xthcoltd5of6a3drz7elcvd36ge24dy3"
    others = {
        challenge_of(GLOBEX, "acme.test", THEN),
        challenge_of(ACME, "acme2.test", THEN),
        challenge_of(ACME, "acme.test", THEN + timedelta(microseconds=1)),
    }
    assert len(others - {one}) == 3
    assert len(one) == 32


def test_the_record() -> None:
    assert owner_name("acme.test") == "_ingester-challenge.acme.test"
    text = record_text("abc")
    assert text == "ingester-verification=abc"
    assert holds((b"v=spf1 -all", b" Ingester-Verification=ABC "), "abc")
    assert not holds((text.encode() + b"d", b"abc", b"\xff\x00", b""), "abc")
    assert not holds((), "abc")
