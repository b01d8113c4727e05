"""Whose a place is: prefixes by whole segments of a key, and owners that exclude each other."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ingester.settings import Owner, Source
from ingester.transport.ses.owners import Owned, folder, scope_of, source_of

ACME, GLOBEX = UUID(int=1), UUID(int=2)


def source(prefix: str, bucket: str = "bucket") -> Source:
    return Source(bucket=bucket, prefix=prefix, owner=Owner(tenant=prefix or "all"))


SOURCES = (source("a"), source("a/b/"), source("ab"), source("", "other"))


def test_the_deepest_place_that_fits() -> None:
    def found(key: str, bucket: str = "bucket") -> str | None:
        one = source_of(SOURCES, bucket, key)
        return None if one is None else one.prefix

    assert found("a/x") == "a"
    assert found("a/b/x") == "a/b/"
    assert found("a/b") == "a"
    assert found("ab/x") == "ab"
    assert [found(key) for key in ("a", "abc/x", "x", "/a/x", "A/x", "", "../a/x", "a\\b")] == [None] * 8
    assert found("a/../ab/x") == "a"
    assert found("anything", "other") == ""
    assert found("a/x", "nobody-s") is None


@given(st.text(), st.lists(st.text(max_size=5), max_size=5))
def test_a_key_lies_in_its_place(key: str, prefixes: list[str]) -> None:
    found = source_of([source(one) for one in prefixes], "bucket", key)
    assert found is None or key.startswith(folder(found))
    assert found is not None or not any(key.startswith(folder(source(one))) for one in prefixes)


def test_owners_bound_each_other() -> None:
    acme, domain = Owned(tenant_id=ACME), Owned(tenant_id=ACME, domain="acme.test")
    both = scope_of([acme, domain])
    assert both is not None
    assert (both.tenant_id, both.domains, both.may_assert_envelope) == (ACME, frozenset({"acme.test"}), True)
    whole = scope_of([acme])
    assert whole is not None
    assert (whole.tenant_id, whole.domains) == (ACME, None)
    nobody = scope_of([])
    assert nobody is not None
    assert (nobody.tenant_id, nobody.domains) == (None, None)
    assert scope_of([acme, Owned(tenant_id=GLOBEX)]) is None
    assert scope_of([domain, Owned(tenant_id=ACME, domain="other.test")]) is None
