"""The judging of one mail: what was found in, what is to be written and answered out. No I/O, no clock, no randomness.

Ids are given by the caller once per arrival, so that judging again (a retry, a fallback) writes the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from ingester.admission import Admission, HandedIn, admit, forwarder_names
from ingester.attaching import steps, token_ids
from ingester.case import Case, Limits, Target
from ingester.core.address import normalise
from ingester.core.envelope import Door
from ingester.core.kind import Kind, Verdict, classify
from ingester.core.outbound_status import status_of_answered
from ingester.core.outcome import Outcome, Reason, Refusal, Stored
from ingester.core.resolve import (
    Attachment,
    Citation,
    Method,
    attach,
    content_claim,
    event_claim,
    event_key,
    id_hash,
    raw_claim,
)
from ingester.core.rules import cold_gate, loop_gate, quota_gate, status_gate
from ingester.core.senders import patterns_for
from ingester.spam import SpamAction, SpamVerdict
from ingester.store.finding import Finding, Query
from ingester.store.mail import AuthColumns, Claim, Delivery, Mail, Refused, Written
from ingester.store.provider_events import Event

NO_ID_CLAIM_LIFE = timedelta(hours=24)
"""A mail without Message-ID is only recognised by its bytes, and only a day long: equal alarms are sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What to write, a mail per tenant, and what the reply must know: who was refused, by recipient."""

    mails: tuple[Mail, ...]
    refused: tuple[tuple[str, Refusal], ...]

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        return tuple(refusal for _, refusal in self.refused)


def queries(case: Case) -> list[Query]:
    """What must be asked for this case: one query per target."""
    hashes = tuple([citation.hash for citation in case.cited])
    patterns = patterns_for(case.message.from_address)
    forwarders = forwarder_names(case.checked)
    author = case.message.from_address
    return [
        Query(
            tenant_id=target.route.tenant_id,
            mailbox_id=target.route.mailbox_id,
            hashes=hashes,
            patterns=patterns,
            forwarders=forwarders,
            token_ids=token_ids(target.route, case.tokens),
            from_hash=id_hash(normalise(author)) if author else None,
            day=case.envelope.received_at.date(),
        )
        for target in case.targets
    ]


def judge(case: Case, findings: Sequence[Finding], limits: Limits) -> Judgement:
    """Decide every target. `findings` stand in the order of `queries`."""
    cited = case.cited
    deliveries: dict[UUID, list[Delivery]] = {}
    refused: dict[UUID, list[Refused]] = {}
    answers: list[tuple[str, Refusal]] = []
    for unrouted in case.unrouted:
        answers += [(text, unrouted.refusal) for text in unrouted.recipients]
        refused.setdefault(unrouted.tenant_id, []).append(
            Refused(id=unrouted.id, reason=unrouted.refusal.reason, recipients=unrouted.recipients, detail="")
        )
    for target, finding in zip(case.targets, findings, strict=True):
        tenant_id = target.route.tenant_id
        answer = _gates(case, target, finding, cited, limits)
        if isinstance(answer, _Admitted):
            deliveries.setdefault(tenant_id, []).append(_delivery(case, target, answer, limits))
            continue
        refusal, detail = answer
        answers += [(text, refusal) for text in target.recipients]
        refused.setdefault(tenant_id, []).append(
            Refused(id=target.refusal_id, reason=refusal.reason, recipients=target.recipients, detail=detail)
        )
    tenants = sorted({*deliveries, *refused})
    mails = tuple([_mail(case, t, tuple(deliveries.get(t, ())), tuple(refused.get(t, ())), limits) for t in tenants])
    return Judgement(mails=mails, refused=tuple(answers))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    """What passed all gates: who sent it, and which conversation it joins."""

    admission: Admission
    attachment: Attachment
    flagged_as_spam: bool


def _gates(
    case: Case, target: Target, finding: Finding, cited: tuple[Citation, ...], limits: Limits
) -> _Admitted | tuple[Refusal, str]:
    """The gates in the order of the design page: the first that refuses names the reason."""
    standing, envelope = finding.standing, case.envelope
    if standing is None:
        return Refusal(reason=Reason.UNKNOWN_MAILBOX), "the mailbox is gone"
    refusal = status_gate(standing.status, envelope.received_at)
    refusal = refusal or loop_gate(case.message.received_count, limits.max_received)
    if refusal is not None:
        return refusal, ""
    by = HandedIn(door=envelope.door, client_ip=envelope.client.ip)
    admission = admit(case.checked, by, finding, standing)
    if admission.refusal is not None:
        return admission.refusal, admission.trail["why"]
    found = steps(target.route, case.tokens, cited, finding, secrets=limits.secrets, now=envelope.received_at)
    attachment = attach(found, cited, admission.sender, strict=standing.strict_senders)
    refusal = quota_gate(standing.quotas, len(envelope.raw), matched=attachment.reply_to is not None)
    if refusal is not None:
        return refusal, "the quota of the day is spent"
    cold = attachment.reply_to is None
    refusal = _spam_gate(case.spam) if cold else None
    if refusal is not None:
        return refusal, "taken for spam"
    refusal = cold_gate(standing, attachment)
    if refusal is not None:
        return refusal, attachment.reason
    flagged = cold and case.spam is not None and case.spam.action in _FLAGGED
    return _Admitted(admission=admission, attachment=attachment, flagged_as_spam=flagged)


_SPAM = {SpamAction.REFUSE: Reason.SPAM_REFUSED, SpamAction.DEFER: Reason.SPAM_DEFERRED}
_FLAGGED = (SpamAction.FLAG, SpamAction.UNKNOWN)
"""A filter that gave no verdict must not open the door: the mail is stored, and stands out."""


def _spam_gate(verdict: SpamVerdict | None) -> Refusal | None:
    """What the spam filter wants of a cold mail; what joins a conversation is not asked."""
    reason = _SPAM.get(verdict.action) if verdict is not None else None
    return None if reason is None else Refusal(reason=reason)


def _mail(
    case: Case, tenant_id: UUID, deliveries: tuple[Delivery, ...], refused: tuple[Refused, ...], limits: Limits
) -> Mail:
    return Mail(
        tenant_id=tenant_id,
        envelope=case.envelope,
        raw_id=case.raw_ids.get(tenant_id, UUID(int=0)),
        raw_sha256=case.raw_sha256,
        raw_stored=case.raw_stored,
        rfc_message_id=case.rfc_message_id,
        message=case.message if deliveries else None,
        # The verdicts of one tenant are the same in all its mailboxes; who is refused sees them before any forwarder.
        auth_report=deliveries[0].auth_report if deliveries else case.checked.report,
        contact_id=case.contact_ids.get(tenant_id, UUID(int=0)),
        deliveries=tuple(sorted(deliveries, key=lambda delivery: delivery.mailbox_id)),
        refused=refused,
        event=_event(case, limits) if deliveries else None,
    )


def _event(case: Case, limits: Limits) -> Event | None:
    if case.event is None:
        return None
    return Event(key=event_key(*case.event), expires_at=case.envelope.received_at + limits.claim_life)


def _delivery(case: Case, target: Target, admitted: _Admitted, limits: Limits) -> Delivery:
    route, admission, attachment = target.route, admitted.admission, admitted.attachment
    verdict = _verdict(case, attachment)
    return Delivery(
        mailbox_id=route.mailbox_id,
        message_id=target.message_id,
        thread_id=target.thread_id,
        receipt_id=target.receipt_id,
        claims=_claims(case, route.mailbox_id, limits),
        envelope_to=target.recipients,
        role=delivery_role(target.recipients, case.message.to_addresses, case.message.cc_addresses),
        tag=route.tag,
        verdict=verdict,
        answered_status=status_of_answered(
            verdict, case.message.report, attachment, vouched=_vouched_reporter(admission)
        ),
        sender=admission.sender,
        quarantined=admission.quarantined or admitted.flagged_as_spam,
        auth=_columns(admission),
        auth_report=admission.report,
        attachment=attachment,
        decision=_trail(target, attachment, admission.trail) | _spam_trail(case.spam),
    )


def _claims(case: Case, mailbox_id: UUID, limits: Limits) -> tuple[Claim, ...]:
    """What makes a second arrival a duplicate: the same bytes, the same mail by another way, the same event."""
    envelope = case.envelope
    whole = envelope.received_at + limits.claim_life
    known = case.message.rfc_message_id is not None
    claims = [
        Claim(
            key=raw_claim(mailbox_id, case.raw_sha256),
            expires_at=whole if known else envelope.received_at + NO_ID_CLAIM_LIFE,
        )
    ]
    if known:
        claims.append(Claim(key=content_claim(mailbox_id, case.message.content_key), expires_at=whole))
    if (event := case.event) is not None:
        claims.append(Claim(key=event_claim(mailbox_id, *event), expires_at=whole))
    return tuple(sorted(claims, key=lambda claim: claim.key))


def _spam_trail(verdict: SpamVerdict | None) -> dict[str, Any]:
    return {} if verdict is None else {"spam": verdict}


def kind_of(case: Case) -> Kind:
    """The kind as far as the mail alone tells: nothing is known of what it answers."""
    return _classified(case, answers=False).kind


def _verdict(case: Case, attachment: Attachment) -> Verdict:
    """The kind of mail, here where it is known whether it answers one of ours."""
    return _classified(case, answers=attachment.reply_to is not None and attachment.method is not Method.REPORT)


def _classified(case: Case, *, answers: bool) -> Verdict:
    """Of HTTP's envelopes, an empty sender says nothing."""
    envelope = case.envelope
    known = envelope.mail_from or envelope.door in (Door.SMTP, Door.LMTP)
    return classify(
        case.message.nature,
        mail_from=envelope.mail_from if known else None,
        cites=any(citation.method is not Method.REPORT for citation in case.cited),
        answers=answers,
    )


def _vouched_reporter(admission: Admission) -> bool:
    """Whether it is known who reports: by DKIM, not by an address that a connection may happen to have. A mail that a
    provider hands in is a stranger's like any other; what the provider itself reports comes to a route of its own.
    """
    return any(one.method == "dkim" for one in admission.report.dmarc.aligned)


def _columns(admission: Admission) -> AuthColumns:
    report = admission.report
    return AuthColumns(
        spf=report.spf.result,
        dkim=report.dkim.result,
        dmarc=report.dmarc.result,
        arc=report.arc.result,
        strength=admission.strength,
    )


def _trail(target: Target, attachment: Attachment, sender: dict[str, Any]) -> dict[str, Any]:
    """Why the mail is where it is, for the question that operators ask most."""
    route = target.route
    return {
        "reason": attachment.reason,
        "route": {"kind": route.kind, "recipients": list(target.recipients), "tag": route.tag},
        "looked_for": list(attachment.trail),
        "sender": sender | {"expected": attachment.expected},
    }


def delivery_role(recipients: Sequence[str], to: Sequence[str], cc: Sequence[str]) -> str:
    """Whether the mail names one of these recipients in To, in Cc, or in neither (bcc)."""
    wanted = {text.lower() for text in recipients}
    if wanted & {text.lower() for text in to}:
        return "to"
    return "cc" if wanted & {text.lower() for text in cc} else "bcc"


def outcome(case: Case, judgement: Judgement, written: Sequence[tuple[UUID, Written]]) -> Outcome:
    """The reply: deferred if anything is deferred, yes if anything is stored, else refused (design page, one fate).

    What a dead letter holds is a duplicate without a message.
    """
    parts = len(case.message.parts)
    stored = [
        Stored(
            tenant_id=tenant_id,
            mailbox_id=row.mailbox_id,
            message_id=row.message_id,
            matched=row.matched,
            parts=parts,
            duplicate=row.duplicate,
        )
        for tenant_id, row in written
        if not row.dead
    ]
    reason, final = _answer(judgement, stored, dead=len(stored) < len(written))
    return Outcome(
        reason=reason,
        arrival_id=case.envelope.arrival_id,
        stored=tuple(stored),
        final=final,
        attachments=[part.role for part in case.message.parts].count("attachment"),
        refused=judgement.refused,
    )


def _answer(judgement: Judgement, stored: Sequence[Stored], *, dead: bool) -> tuple[Reason, bool]:
    """The reason, and whether it is for good."""
    for refusal in judgement.refusals:
        if refusal.code.retry:
            return refusal.reason, False
    if stored or dead:
        return (Reason.DUPLICATE if all(row.duplicate for row in stored) else Reason.ACCEPTED), False
    refusal = judgement.refusals[0]
    return refusal.reason, refusal.final
