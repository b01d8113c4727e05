"""DMARC (RFC 9989): has the domain in the From field really sent this mail, and what does its owner want if not?

Policy and organizational domains are found by walking up the DNS tree, without any list of public suffixes. Expected
trouble is a verdict; nothing here raises, and nothing here decides what becomes of the mail.
"""

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ingester.auth.dmarc_record import Record, Walk, names_to_walk, select, soften
from ingester.auth.lookup import Lookup, Status
from ingester.auth.report import Aligned, Dkim, Dmarc, Identity, Policy, Result, Spf
from ingester.core.address import normalise_domain

NAME_LIMIT = 253
"""Octets of a name in DNS as text (RFC 1035, 2.3.4)."""

_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_LABEL_LIMIT = 127


class _Identifier(NamedTuple):
    """A domain that SPF or DKIM vouches for, or would if DNS had answered."""

    method: str
    domain: str


class _Trouble(NamedTuple):
    """Why no verdict can be given: DNS is away, or what it holds cannot be read."""

    result: Result
    reason: str


@dataclass(slots=True)
class _Walker:
    """Walks of one mail: a name that two of them pass is asked for once."""

    lookup: Lookup
    asked: dict[str, Record | Status | None] = field(default_factory=dict)

    async def walk(self, domain: str) -> Walk:
        """The policy records from this domain to the root (RFC 9989, 4.10)."""
        found: list[tuple[str, Record]] = []
        for name in names_to_walk(domain):
            answer = await self._ask(name)
            if isinstance(answer, Status):
                return Walk(start=domain, found=tuple(found), trouble=answer, at=name)
            if answer is not None:
                found.append((name, answer))
                if answer.suffix is not None:
                    break
        return Walk(start=domain, found=tuple(found))

    async def _ask(self, domain: str) -> Record | Status | None:
        if domain not in self.asked:
            self.asked[domain] = await self._fetch(domain)
        return self.asked[domain]

    async def _fetch(self, domain: str) -> Record | Status | None:
        name = f"_dmarc.{domain}"
        if len(name) > NAME_LIMIT:
            return None
        answer = await self.lookup.txt(name)
        if answer.status in (Status.UNAVAILABLE, Status.MALFORMED):
            return answer.status
        return select(answer.records)


async def evaluate(lookup: Lookup, *, authors: Sequence[str], from_fields: int, spf: Spf, dkim: Dkim) -> Dmarc:
    """Judge a mail. `authors` are the addresses of all its From fields, `from_fields` says how many of these it has.

    Anything but one field with one address is a permerror of the mail itself: readers differ in which author they show
    (RFC 9989, 11.5), so no domain may be called verified.
    """
    if from_fields != 1 or len(authors) != 1:
        return _faulty(f"the mail has {from_fields} From fields with {len(authors)} addresses")
    _, at, domain = authors[0].rpartition("@")
    if domain.startswith("[") and normalise_domain(domain[:NAME_LIMIT]) is not None:
        return Dmarc(result=Result.NONE, reason="the From address has no domain name")
    author = _name(domain) if at else None
    if author is None:
        return _faulty("the domain of the From address is malformed")
    walker = _Walker(lookup)
    return await _Judgement(walker, author, await walker.walk(author)).conclude(spf, dkim)


def evidence(authors: Sequence[str], from_fields: int, spf: Spf, dkim: Dkim) -> Hashable:
    """All that `evaluate` makes of a mail's verdicts, DNS apart, to know its like by; None where it asks nothing, or of
    names that are none.
    """
    if from_fields != 1 or len(authors) != 1:
        return None
    _, at, domain = authors[0].rpartition("@")
    if len(domain) > NAME_LIMIT:
        return None
    signatures = [(one.result, one.domain, one.partial_body, one.testing) for one in dkim.signatures]
    return at, domain, spf.result, spf.domain, _counts(spf), *signatures


@dataclass(slots=True)
class _Judgement:
    """One author domain, its walk, and the verdict on it."""

    walker: _Walker
    author: str
    walk: Walk

    async def conclude(self, spf: Spf, dkim: Dkim) -> Dmarc:
        """The verdict. An identifier that aligns outweighs any trouble that others met (RFC 9989, 5.3.5)."""
        domain, record = self._policy_record()
        aligned, trouble = await self._align(record, _passed(spf, dkim))
        if record is None or not record.usable:
            return self._without_policy(domain, record, aligned)
        policy, unknown = await self._policy(domain, record, needed=not aligned)
        if not aligned and trouble is None:
            trouble = unknown or await self._pending(record, spf, dkim)
        result = Result.PASS if aligned else trouble.result if trouble else Result.FAIL
        softened = soften(policy) if policy and record.testing else policy
        return Dmarc(
            result=result,
            from_domain=self.author,
            policy_domain=domain,
            organizational_domain=self.walk.organization or "",
            policy=policy,
            disposition=softened or Policy.NONE if result is Result.FAIL else Policy.NONE,
            testing=record.testing,
            aligned=aligned,
            record=record.text,
            reason=None if aligned else trouble.reason if trouble else _why_failed(spf, dkim),
        )

    def _policy_record(self) -> tuple[str, Record | None]:
        """The record that applies: the author's, else the organization's, else the suffix's (RFC 9989, 4.10.1)."""
        for domain in (self.author, self.walk.organization, self.walk.suffix):
            record = self.walk.record_of(domain) if domain else None
            if domain and record:
                return domain, record
        return "", None

    def _without_policy(self, domain: str, record: Record | None, aligned: tuple[Aligned, ...]) -> Dmarc:
        """No record, or one that must not be applied (4.10.1), or no telling: what aligns is reported all the same."""
        if record is not None:
            trouble = _Trouble(Result.PERMERROR, "the policy record has no valid policy and no report address")
        elif self.walk.trouble:
            trouble = _dns_trouble(self.walk)
        else:
            trouble = _Trouble(Result.NONE, "no policy record is published")
        return Dmarc(
            result=trouble.result,
            from_domain=self.author,
            policy_domain=domain,
            organizational_domain=self.walk.organization or "",
            aligned=aligned,
            record=record.text if record else None,
            reason=trouble.reason,
        )

    async def _policy(self, domain: str, record: Record, *, needed: bool) -> tuple[Policy | None, _Trouble | None]:
        """What the record asks for this author: `np` is for domains that do not exist, NXDOMAIN (RFC 9989, 3.2.13)."""
        if domain == self.author:
            return record.policy, None
        if record.subdomains is record.missing_subdomains:
            return record.subdomains, None
        answer = await self.walker.lookup.a(self.author)
        if answer.status is Status.UNAVAILABLE:
            trouble = _Trouble(Result.TEMPERROR, "DNS does not say whether the From domain exists")
            return None, trouble if needed else None
        return (record.missing_subdomains if answer.status is Status.NO_NAME else record.subdomains), None

    async def _pending(self, record: Record, spf: Spf, dkim: Dkim) -> _Trouble | None:
        """Whether an identifier would align if only DNS had answered: then this is no fail (RFC 9989, 5.3.6)."""
        aligned, trouble = await self._align(record, _undecided(spf, dkim))
        if not aligned:
            return trouble
        return _Trouble(
            Result.TEMPERROR, f"{aligned[0].method} for {aligned[0].domain} met a temporary DNS error"[:256]
        )

    async def _align(
        self, record: Record | None, identifiers: Iterator[_Identifier]
    ) -> tuple[tuple[Aligned, ...], _Trouble | None]:
        """Those that belong to the author's domain, and the first trouble that hides whether another does."""
        aligned: list[Aligned] = []
        trouble: _Trouble | None = None
        for one in dict.fromkeys(identifiers):
            strict = record is not None and (record.strict_spf if one.method == "spf" else record.strict_dkim)
            outcome = await self._is_aligned(one.domain, strict=strict)
            if outcome is True:
                aligned.append(Aligned(method=one.method, domain=one.domain))
            elif isinstance(outcome, _Trouble):
                trouble = trouble or outcome
        return tuple(aligned), trouble

    async def _is_aligned(self, domain: str, *, strict: bool) -> bool | _Trouble:
        """Same domain, or in relaxed mode same organizational domain (RFC 9989, 4.4 and 4.10.2).

        An organizational domain is its domain or above it: what is not below the author's cannot share it, and is not
        asked about. A walk that begins at an organizational domain ends there.
        """
        if domain == self.author:
            return True
        if strict:
            return False
        organization = self.walk.organization
        if organization is None:
            related = domain.rpartition(".")[2] == self.author.rpartition(".")[2]
            return _dns_trouble(self.walk) if related else False
        if domain == organization:
            return True
        if not domain.endswith(f".{organization}"):
            return False
        walk = await self.walker.walk(domain)
        return walk.organization == organization if walk.organization else _dns_trouble(walk)


def _passed(spf: Spf, dkim: Dkim) -> Iterator[_Identifier]:
    """The authenticated identifiers (RFC 9989, 4.3).

    SPF counts for MAIL FROM, or for HELO where that is null (RFC 7208, 2.4). A signature over a part of the body says
    nothing of the rest; one whose key is in test mode (`t=y`) must be taken like none (RFC 6376, 3.6.1).
    """
    if spf.result is Result.PASS and _counts(spf):
        yield from _identifier("spf", spf.domain)
    for one in dkim.signatures:
        if one.result is Result.PASS and not one.partial_body and not one.testing:
            yield from _identifier("dkim", one.domain)


def _undecided(spf: Spf, dkim: Dkim) -> Iterator[_Identifier]:
    if spf.result is Result.TEMPERROR and _counts(spf):
        yield from _identifier("spf", spf.domain)
    for one in dkim.signatures:
        if one.result is Result.TEMPERROR:
            yield from _identifier("dkim", one.domain)


def _counts(spf: Spf) -> bool:
    return spf.identity is Identity.MAIL_FROM or spf.envelope_from in ("", "<>")


def _identifier(method: str, domain: str) -> Iterator[_Identifier]:
    name = _name(domain)
    if name is not None:
        yield _Identifier(method, name)


def _name(text: str) -> str | None:
    """A domain as lower-case A-labels (RFC 9989, 5.3.1), or None for what is no name of a mail domain.

    A-labels are taken as they stand: some that exist are not in today's IDNA, and they compare all the same.
    """
    domain = text.removesuffix(".").lower() if text.isascii() else normalise_domain(text[:NAME_LIMIT])
    if domain is None or len(domain) > NAME_LIMIT or domain.count(".") >= _LABEL_LIMIT:
        return None
    return domain if _is_name(domain) else None


@lru_cache(maxsize=2048)  # one and the same domain is looked at for the author, SPF and DKIM
def _is_name(domain: str) -> bool:
    return _NAME.fullmatch(domain) is not None


def _dns_trouble(walk: Walk) -> _Trouble:
    if walk.trouble is Status.UNAVAILABLE:
        return _Trouble(Result.TEMPERROR, f"DNS does not answer for _dmarc.{walk.at}"[:256])
    return _Trouble(Result.PERMERROR, f"the DNS answer for _dmarc.{walk.at} cannot be read"[:256])


def _why_failed(spf: Spf, dkim: Dkim) -> str:
    passed = [f"{one.method} for {one.domain}" for one in _passed(spf, dkim)]
    if not passed:
        return "neither SPF nor a DKIM signature passed"
    return f"passed, but not aligned: {', '.join(passed)}"[:256]


def _faulty(reason: str) -> Dmarc:
    return Dmarc(result=Result.PERMERROR, reason=reason, mail_at_fault=True)
