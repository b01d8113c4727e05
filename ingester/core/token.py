"""Reply tokens: signed proof that an address or a header was minted by us for one outbound message. Pure.

Two forms (design page, Reply tokens), read in any case, written in lower case:

    osr_<26 base32: the UUID>_<26 base32: 128 bits of HMAC-SHA256>    minted
    osr_<32 hex: the UUID>_<24 hex: 96 bits of HMAC-SHA256>           OpenSend's, verified and never minted

What is parsed is only token-shaped: nothing may be made of its id before `verify`, and whether the outbound message
exists for that tenant and has not expired is asked of the database. Any text parses or gives None; nothing raises.
"""

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

MAX_TEXT = 61
"""Characters of the longest token, OpenSend's."""
MAX_LOCAL = len("reply+") + MAX_TEXT
"""Octets of the longest local part that holds one: 67. Ours has 63, within the 64 of RFC 5321, 4.5.3.1.1."""
MAX_ID = 998
"""Characters of a Message-ID that is looked at: a line (RFC 5322, 2.1.1)."""

_SHAPE = re.compile(r"osr_(?:([a-z2-7]{26})_([a-z2-7]{26})|([0-9a-f]{32})_([0-9a-f]{24}))")
_CARRIERS = ("reply+", "reply.", "reply_", "reply-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token-shaped text, of which nothing is proven."""

    id: UUID
    """The outbound message that it claims to belong to."""
    id_text: str
    """The id as it was spelled, in lower case. 26 base32 digits have two spare bits: four spellings mean one UUID, and
    only the one with clear bits verifies. A forger's other three are token-shaped all the same, so that they cost the
    same HMACs and get the same reply as any other forgery."""
    signature: str
    """In lower case."""
    legacy: bool
    """Whether it has OpenSend's form."""

    @property
    def text(self) -> str:
        """The token in lower case."""
        return f"osr_{self.id_text}_{self.signature}"


def mint(secret: bytes, *, tenant: str, message_id: UUID, domain: str) -> Token:
    """Make the token of an outbound message. `tenant` is the slug, `domain` the reply domain in any case."""
    return _signed(secret, tenant, message_id, domain, legacy=False)


# -- reading -----------------------------------------------------------------------------------------------------------


def parse_token(text: str) -> Token | None:
    """The token that the whole text is, in either form and any case."""
    # ASCII before the case: U+017F and U+212A are s and k to a case-insensitive comparison.
    if len(text) > MAX_TEXT or not text.isascii():
        return None
    match = _SHAPE.fullmatch(text.lower())
    if match is None:
        return None
    minted_id, minted_signature, legacy_id, legacy_signature = match.groups()
    if minted_id is None:
        return Token(id=UUID(hex=legacy_id), id_text=legacy_id, signature=legacy_signature, legacy=True)
    message_id = UUID(bytes=base64.b32decode(minted_id.upper() + "======"))
    return Token(id=message_id, id_text=minted_id, signature=minted_signature, legacy=False)


def token_in_local_part(local: str) -> Token | None:
    """The token in a local part: after `reply` with `+`, `.`, `_` or `-`, or bare. Nothing may follow it."""
    if len(local) > MAX_LOCAL:
        return None
    carried = local[6:] if local[:6].lower() in _CARRIERS else local
    return parse_token(carried)


def token_in_id(rfc_id: str) -> Token | None:
    """The token in a Message-ID (without brackets): its left side reads as a local part does, its right side as any."""
    if len(rfc_id) > MAX_ID:
        return None
    left, _, _ = rfc_id.partition("@")
    return token_in_local_part(left)


# -- proving -----------------------------------------------------------------------------------------------------------


def verify(token: Token, secrets: Sequence[bytes], *, tenant: str, domain: str) -> bool:
    """Whether one of the live secrets signed this token for this tenant (its slug) and reply domain (in any case).

    Always one HMAC a secret, whatever the token; compared in constant time.
    """
    return signing_secret(token, secrets, tenant=tenant, domain=domain) is not None


def signing_secret(token: Token, secrets: Sequence[bytes], *, tenant: str, domain: str) -> int | None:
    """The place in `secrets` (from 0) of the one that signed this token, or None. It costs what `verify` costs."""
    given = _octets(token.text)
    # A list: every secret is tried before any answer is looked at.
    equal = [
        hmac.compare_digest(_octets(_signed(secret, tenant, token.id, domain, legacy=token.legacy).text), given)
        for secret in secrets
    ]
    return equal.index(True) if True in equal else None


def _signed(secret: bytes, tenant: str, message_id: UUID, domain: str, *, legacy: bool) -> Token:
    digest = hmac.digest(secret, _octets(f"{tenant}:{message_id}:{domain.lower()}"), "sha256")
    if legacy:
        return Token(id=message_id, id_text=message_id.hex, signature=digest.hex()[:24], legacy=True)
    return Token(id=message_id, id_text=_base32(message_id.bytes), signature=_base32(digest[:16]), legacy=False)


def _base32(data: bytes) -> str:
    """16 octets as 26 lower-case digits (RFC 4648, 6) without padding; the two spare bits are clear."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
