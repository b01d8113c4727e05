"""What the scan has hashed serves DKIM only where it is the same: every body by both ways."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.auth import body as rooms
from ingester.auth.body import hash_forms
from ingester.auth.dkim_canon import BodyForm, hash_bodies
from ingester.core.hashed_body import HashedBody

HEADER = b"Subject: x\r\n\r\n"
FORMS = {BodyForm(relaxed, limit) for relaxed in (True, False) for limit in (None, 3)}
PIECES = (b" ", b"\t", b"\r", b"\n", b"\r\n", b"a", b"words of text", b" \r\n", b"  ", b"QUJD" * 19 + b"\r\n")


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
async def test_it_makes_no_difference_what_was_known(body: bytes) -> None:
    raw, start = HEADER + body, len(HEADER)
    assert await hash_forms(raw, start, FORMS, None, HashedBody(raw, start)) == hash_bodies(raw, start, FORMS)


@pytest.mark.parametrize("relaxed", [True, False])
@pytest.mark.parametrize("body", [b"Hello there,\r\nit is me.\r\n", b"QUJD\r\n\r\n\r\n", b"no line end"])
async def test_a_usual_body_is_not_hashed_again(body: bytes, relaxed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rooms, "hash_bodies")
    raw, start, form = HEADER + body, len(HEADER), BodyForm(relaxed, None)
    found = await hash_forms(raw, start, {form}, None, HashedBody(raw, start))
    assert found[form].digest == sha256(body.rstrip(b"\r\n") + b"\r\n").digest()


async def test_what_was_hashed_from_elsewhere_is_not_taken() -> None:
    raw = HEADER + b"body\r\n"
    hashed = HashedBody(raw, len(HEADER) - 2)
    assert await hash_forms(raw, len(HEADER), FORMS, None, hashed) == hash_bodies(raw, len(HEADER), FORMS)
