"""Ids: UUIDv7 (RFC 9562, 5.7), made by us so that a row's id is known before the row exists."""

from struct import Struct
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
    return stamped(unix_ms, tails(entropy)[0])


def tails(entropy: bytes) -> list[int]:
    """What stands behind the time in a UUIDv7, of each 10 bytes: version, 12 random bits, variant, 62 random bits."""
    return [
        (0x7000 | rand_a & 0xFFF) << 64 | 0x2 << 62 | rand_b & (1 << 62) - 1
        for rand_a, rand_b in _PIECES.iter_unpack(entropy)
    ]


def stamped(unix_ms: int, tail: int) -> UUID:
    """Put the time before it: `UUID(int=number)` without its choosing among six arguments, for a mail needs ten ids."""
    made = _new(UUID)
    _set(made, "int", unix_ms << 80 | tail)
    _set(made, "is_safe", _UNKNOWN)
    return made


_PIECES = Struct(">HQ")
_UNKNOWN = SafeUUID.unknown
_new, _set = UUID.__new__, object.__setattr__
