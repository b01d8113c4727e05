"""Signing a mail as its sender would (RFC 6376), by dkimpy: for those who try what their checks make of it."""

import dkim

_SIGNED = (b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"in-reply-to", b"references", b"content-type")


class SigningError(Exception):
    """The mail cannot be signed with this key; the text says why."""


def sign(raw: bytes, *, domain: str, selector: str, key: bytes) -> bytes:
    """The mail with a relaxed/relaxed signature on top. `key` is an RSA key in PEM; lines end in CRLF."""
    try:
        field = dkim.sign(
            raw,
            selector.encode(),
            domain.encode(),
            key,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=list(_SIGNED),
        )
    except (dkim.DKIMException, ValueError, IndexError) as error:
        raise SigningError(f"the mail cannot be signed: {error}") from error
    return bytes(field) + raw
