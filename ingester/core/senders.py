"""Sender rules: whom a tenant or a mailbox lets in or keeps out, by the From address. Pure.

A block wins over an allow. An allow entry counts only for a sender that is verified: a From address alone proves
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ingester.core.address import Address, normalise_domain, parse_path
from ingester.core.outcome import Reason, Refusal

MAX_PARENTS = 20
"""Parent domains that are asked for, those nearest the root: a blocked domain may put any number of labels before."""


class Action(StrEnum):
    """What a rule does."""

    ALLOW = "allow"
    BLOCK = "block"


class SenderMode(StrEnum):
    """Whether only allowed senders come in."""

    NONE = "none"
    ALLOWLIST = "allowlist"


def pattern_of(text: str) -> str | None:
    """A rule's pattern in its one form: `name@example.com`, `example.com` or `*.example.com`; None for anything else.

    Local parts are compared in lower case, domains as A-labels.
    """
    if text.startswith("*."):
        domain = normalise_domain(text[2:])
        return None if domain is None else f"*.{domain}"
    if "@" in text:
        address = parse_path(text)
        return None if address is None or not address.domain else _whole(address)
    return normalise_domain(text)


def _whole(address: Address) -> str:
    return str(Address(local=address.key, domain=address.domain))


def patterns_for(from_address: str | None) -> tuple[str, ...]:
    """All patterns that would match this From address. None for what has no domain: no rule can name it.

    What is no address by our grammar has its domain all the same, by which DMARC judges it: a strange local part or an
    A-label of no known IDNA must not lead round a rule for the domain.
    """
    text = from_address or ""
    _, at, written = text.rpartition("@")
    domain = normalise_domain(written) or written.lower().removesuffix(".")
    if not at or not domain:
        return ()
    address = parse_path(text)
    whole = (_whole(address),) if address is not None else ()
    labels = domain.split(".")
    parents = [".".join(labels[n:]) for n in range(1, len(labels))][-MAX_PARENTS:]
    return *whole, domain, *(f"*.{parent}" for parent in parents)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedRule:
    """A rule of the tenant, or of the mailbox alone, that matches the From address."""

    action: Action
    pattern: str
    mailbox_only: bool


def sender_gate(
    rules: Sequence[MatchedRule], mode: SenderMode, *, verified: bool, unsure: bool
) -> tuple[Refusal | None, str]:
    """The refusal, if any, and what led to it. `unsure`: DNS did not tell whether the sender is verified."""
    block = next((one for one in rules if one.action is Action.BLOCK), None)
    if block is not None:
        return Refusal(reason=Reason.SENDER_BLOCKED), f"blocked by {block.pattern}"
    allow = next((one for one in rules if one.action is Action.ALLOW), None)
    if allow is not None and verified:
        return None, f"allowed by {allow.pattern}"
    if mode is SenderMode.NONE:
        return None, "no rule"
    if allow is not None and unsure:
        return Refusal(reason=Reason.AUTHENTICATION_UNAVAILABLE), f"{allow.pattern} is allowed, but DNS did not answer"
    if allow is not None:
        return Refusal(reason=Reason.SENDER_BLOCKED), f"{allow.pattern} is allowed, but the sender is not verified"
    return Refusal(reason=Reason.SENDER_BLOCKED), "not on the allowlist"
