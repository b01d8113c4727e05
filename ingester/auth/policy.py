"""What a mailbox does about the verdicts: the one place that decides. Pure.

Refused is only what the owner of the From domain wants refused, or what the mail itself makes impossible to judge; a
fault of DNS defers; what cannot be known is stored and flagged, never refused.
"""

from dataclasses import dataclass
from enum import StrEnum

from ingester.auth.report import AuthReport, Dmarc, Policy, Result


class AuthPolicy(StrEnum):
    """`mailboxes.auth_policy`."""

    OFF = "off"
    MONITOR = "monitor"
    QUARANTINE = "quarantine"
    ENFORCE = "enforce"


class Treatment(StrEnum):
    """What becomes of a mail for the sake of its verdicts."""

    STORE = "store"
    QUARANTINE = "quarantine"
    """Stored, with the flag."""
    REFUSE = "refuse"
    DEFER = "defer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posture:
    """What a mailbox asks of senders. `require_alignment`: also of domains without DMARC, that SPF or DKIM align."""

    policy: AuthPolicy
    require_alignment: bool
    accept_forwarded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The decision, what enforce would have decided, and why, in one sentence."""

    treatment: Treatment
    enforced: Treatment
    why: str


def verified(report: AuthReport, *, accept_forwarded: bool) -> bool:
    """Whether the sender is whom From names: an aligned pass, or a forwarder's word where the mailbox takes it."""
    dmarc = report.dmarc
    if dmarc.result is Result.PASS_VIA_FORWARDER:
        return accept_forwarded
    return dmarc.result is Result.PASS or (_without_record(dmarc) and bool(dmarc.aligned))


def undecided(report: AuthReport) -> bool:
    """Whether DNS left open what might verify the sender: what would be refused for want of it must wait."""
    dmarc = report.dmarc
    if dmarc.result is Result.TEMPERROR:
        return True
    waits = (report.spf.result, report.dkim.result, *(one.result for one in report.dkim.signatures))
    return _without_record(dmarc) and not dmarc.aligned and Result.TEMPERROR in waits


def rule(report: AuthReport, posture: Posture) -> Ruling:
    """Decide by the table: policy, result, and what the door could know."""
    enforced, why = _enforced(report, posture)
    treatment = Treatment.STORE
    if posture.policy is AuthPolicy.ENFORCE:
        treatment = enforced
    elif posture.policy is AuthPolicy.QUARANTINE and enforced is not Treatment.STORE:
        treatment = Treatment.QUARANTINE
    return Ruling(treatment=treatment, enforced=enforced, why=why)


_BY_DISPOSITION = {
    Policy.REJECT: (Treatment.REFUSE, "DMARC failed, and its owner wants such mail refused."),
    Policy.QUARANTINE: (Treatment.QUARANTINE, "DMARC failed, and its owner wants such mail set apart."),
    Policy.NONE: (Treatment.STORE, "DMARC failed, and its owner asks for nothing."),
}


def _enforced(report: AuthReport, posture: Posture) -> tuple[Treatment, str]:
    dmarc = report.dmarc
    if dmarc.mail_at_fault:
        return Treatment.REFUSE, "The mail does not name one author that could be checked."
    if _without_record(dmarc):
        return _unrecorded(report, posture)
    if dmarc.result is Result.PASS:
        return Treatment.STORE, "DMARC passed."
    if dmarc.result is Result.TEMPERROR:
        return Treatment.DEFER, "DNS did not answer what the check of the sender needs."
    if dmarc.result is Result.PASS_VIA_FORWARDER and posture.accept_forwarded:
        return Treatment.STORE, "DMARC failed here, but passed at a trusted forwarder."
    if dmarc.result in (Result.FAIL, Result.PASS_VIA_FORWARDER):
        return _BY_DISPOSITION[dmarc.disposition]
    return Treatment.QUARANTINE, "Who sent it could not be known at this door."


def _without_record(dmarc: Dmarc) -> bool:
    """No policy, or one that cannot be read, which counts the same: it is not the mail's fault."""
    return dmarc.result is Result.NONE or (dmarc.result is Result.PERMERROR and not dmarc.mail_at_fault)


def _unrecorded(report: AuthReport, posture: Posture) -> tuple[Treatment, str]:
    if report.dmarc.aligned:
        return Treatment.STORE, "The domain has no DMARC policy; SPF or DKIM speaks for it."
    if not posture.require_alignment:
        return Treatment.STORE, "The domain has no DMARC policy."
    if undecided(report):
        return Treatment.DEFER, "DNS did not answer what the check of the sender needs."
    if report.spf.result is Result.UNKNOWN:
        return Treatment.QUARANTINE, "Who sent it could not be known at this door."
    return Treatment.REFUSE, "The domain has no DMARC policy, and neither SPF nor DKIM speaks for it."


_STRENGTH = {
    Result.PASS: 7,
    Result.PASS_VIA_FORWARDER: 6,
    Result.NONE: 4,
    Result.NEUTRAL: 4,
    Result.PERMERROR: 3,
    Result.SOFTFAIL: 2,
    Result.FAIL: 2,
    Result.TEMPERROR: 1,
    Result.UNKNOWN: 0,
}


def strength(report: AuthReport) -> int:
    """How much a report says for the sender, to choose among the receipts of one message: DMARC, then DKIM, then SPF.

    What could not be known is weaker than a fail: a fail is knowledge, and stays until something passes.
    """
    dmarc = report.dmarc
    first = _STRENGTH[dmarc.result] + (1 if _without_record(dmarc) and dmarc.aligned else 0)
    return first * 100 + _STRENGTH[report.dkim.result] * 10 + _STRENGTH[report.spf.result]
