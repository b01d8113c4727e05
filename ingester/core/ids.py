"""Ids: UUIDv7 (RFC 9562, 5.7), made by us so that a row's id is known before the row exists."""

from uuid import UUID, SafeUUID

SYSTEM_TENANT = UUID(int=0)
"""The tenant of what belongs to nobody (design page, law 4)."""
ENTROPY = 10
"""Random bytes that an id is made of."""


def uuid7(*, unix_ms: int, entropy: bytes) -> UUID:
    """Build a UUIDv7 from milliseconds since the epoch and 10 bytes of entropy.

    Raises ValueError when the entropy is not 10 bytes or the time does not fit 48 bits.
    """
    if len(entropy) != ENTROPY:
        raise ValueError("uuid7 needs 10 bytes of entropy")
    if not 0 <= unix_ms < 1 << 48:
        raise ValueError("uuid7 needs a time within 48 bits of milliseconds")
    rest = int.from_bytes(entropy, "big")
    rand_a = rest >> 68
    rand_b = rest & ((1 << 62) - 1)
    return _uuid(unix_ms << 80 | 0x7 << 76 | rand_a << 64 | 0x2 << 62 | rand_b)


def _uuid(number: int) -> UUID:
    """`UUID(int=number)` without its choosing among six arguments: a mail needs about ten ids."""
    made = UUID.__new__(UUID)
    object.__setattr__(made, "int", number)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made
