"""Ids: UUIDv7 (RFC 9562, 5.7), made by us so that a row's id is known before the row exists."""

from uuid import UUID

SYSTEM_TENANT = UUID(int=0)
"""The tenant of what belongs to nobody (design page, law 4)."""


def uuid7(*, unix_ms: int, entropy: bytes) -> UUID:
    """Build a UUIDv7 from milliseconds since the epoch and 10 bytes of entropy.

    Raises ValueError when the entropy is not 10 bytes or the time does not fit 48 bits.
    """
    if len(entropy) != 10:
        raise ValueError("uuid7 needs 10 bytes of entropy")
    if not 0 <= unix_ms < 1 << 48:
        raise ValueError("uuid7 needs a time within 48 bits of milliseconds")
    rest = int.from_bytes(entropy, "big")
    rand_a = rest >> 68
    rand_b = rest & ((1 << 62) - 1)
    return UUID(int=unix_ms << 80 | 0x7 << 76 | rand_a << 64 | 0x2 << 62 | rand_b)
