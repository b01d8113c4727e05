"""Which conversation a mail belongs to: candidates, the attaching rule, and the trail that led to the decision.

A Message-ID names a candidate, never an identity (law 5): whether the sender may attach is judged apart. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from uuid import UUID

MAX_CITATIONS = 50
"""Cited ids looked up for one mail: In-Reply-To first, then the newest References, then what a report names."""


class Method(StrEnum):
    """On what evidence a mail was matched."""

    TOKEN_RECIPIENT = "token_recipient"  # noqa: S105
    TOKEN_HEADER = "token_header"  # noqa: S105
    TOKEN_REFERENCE = "token_reference"  # noqa: S105
    IN_REPLY_TO = "in_reply_to"
    REFERENCES = "references"
    REPORT = "report"
    LATE_JOIN = "late_join"


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A Message-ID that the mail cites, and where."""

    rfc_id: str
    hash: bytes
    method: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A stored message of the same tenant and mailbox that a mail names."""

    message_id: UUID
    thread_id: UUID
    expected: bool = False
    """Whether the sender takes part in that conversation, or was written to in it."""
    ours: bool = False
    """Whether the conversation holds a message that we sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One place in the mail that names a message, and what was found there."""

    by: Method
    names: str
    candidate: Candidate | None
    why_not: str | None = None
    """Why nothing was found, where there is more to say: `token_invalid`, `cross_mailbox`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """What is known of who sent it."""

    verified: bool = False
    dmarc: str = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """The decision. `cites` are the ids that may still attach it at the write or later (late join)."""

    reply_to: UUID | None
    thread_id: UUID | None
    method: Method | None
    expected: bool
    ours: bool
    cites: tuple[Citation, ...]
    trail: tuple[dict[str, str], ...]
    reason: str


@lru_cache(maxsize=256)  # a mail's own ids are asked for four times within one commit, and one id by all that cite it
def id_hash(rfc_id: str) -> bytes:
    """What Message-IDs are indexed by: 128 bits of SHA-256 (a long id breaks a btree)."""
    return sha256(rfc_id.encode("utf-8", "surrogatepass")).digest()[:16]


def own_id(rfc_id: str | None, raw_sha256: bytes) -> str:
    """The mail's Message-ID, or a deterministic one made from its bytes (`.invalid`: RFC 2606)."""
    return rfc_id or f"{raw_sha256.hex()[:40]}@no-message-id.invalid"


def citations(
    own: str, in_reply_to: Sequence[str], references: Sequence[str], reported: Sequence[str] = ()
) -> tuple[Citation, ...]:
    """In-Reply-To, References newest to oldest, what a report names; each once, its own never (RFC 5322, 3.6.4)."""
    found: dict[str, Method] = {}
    for rfc_id in in_reply_to:
        found.setdefault(rfc_id, Method.IN_REPLY_TO)
    for rfc_id in reversed(references):
        found.setdefault(rfc_id, Method.REFERENCES)
    for rfc_id in reported:
        found.setdefault(rfc_id, Method.REPORT)
    found.pop(own, None)
    chosen = list(found.items())[:MAX_CITATIONS]
    return tuple([Citation(rfc_id=rfc_id, hash=id_hash(rfc_id), method=method) for rfc_id, method in chosen])


def may_attach(step: Step, sender: Sender, *, strict: bool) -> bool:
    """The attaching rule (design page, chapter 4): a recipient token always attaches, nothing else against DMARC."""
    if step.by is Method.TOKEN_RECIPIENT:
        return True
    if sender.dmarc == "fail" or step.candidate is None:
        return False
    return sender.verified or step.candidate.expected or not strict


def attach(steps: Sequence[Step], cited: Sequence[Citation], sender: Sender, *, strict: bool) -> Attachment:
    """Take the first candidate that exists, if the rule allows it; else say why not.

    `steps` are in the order of preference. `cited` may still attach a mail later, unless its sender is a forger.
    """
    trail: list[dict[str, str]] = []
    for step in steps:
        told = {"by": step.by, "id": step.names}
        candidate = step.candidate
        if candidate is None:
            trail.append(told | {"found": "nothing"} | ({"why": step.why_not} if step.why_not else {}))
            continue
        allowed = may_attach(step, sender, strict=strict)
        trail.append(told | {"found": str(candidate.message_id), "taken": "yes" if allowed else "no"})
        if not allowed:
            return _unattached((), trail, "candidate_unverified")
        return Attachment(
            reply_to=candidate.message_id,
            thread_id=candidate.thread_id,
            method=step.by,
            expected=candidate.expected,
            ours=candidate.ours,
            cites=tuple(cited),
            trail=tuple(trail),
            reason="attached",
        )
    allowed = sender.dmarc != "fail" and (sender.verified or not strict)
    return _unattached(tuple(cited) if allowed else (), trail, _why_nothing(steps))


def _why_nothing(steps: Sequence[Step]) -> str:
    """The most telling reason: what points elsewhere, then what is forged, then what is merely absent."""
    reasons = {step.why_not for step in steps}
    for reason in ("cross_mailbox", "token_invalid"):
        if reason in reasons:
            return reason
    return "nothing_cited_is_here" if steps else "cites_nothing"


def _unattached(cites: tuple[Citation, ...], trail: list[dict[str, str]], reason: str) -> Attachment:
    return Attachment(
        reply_to=None,
        thread_id=None,
        method=None,
        expected=False,
        ours=False,
        cites=cites,
        trail=tuple(trail),
        reason=reason,
    )


def raw_claim(mailbox_id: UUID, raw_sha256: bytes) -> bytes:
    """The claim on these very bytes in this mailbox."""
    return sha256(b"raw\0" + mailbox_id.bytes + raw_sha256).digest()


def event_claim(mailbox_id: UUID, provider: str, event_id: str) -> bytes:
    """The claim on a provider's event in this mailbox, whatever its mail is."""
    return sha256(b"event\0" + mailbox_id.bytes + event_key(provider, event_id)).digest()


def event_key(provider: str, event_id: str) -> bytes:
    """What a provider's event is known by: its id is unique only with it."""
    return sha256(f"{provider}\0{event_id}".encode("utf-8", "surrogatepass")).digest()


def content_claim(mailbox_id: UUID, content_key: bytes) -> bytes:
    """The claim on the same mail with other trace headers (relays change them)."""
    return sha256(b"content\0" + mailbox_id.bytes + content_key).digest()
