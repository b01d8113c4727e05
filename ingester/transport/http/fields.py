"""What may stand beside a mail, and how each is checked: the same rules for headers, queries and JSON. Pure.

A fault names the field and never what stood in it.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from ingester.core.outcome import Reason
from ingester.transport.intake import plain_ip
from ingester.transport.recipients import first_bad, parse_sender
from ingester.transport.submission import Assertion
from ingester.web.body import PLAIN, unprocessable
from ingester.web.problem import Problem

MAX_EVENT_ID: Final = 998
MAX_PROVIDER: Final = 64
MAX_HELO: Final = 255
PROVIDER: Final = r"\A[a-z0-9][a-z0-9._-]*\Z"
GENERIC: Final = "generic"

EventId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EVENT_ID, pattern=PLAIN)]
ProviderName = Annotated[str, msgspec.Meta(max_length=MAX_PROVIDER, pattern=PROVIDER)]
Helo = Annotated[str, msgspec.Meta(max_length=MAX_HELO, pattern=PLAIN)]

_PROVIDER: Final = re.compile(PROVIDER)
_PLAIN: Final = re.compile(PLAIN)

ACCEPTED: Final = "accepted"
"""The parameter with which a URL asks for 200 where a mail is stored: some providers know no other yes."""
ACCEPTED_STATUS: Final = 200

Fault = Problem | Reason
"""What is wrong with a request: a reason where it is one that refusals are counted by."""


def check_event_id(text: str) -> Problem | None:
    """An event's id is a line of text."""
    if not text or len(text) > MAX_EVENT_ID or not _PLAIN.match(text) or not _is_text(text):
        return unprocessable("event_id", f"An event id is 1 to {MAX_EVENT_ID} characters without controls.")
    return None


def check_provider(text: str) -> Problem | None:
    """A provider's name is ours to choose, and short."""
    if len(text) > MAX_PROVIDER or not _PROVIDER.match(text):
        return unprocessable("provider", "A provider is named in a-z, 0-9, `.`, `_` and `-`.")
    return None


def check_accepted(texts: Sequence[str]) -> Problem | None:
    """There is one other answer that can be asked for."""
    if all(text == str(ACCEPTED_STATUS) for text in texts):
        return None
    return unprocessable(ACCEPTED, f"Only {ACCEPTED_STATUS} can be asked for.")


def check_recipients(texts: tuple[str, ...], *, field: str, most: int) -> Fault | None:
    """Recipients are addresses, and not too many."""
    if len(texts) > most:
        return Reason.TOO_MANY_RECIPIENTS
    bad = first_bad(texts)
    if bad is None:
        return None
    return unprocessable(f"{field}[{bad}]", "This is not an address like name@example.com.")


def check_assertion(told: Assertion, *, within: str = "") -> Problem | None:
    """An envelope is checked whoever tells it, also where it will not count. `within` is the object it stands in."""
    if told.mail_from is not None and parse_sender(told.mail_from) is None:
        return unprocessable(f"{within}mail_from", "This is not an address like name@example.com, nor empty.")
    if told.client_ip is not None and plain_ip(told.client_ip) is None:
        return unprocessable(f"{within}client_ip", "This is not an IP address.")
    helo = told.helo
    if helo is not None and (len(helo) > MAX_HELO or not _PLAIN.match(helo) or not _is_text(helo)):
        return unprocessable(f"{within}helo", f"A name has at most {MAX_HELO} characters without controls.")
    return None


def _is_text(text: str) -> bool:
    """Whether it came as UTF-8: what did not has lone surrogates."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
