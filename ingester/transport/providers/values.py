"""Values of a provider's form: that those which count are there and cannot be read in two ways, and what is kept of the
rest as evidence. Knows no provider.
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Final

from ingester.transport.command import printable
from ingester.transport.forms import Form
from ingester.web.body import unprocessable
from ingester.web.problem import Problem

_MAX_EVIDENCE: Final = 1500
"""Characters of one value that are kept: with at most ten values always less than a receipt takes."""
_MAX_HELO: Final = 255
_UNSTORABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def fault(
    form: Form, *, raw: str, raw_missing: str, needed: Iterable[str] = (), optional: Iterable[str] = ()
) -> Problem | None:
    """What keeps a form from being read: the mail, or another needed field, is missing; one of all these is repeated.

    Of two values, one may be checked and the other used. `raw_missing` tells the operator what to do.
    """
    if not form.first(raw):
        return unprocessable(raw, raw_missing)
    for name in needed:
        if form.first(name) is None:
            return unprocessable(name, "This field is missing.")
    for name in (raw, *needed, *optional):
        if len(form.fields.get(name, ())) > 1:
            return unprocessable(name, "This field came more than once.")
    return None


def text(value: bytes) -> str:
    """A value as text. Bytes that are no UTF-8 show as U+FFFD."""
    return value.decode("utf-8", "replace").strip()


def evidence(values: Mapping[str, str | None]) -> dict[str, str]:
    """What was said, cut to length, without what Postgres or JSON cannot hold."""
    return {name: _storable(value) for name, value in values.items() if value}


def _storable(value: str) -> str:
    return _UNSTORABLE.sub("\ufffd", value[:_MAX_EVIDENCE])


def said(form: Form, names: Iterable[str]) -> dict[str, str]:
    """What a form says under these names."""
    return evidence({name: text(value) for name in names if (value := form.first(name))})


def path(address: str) -> str:
    """An envelope address without angle brackets; "" is the null sender."""
    return address.strip().removeprefix("<").removesuffix(">")


def helo(name: str) -> str | None:
    """The name that a client gave, fit for a row; None for what is none."""
    return printable(name) if 0 < len(name) <= _MAX_HELO else None


def ip(address: str) -> str | None:
    """An IP address, None for what is none."""
    try:
        return str(ip_address(address.strip()))
    except ValueError:
        return None
