"""DKIM (RFC 6376, 8301, 8463): every signature of a mail judged, up to a bound. Never raises.

The result words are those of RFC 8601, 2.7.1, which has none for a signature that the RFC wants ignored:
- pass: it holds. With `partial_body` it does not cover the end of the body; with `testing` its key is on trial.
- fail: judged and not true: the header or the body is not what was signed, or the time of `x=` is over.
- neutral: not judged: its `t=` lies in the future (RFC 6376, 3.5).
- permerror: it can never be judged: the field breaks the RFC, no usable key, an algorithm or key we refuse, a From
  field that it does not cover.
- temperror: DNS did not answer. unknown: the header is larger than what we read.

Several key records at one name are undefined (RFC 6376, 3.6.2.2): ours are sorted, up to four tried, one that fits is
enough (6.1.2 allows to cycle), so that the order of the answer does not matter.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple, TypeVar

from ingester.auth.body import hash_forms
from ingester.auth.dkim_canon import BodyForm, BodyHash, relaxed_text, signed_text
from ingester.auth.dkim_key import Key, read_key
from ingester.auth.dkim_signature import Claim, read_claim
from ingester.auth.header import Header, readable, split
from ingester.auth.lookup import Answer, Lookup, Status
from ingester.auth.report import Dkim, Result, Signature
from ingester.auth.side_by_side import side_by_side
from ingester.core.hashed_body import HashedBody

MAX_KEYS = 4
SINGLE = ("from", "subject", "to", "cc", "reply-to")
"""Fields that people see or answer to, and of which a mail has one (RFC 5322, 3.6). Of a signed one readers may show
another than the signed last: RFC 6376, 8.15, advises to refuse that."""
EXPIRY_GRACE = timedelta(minutes=5)
CLOCK_GRACE = timedelta(hours=10)
"""How far `t=` may lie ahead: a signer's clock in the wrong zone does no harm."""

Found = TypeVar("Found")

_BEST_FIRST = (Result.PASS, Result.TEMPERROR, Result.UNKNOWN, Result.NEUTRAL, Result.FAIL, Result.PERMERROR)


class _Verdict(NamedTuple):
    result: Result
    reason: str | None = None
    key: Key | None = None
    partial_body: bool = False


async def verify(
    lookup: Lookup,
    raw: bytes,
    *,
    now: datetime,
    max_signatures: int = 5,
    beside: Executor | None = None,
    header: Header | None = None,
    hashed: HashedBody | None = None,
) -> Dkim:
    """Judge the first `max_signatures` DKIM-Signature fields from the top; those beyond are counted.

    `now` is aware: when the mail was received. A large body is hashed in `beside` (None: the loop's own executor).
    `header`: what `split` made of the mail; `hashed`: what the scan did.
    """
    header = header or split(raw)
    fields = header.all("dkim-signature")
    if not fields:
        return Dkim(result=Result.NONE)
    claims = [read_claim(field) for field in fields[:max_signatures]]
    signed = _Signed(header)
    refused = [signed.refuse(claim, now) for claim in claims]
    judged = list(zip(claims, refused, strict=True))
    answers = await _ask(lookup, [claim.habits.key_name for claim, verdict in judged if verdict is None])
    verdicts: list[_Verdict] = []
    forms: set[BodyForm] = set()
    for claim, refusal in judged:
        verdict = refusal or signed.check_header(claim, answers[claim.habits.key_name])
        verdicts.append(verdict)
        if verdict.result is Result.PASS:
            forms.add(_form(claim))
    hashes = await hash_forms(raw, header.body, forms, beside, hashed)
    found: list[Signature] = []
    for claim, verdict in zip(claims, verdicts, strict=True):
        found.append(_report(len(found) + 1, claim, _check_body(claim, verdict, hashes)))
    signatures = tuple(found)
    return Dkim(result=summary(signatures), signatures=signatures, unjudged=len(fields) - len(signatures))


def summary(signatures: Iterable[Signature]) -> Result:
    """One word for all: the first of pass, temperror, unknown, neutral, fail, permerror that any signature has.

    A signature whose key is on trial counts as none at all, whatever became of it (RFC 6376, 3.6.1, t=y).
    """
    found = {one.result for one in signatures if not one.testing}
    for result in _BEST_FIRST:
        if result in found:
            return result
    return Result.NONE


class _Signed:
    """The fields of a mail, found by name, as signatures cover them."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._values = header.values

    def refuse(self, claim: Claim, now: datetime) -> _Verdict | None:
        """What can be said without the key."""
        if claim.problem:
            return _Verdict(result=Result.PERMERROR, reason=claim.problem)
        if self._header.cut:
            return _Verdict(result=Result.UNKNOWN, reason="the header is larger than what is read of it")
        signed = claim.habits.signed_headers
        for name in SINGLE:
            found = len(self._values.get(name, ()))
            if found > 1 and found > signed.count(name) > 0:
                return _Verdict(result=Result.PERMERROR, reason=f"a second {name.title()} field is not signed")
        if claim.expires_at is not None and claim.expires_at < (now - EXPIRY_GRACE).timestamp():
            return _Verdict(result=Result.FAIL, reason="the signature has expired")
        if claim.signed_at is not None and claim.signed_at > (now + CLOCK_GRACE).timestamp():
            return _Verdict(result=Result.NEUTRAL, reason="the time of the signature lies in the future")
        return None

    def check_header(self, claim: Claim, answer: Answer[bytes]) -> _Verdict:
        """Pass when the signature holds over the header; whether the body is that of `bh=` is another matter."""
        keys = _usable_keys(claim, answer)
        if isinstance(keys, _Verdict):
            return keys
        digest = sha256(self._signed_text(claim)).digest()
        for key in keys:
            if key.verifies(claim.signature, digest):
                return _Verdict(result=Result.PASS, key=key)
        return _Verdict(result=Result.FAIL, reason="the signature does not match the header", key=keys[0])

    def _signed_text(self, claim: Claim) -> bytes:
        names, relaxed = claim.habits.signed_headers, claim.habits.header_relaxed
        if relaxed and "dkim-signature" not in names:  # nearly all: names and values are enough
            return relaxed_text(_from_the_bottom(names, self._values), claim.field)
        fields = {name: self._header.all(name) for name in names}
        # Its own field was not there when it was made.
        others = [field for field in fields.get("dkim-signature", ()) if field is not claim.field]
        selected = _from_the_bottom(names, {**fields, "dkim-signature": others})
        return signed_text([field for _, field in selected], claim.field, relaxed=relaxed)


def _from_the_bottom(names: Sequence[str], there: Mapping[str, Sequence[Found]]) -> list[tuple[str, Found]]:
    """What `h=` names, each name from the bottom up; what is named but absent is empty (RFC 6376, 5.4.2)."""
    taken: dict[str, int] = {}
    found: list[tuple[str, Found]] = []
    for name in names:
        ones = there.get(name, ())
        number = taken.get(name, 0) + 1
        if number <= len(ones):
            found.append((name, ones[-number]))
            taken[name] = number
    return found


async def _ask(lookup: Lookup, names: Sequence[str]) -> Mapping[str, Answer[bytes]]:
    if len(names) == 1:  # nobody waits beside it
        return {names[0]: await lookup.txt(names[0])}
    names = list(dict.fromkeys(names))
    return dict(zip(names, await side_by_side(*map(lookup.txt, names)), strict=True))


def _usable_keys(claim: Claim, answer: Answer[bytes]) -> list[Key] | _Verdict:
    """The keys that fit the signature, in an order that does not depend on DNS; or why there is none."""
    if answer.status is Status.UNAVAILABLE:
        return _Verdict(result=Result.TEMPERROR, reason="DNS did not answer for the key")
    if answer.status is Status.MALFORMED:
        return _Verdict(result=Result.PERMERROR, reason="the DNS answer for the key cannot be read")
    if not answer.records:
        return _Verdict(result=Result.PERMERROR, reason="there is no key in DNS")
    records: Sequence[bytes] = answer.records
    if len(records) > 1:
        records = sorted(set(records), key=lambda record: (not record.startswith(b"v=DKIM1"), record))
    keys: list[Key] = []
    problems: list[str] = []
    for record in records[:MAX_KEYS]:
        key = _fit(read_key(record), claim)
        if isinstance(key, Key):
            keys.append(key)
        else:
            problems.append(key)
    return keys or _Verdict(result=Result.PERMERROR, reason=problems[0])


def _fit(key: Key | str, claim: Claim) -> Key | str:
    if isinstance(key, str):
        return key
    if key.kind != claim.habits.algorithm.partition("-")[0]:
        return f"the key is for {key.kind}, the signature is not"
    if key.strict and claim.habits.identity_domain != claim.habits.domain:  # RFC 6376, 3.6.1, t=s
        return "the key asks that i= be of the very domain d="
    return key


def _form(claim: Claim) -> BodyForm:
    return BodyForm(claim.habits.body_relaxed, claim.body_length)


def _check_body(claim: Claim, verdict: _Verdict, hashes: Mapping[BodyForm, BodyHash]) -> _Verdict:
    if verdict.result is not Result.PASS:
        return verdict
    body = hashes[_form(claim)]
    if claim.body_length is not None and claim.body_length > body.length:  # RFC 6376, 3.5
        reason = f"l= is {claim.body_length:,}, but the body has {body.length:,} bytes"
        return verdict._replace(result=Result.FAIL, reason=reason)
    if claim.body_hash != body.digest:
        return verdict._replace(result=Result.FAIL, reason="the body is not the one that was signed")
    if claim.body_length is not None and claim.body_length < body.length:
        reason = f"l= leaves {body.length - claim.body_length:,} of {body.length:,} bytes of the body unsigned"
        return verdict._replace(reason=reason, partial_body=True)
    if verdict.key and verdict.key.testing:
        return verdict._replace(reason="the key is on trial (t=y): as if unsigned")
    return verdict


def _report(ordinal: int, claim: Claim, verdict: _Verdict) -> Signature:
    key, habits = verdict.key, claim.habits
    return Signature(
        ordinal=ordinal,
        result=verdict.result,
        domain=habits.domain,
        selector=habits.selector,
        algorithm=habits.shown_algorithm,
        identity=habits.shown_identity,
        reason=verdict.reason,
        signed_headers=habits.shown_headers,
        body_length=claim.body_length,
        partial_body=verdict.partial_body,
        signed_at=claim.signed_at,
        expires_at=claim.expires_at,
        key_bits=key.bits if key else None,
        testing=key.testing if key else False,
        digest_prefix=readable(claim.digest_prefix),
    )
