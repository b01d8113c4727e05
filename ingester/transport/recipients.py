"""Whom a mail is for that came without an envelope: addresses of a provider's list, and of the mail's own header. Pure.

What a header says is only a suggestion: who hands in the mail decides by its scope what of it counts.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from ingester.core.address import Address, parse_path
from ingester.core.addresses import parse_addresses
from ingester.core.fields import HeaderBlock, header_start, read_header
from ingester.core.mime import Bounds
from ingester.core.words import line_text

MAX_FOUND: Final = 1000
"""Addresses taken from a header."""
_USUAL: Final = 128
"""Characters of an address that is worth remembering: what is longer is no address that many write to."""


def parse_recipient(text: str) -> Address | None:
    """One address as providers write it, bare or in angle brackets; None for what is none or has no domain."""
    address = _parse(_bare(text))
    return address if address is not None and address.domain else None


def parse_sender(text: str) -> str | None:
    """An envelope sender as providers write it: "" for the null one, None for what is no address."""
    bare = _bare(text)
    if not bare:
        return ""
    address = _parse(bare)
    return None if address is None else str(address)


def _bare(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


def _parse(bare: str) -> Address | None:
    return _parse_usual(bare) if len(bare) <= _USUAL else parse_path(bare)


@lru_cache(maxsize=1024)  # each is asked for twice: when it is checked, and when it is used
def _parse_usual(bare: str) -> Address | None:
    return parse_path(bare)


def top_header(raw: bytes, bounds: Bounds) -> HeaderBlock:
    """The header of the mail itself."""
    return read_header(
        raw,
        header_start(raw),
        len(raw),
        max_bytes=bounds.max_header_bytes,
        max_fields=bounds.max_header_fields,
        top=True,
    )


def in_headers(raw: bytes, bounds: Bounds) -> tuple[tuple[Address, ...], ...]:
    """What the header suggests, best first: each Delivered-To and X-Original-To by itself, newest (topmost) first, then
    all of To and Cc together.
    """
    block = top_header(raw, bounds)
    traces = [(value,) for name in ("delivered-to", "x-original-to") for value in block.all(name)[:MAX_FOUND]]
    groups = [*traces, (*block.all("to"), *block.all("cc"))]
    found = (_addresses(group, bounds.max_address_tokens) for group in groups)
    return tuple(group for group in found if group)


def _addresses(values: Iterable[bytes], max_tokens: int) -> tuple[Address, ...]:
    out: dict[Address, None] = {}
    for value in values:
        mailboxes, _ = parse_addresses(line_text(value), max_tokens=max_tokens)
        for mailbox in mailboxes:
            address = parse_recipient(mailbox.address or "")
            if address is not None and len(out) < MAX_FOUND:
                out[address] = None
    return tuple(out)


def first_bad(texts: Sequence[str]) -> int | None:
    """The place of the first that is no address, None where all are."""
    return next((place for place, text in enumerate(texts) if parse_recipient(text) is None), None)
