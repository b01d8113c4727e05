"""What a signature says: what is read of it once is not read for another one."""

import pytest

from ingester.auth import dkim_signature
from ingester.auth.dkim_signature import Claim, read_claim
from ingester.auth.header import HeaderField

TAGS = {
    "v": "1",
    "a": "rsa-sha256",
    "c": "relaxed/simple",
    "d": "Example.test",
    "s": "sel",
    "i": "ann@sub.example.test",
    "h": "From : to",
    "q": "dns/txt",
    "t": "100",
    "x": "200",
    "l": "7",
    "bh": "YWJj",
    "b": "ZGVm\r\n Z2hp",
}


def claim(**tags: str | None) -> Claim:
    said = "; ".join(f"{name}={text}" for name, text in (TAGS | tags).items() if text is not None)
    return read_claim(HeaderField("dkim-signature", f"DKIM-Signature: {said}\r\n".encode()))


def test_all_of_it_is_read() -> None:
    for _ in range(2):  # the second time from memory
        one = claim()
        assert one.problem is None
        assert (one.body_length, one.signed_at, one.expires_at) == (7, 100, 200)
        assert (one.body_hash, one.signature, one.digest_prefix) == (b"abc", b"defghi", "ZGVmZ2hp")
        habits = one.habits
        assert (habits.domain, habits.selector, habits.key_name) == (
            "example.test",
            "sel",
            "sel._domainkey.example.test",
        )
        assert (habits.algorithm, habits.header_relaxed, habits.body_relaxed) == ("rsa-sha256", True, False)
        assert (habits.identity, habits.identity_domain) == ("ann@sub.example.test", "sub.example.test")
        assert habits.signed_headers == habits.shown_headers == ("from", "to")


@pytest.mark.parametrize("tag", ["v", "a", "c", "d", "s", "i", "h", "t", "x", "l", "bh", "b"])
def test_each_tag_tells_two_signatures_apart(tag: str) -> None:
    claim()
    for text in (None, "", "9"):
        assert claim(**{tag: text})._replace(field=claim().field) != claim()


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ({"v": None, "a": "x", "x": "1"}, "the tag v= is missing"),
        ({"v": "2", "a": "x", "x": "1"}, "v= is not 1"),
        ({"h": "to", "x": "1", "q": "http"}, "From is not signed (RFC 6376, 5.4)"),
        ({"x": "1", "q": "http", "l": "x"}, "x= is before t="),
        ({"q": "http", "l": "x", "bh": "?"}, "q= names no method that is known"),
        ({"l": "x", "bh": "?"}, "l= is no number, or none that can be true"),
        ({"bh": "\u00e9", "b": ""}, "bh= is empty or no base64"),
        ({"b": "=\x01"}, "the signature cannot be read: the value of b= has forbidden characters"),
    ],
)
def test_the_first_problem_is_told(tags: dict[str, str | None], problem: str) -> None:
    for _ in range(2):
        assert claim(**tags).problem == problem


def test_what_is_long_is_read_but_not_kept() -> None:
    kept = dkim_signature._recalled.cache_info().currsize
    one = claim(h=":".join(["from", *(f"x-{number}" for number in range(2_000))]))
    assert one.problem is None
    assert len(one.habits.signed_headers) == 2_001
    assert len(one.habits.shown_headers) == dkim_signature.MAX_SIGNED_HEADERS
    assert dkim_signature._recalled.cache_info().currsize == kept
