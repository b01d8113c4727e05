"""Secrets that we hand out: shown once, when they are made; only a hash is kept, and by it they are found."""

import base64
import hashlib
import hmac
from typing import Final

ENTROPY_BYTES: Final = 32
_NOTHING: Final = bytes(hashlib.sha256().digest_size)
"""What an unknown secret is compared with, so that it costs what a known one costs. None has this hash."""


def secret_text(prefix: str, entropy: bytes) -> str:
    """The prefix and 256 bits in lower-case base32. Raises ValueError on another number of bits."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a secret needs {ENTROPY_BYTES} bytes of entropy")
    return prefix + base64.b32encode(entropy).decode("ascii").rstrip("=").lower()


def secret_hash(text: str) -> bytes:
    """What is stored of a secret. No salt, no stretching: 256 random bits cannot be guessed, and it must be found."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def is_same(wanted: bytes, stored: bytes | None) -> bool:
    """Whether these are one hash, in constant time, where nothing was found too."""
    return hmac.compare_digest(wanted, _NOTHING if stored is None else stored) and stored is not None
