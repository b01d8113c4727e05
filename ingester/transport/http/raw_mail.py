"""A mail as it is (`message/rfc822`): what is known of it stands in the query, or in headers of the request. Pure.

event_id     X-Ingester-Event-Id      the hash of the mail where it is missing
provider     X-Ingester-Provider
recipient    X-Ingester-Recipient     as often as there are recipients; a header may list several
mail_from    X-Ingester-Mail-From     the envelope, which counts only from who may assert it
client_ip    X-Ingester-Client-Ip
helo         X-Ingester-Helo
"""

from dataclasses import dataclass
from typing import Final

from aiohttp import web
from multidict import istr

from ingester.core.addresses import parse_addresses
from ingester.transport.http.fields import (
    ACCEPTED,
    GENERIC,
    Fault,
    check_assertion,
    check_event_id,
    check_provider,
    check_recipients,
)
from ingester.transport.submission import Assertion, Submission
from ingester.web.body import unprocessable
from ingester.web.problem import Problem

NAMES: Final = ("event_id", "provider", "recipient", "mail_from", "client_ip", "helo")
_HEADERS: Final = {name: istr("X-Ingester-" + name.replace("_", "-")) for name in NAMES}
_PARAMETERS: Final = frozenset({*NAMES, ACCEPTED})
_ONCE: Final = {name: header for name, header in _HEADERS.items() if name != "recipient"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is said beside the mail, checked."""

    event_id: str | None
    provider: str | None
    recipients: tuple[str, ...]
    asserted: Assertion

    def submission(self, raw: bytes, provider: str | None) -> Submission | Problem:
        """With the mail. `provider` is whose token it is, where it is somebody's."""
        if not raw:
            return unprocessable(None, "The mail is empty.")
        return Submission(
            raw=raw,
            provider=self.provider or provider or GENERIC,
            event_id=self.event_id,
            recipients=self.recipients,
            asserted=self.asserted,
        )


def read_beside(request: web.Request, *, most: int) -> Beside | Fault:
    """Read the query and the headers. A name that nobody knows is a mistake that would lose mail if it were ignored."""
    query, headers = request.query, request.headers
    if not _PARAMETERS.issuperset(query):
        unknown = next(name for name in query if name not in _PARAMETERS)
        return unprocessable(unknown[:64] if unknown.isprintable() else None, "There is no such parameter.")
    single: dict[str, str | None] = dict.fromkeys(_ONCE)
    for name, header in _ONCE.items():
        if name not in query and header not in headers:
            continue
        value, *others = {*query.getall(name, ()), *headers.getall(header, ())}
        if others:
            return unprocessable(name, "This is given twice.")
        single[name] = value
    recipients = named(request)
    asserted = Assertion(mail_from=single["mail_from"], client_ip=single["client_ip"], helo=single["helo"])
    event_id, provider = single["event_id"], single["provider"]
    fault = (
        (None if event_id is None else check_event_id(event_id))
        or (None if provider is None else check_provider(provider))
        or check_recipients(recipients, field="recipient", most=most)
        or check_assertion(asserted)
    )
    if fault is not None:
        return fault
    return Beside(event_id=event_id, provider=provider, recipients=recipients, asserted=asserted)


def named(request: web.Request) -> tuple[str, ...]:
    """Recipients beside the body: those of the query one by one, those of the header as an address list."""
    out = request.query.getall("recipient", [])
    for line in request.headers.getall(_HEADERS["recipient"], []):
        mailboxes, _ = parse_addresses(line)
        out += [mailbox.address or mailbox.name for mailbox in mailboxes]
    return tuple(dict.fromkeys(out))
