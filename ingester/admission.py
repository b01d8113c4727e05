"""May this sender write to this mailbox, and is he who he says? Sender rules and verdicts in one place. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final

from ingester.auth.check import Checked
from ingester.auth.policy import AuthPolicy, Posture, Treatment, rule, strength, undecided, verified
from ingester.auth.report import Arc, AuthReport, Dmarc, Result, Voucher
from ingester.auth.results import SES_ID, vouch
from ingester.core.envelope import Door
from ingester.core.outcome import Reason, Refusal
from ingester.core.resolve import Sender
from ingester.core.rules import Standing
from ingester.core.senders import sender_gate
from ingester.store.finding import Finding, TrustedForwarder

_OWN_DOORS: Final[Mapping[Door, str]] = {Door.SES: SES_ID}
"""Upstreams with a door of their own: who hands in mail there is known by a signature, not by an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What is decided about the sender for one mailbox. `report` is as this tenant sees it."""

    refusal: Refusal | None
    sender: Sender
    quarantined: bool
    strength: int
    report: AuthReport
    trail: dict[str, Any]
    """For the decision column; its `why` is also the detail of a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedIn:
    """Whence a mail came to us."""

    door: Door
    client_ip: str


def admit(checked: Checked, by: HandedIn, finding: Finding, standing: Standing) -> Admission:
    """Pass the gates that look at the sender: sender rules first, then the authentication policy."""
    report = _vouched(checked, by, finding, standing)
    policy = AuthPolicy(standing.auth_policy)
    ruling = rule(
        report,
        Posture(
            policy=policy,
            require_alignment=standing.require_alignment,
            accept_forwarded=standing.accept_forwarded,
        ),
    )
    known = verified(report, accept_forwarded=standing.accept_forwarded)
    awaited = _awaits_forwarder(checked, by, finding) and standing.accept_forwarded
    unsure = awaited or undecided(report)
    refusal, by_rule = sender_gate(finding.rules, standing.sender_mode, verified=known, unsure=unsure)
    why = by_rule if refusal is not None else ruling.why
    if refusal is None and ruling.treatment is Treatment.REFUSE and awaited:
        refusal = Refusal(reason=Reason.AUTHENTICATION_UNAVAILABLE)
        why = "DMARC failed, and DNS did not answer for the seal of a forwarder that is trusted."
    elif refusal is None and ruling.treatment is Treatment.REFUSE:
        refusal = Refusal(reason=Reason.AUTHENTICATION_FAILED)
    elif refusal is None and ruling.treatment is Treatment.DEFER:
        refusal = Refusal(reason=Reason.AUTHENTICATION_UNAVAILABLE)
    dmarc = report.dmarc.result
    return Admission(
        refusal=refusal,
        sender=Sender(verified=known, dmarc=_for_attaching(report.dmarc, policy)),
        quarantined=ruling.treatment is Treatment.QUARANTINE,
        strength=strength(report),
        report=report,
        trail={
            "verified": known,
            "dmarc": dmarc,
            "policy": policy,
            "treatment": ruling.treatment,
            "enforced": ruling.enforced,
            "rule": by_rule,
            "why": why,
        },
    )


def _for_attaching(dmarc: Dmarc, policy: AuthPolicy) -> Result:
    """What keeps a mail from a conversation: a fail, and a From that cannot be judged, which is as good as forged.

    Where the verdicts are switched off, neither does.
    """
    if policy is AuthPolicy.OFF:
        return Result.UNKNOWN
    return Result.FAIL if dmarc.mail_at_fault else dmarc.result


_UNPROVEN = (Result.FAIL, Result.UNKNOWN)
"""What a forwarder can save: a fail, and what this door cannot know because the mail comes by a relay of our own."""


def forwarder_names(checked: Checked) -> tuple[str, ...]:
    """Whom the registry must be asked about: only a mail that did not pass needs a forwarder's word."""
    report = checked.report
    if report.dmarc.result not in _UNPROVEN:
        return ()
    names = {seal.domain.lower() for seal in report.arc.seals}
    names |= {statement.authserv_id.lower() for statement in checked.statements}
    return tuple(sorted(names))


def _vouched(checked: Checked, by: HandedIn, finding: Finding, standing: Standing) -> AuthReport:
    """The report as this tenant sees it: a failed DMARC may have passed at a forwarder that it trusts."""
    report = checked.report
    voucher = _voucher(checked, report.arc, by, finding)
    if voucher is None or (report.dmarc.result is Result.UNKNOWN and not standing.accept_forwarded):
        return report  # what is unknown stays so: declining a forwarder's word proves nothing against the mail
    return replace(report, voucher=voucher, dmarc=replace(report.dmarc, result=Result.PASS_VIA_FORWARDER))


def _awaits_forwarder(checked: Checked, by: HandedIn, finding: Finding) -> bool:
    """Whether a forwarder would vouch if DNS had answered for its seal. DMARC stays failed: nothing is proven yet."""
    arc = checked.report.arc
    if arc.result is not Result.TEMPERROR:
        return False
    return _voucher(checked, replace(arc, result=Result.PASS), by, finding) is not None


def _voucher(checked: Checked, arc: Arc, by: HandedIn, finding: Finding) -> Voucher | None:
    dmarc = checked.report.dmarc
    if dmarc.result not in _UNPROVEN or not finding.forwarders:
        return None
    return vouch(
        arc=arc,
        statements=checked.statements,
        trusted_sealers=frozenset(one.name for one in finding.forwarders if one.kind == "arc"),
        trusted_ids=frozenset(one.name for one in finding.forwarders if one.kind == "authserv_id" and _is_of(by, one)),
        from_domain=dmarc.from_domain,
    )


def _is_of(by: HandedIn, upstream: TrustedForwarder) -> bool:
    return _OWN_DOORS.get(by.door) == upstream.name or _from_one_of(by.client_ip, upstream.networks)


def _from_one_of(client_ip: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        ip = ip_address(client_ip.partition("%")[0])
    except ValueError:
        return False
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)
