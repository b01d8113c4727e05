"""The proof that a domain is a tenant's: a TXT record that nobody else can have been asked for.

The value depends on the tenant, the name, and the moment at which the tenant added it: another tenant has another one,
and a domain that is removed and added again must be proved anew. Nothing secret is in it: it stands in public DNS.
"""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

LABEL: Final = "_ingester-challenge"
_PREFIX: Final = "ingester-verification="
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BYTES: Final = 20
"""160 bits: 32 characters of base32."""


def challenge_of(tenant_id: UUID, name: str, added_at: datetime) -> str:
    """The value for one tenant's domain. Who knows neither the tenant's id nor the microsecond cannot guess it."""
    moment = (added_at - _EPOCH) // timedelta(microseconds=1)
    text = f"ingester domain challenge\0{tenant_id}\0{name.lower()}\0{moment}"
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:_BYTES]).decode().lower()


def owner_name(name: str) -> str:
    """Where the record stands."""
    return f"{LABEL}.{name}"


def record_text(challenge: str) -> str:
    """What the record says."""
    return f"{_PREFIX}{challenge}"


def holds(texts: tuple[bytes, ...], challenge: str) -> bool:
    """Whether the record is among those that were found; blanks around it and its case do not matter."""
    wanted = record_text(challenge).encode()
    return any(text.strip().lower() == wanted for text in texts)
