"""What a mail that SES has put into a bucket says of its own envelope, where no notification does. Pure, bounded.

SES writes Return-Path first of all, and then its own Received field with the recipient in it. What stands beneath is
the sender's: To and Cc are suggestions.
"""

import re
from typing import Final

from ingester.core.address import Address
from ingester.core.mime import Bounds
from ingester.transport.recipients import in_headers, parse_recipient, top_header
from ingester.transport.ses.mailroom import Said

_MAX_TRACE: Final = 4096
"""Bytes of a trace field that are looked at."""
_RETURN_PATH: Final = re.compile(rb"\s*<([^<>\s]{0,400})>\s*")
_BY_SES: Final = re.compile(rb"\sby\s{1,10}inbound-smtp\.[a-z0-9-]{1,40}\.amazonaws\.com\s")
_FOR: Final = re.compile(rb"\sfor\s{1,10}<?([^\s<>;]{1,400})>?\s{0,10};")


def read_trace(raw: bytes, bounds: Bounds, domains: frozenset[str]) -> Said:
    """Who sent it and whom it is for, as far as the header tells, and of addresses those in these domains alone."""
    block = top_header(raw, bounds)
    suggested = [address for group in in_headers(raw, bounds) for address in group]
    received = (block.first("received") or b"")[:_MAX_TRACE]
    found = dict.fromkeys(one for one in (*_for(received), *suggested) if one.domain in domains)
    name, value = block.fields[0] if block.fields else ("", b"")
    return Said(
        mail_from=_sender(value[:_MAX_TRACE]) if name == "return-path" else None,
        recipients=tuple(map(str, found)),
        metadata={"found_by": "reconciler"},
    )


def _sender(value: bytes) -> str | None:
    """The path of a Return-Path field (RFC 5321, 4.4); "" is the null sender."""
    found = _RETURN_PATH.fullmatch(value)
    return None if found is None else found[1].decode("utf-8", "replace")


def _for(received: bytes) -> tuple[Address, ...]:
    """The recipient that SES names in its own field (RFC 5321, 4.4, `for`)."""
    found = _FOR.search(received) if _BY_SES.search(received) else None
    address = None if found is None else parse_recipient(found[1].decode("utf-8", "replace"))
    return () if address is None else (address,)
