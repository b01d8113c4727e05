"""ingester.core.ids"""

import pytest

from ingester.core.ids import uuid7


def test_version_variant_and_time_stand_where_rfc_9562_puts_them() -> None:
    made = uuid7(unix_ms=0x017F22E279B0, entropy=b"\xff" * 10)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == 0x017F22E279B0
    assert str(made) == "017f22e2-79b0-7fff-bfff-ffffffffffff"


def test_later_ids_sort_later() -> None:
    assert uuid7(unix_ms=1, entropy=b"\xff" * 10) < uuid7(unix_ms=2, entropy=b"\0" * 10)


@pytest.mark.parametrize(("unix_ms", "entropy"), [(-1, b"\0" * 10), (1 << 48, b"\0" * 10), (0, b"\0" * 9)])
def test_what_does_not_fit_is_refused(unix_ms: int, entropy: bytes) -> None:
    with pytest.raises(ValueError, match="uuid7 needs"):
        uuid7(unix_ms=unix_ms, entropy=entropy)
