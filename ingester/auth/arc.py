"""ARC (RFC 8617): does the chain of those who handled a mail hold? Validated, never sealed; never raises.

That a chain holds says who said what. Whether to believe it is decided in `results`, by the forwarder registry. The
limits of keys, bodies and canonicalisation are those of DKIM. More sets than we check are unknown, never a fail.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from ingester.auth.arc_set import FIELDS, Link, NoChain, Stamp, read_chain
from ingester.auth.body import hash_forms
from ingester.auth.dkim_canon import BodyForm, BodyHash, canonical_field, signed_text
from ingester.auth.dkim_key import Key, read_key
from ingester.auth.header import Header, HeaderField, readable, split
from ingester.auth.lookup import Answer, Lookup, Status
from ingester.auth.report import Arc, Result, Seal
from ingester.auth.results import RESULTS_LIMIT
from ingester.auth.side_by_side import side_by_side
from ingester.core.hashed_body import HashedBody

MAX_KEYS = 4
CLOCK_GRACE = timedelta(hours=10)
"""How far `t=` may lie ahead, as with DKIM."""

_NO_CHAIN = Arc(result=Result.NONE)


async def verify_chain(
    lookup: Lookup,
    raw: bytes,
    *,
    now: datetime,
    max_sets: int = 10,
    beside: Executor | None = None,
    header: Header | None = None,
    hashed: HashedBody | None = None,
) -> Arc:
    """Validate the chain (RFC 8617, 5.2). `now` is aware: when the mail was received.

    The result is pass, fail, none, temperror (DNS did not answer for a key) or unknown (larger than what is checked).
    A large body is hashed in `beside` (None: the loop's own executor). `header`: what `split` made of the mail;
    `hashed`: what the scan did.
    """
    header = header or split(raw)
    told = at_once(header)
    if told is not None:
        return told
    fields = [one for one in header.fields if one.name in FIELDS]
    links = read_chain(fields, max_sets)
    if isinstance(links, NoChain):
        return Arc(result=Result.UNKNOWN if links.beyond else Result.FAIL, reason=links.reason)
    seals = tuple(map(_report, links))
    problem = _broken_before(links) or _from_the_future(links, now)
    if problem:
        return Arc(result=Result.FAIL, seals=seals, reason=problem)
    answers = await _ask(lookup, links)
    if any(answers[one.key_name].status is Status.UNAVAILABLE for one in _needed(links)):
        return Arc(result=Result.TEMPERROR, seals=seals, reason="DNS did not answer for a key")
    chain = _Chain(header, links, answers)
    problem = chain.broken_seal()
    if problem:
        return Arc(result=Result.FAIL, seals=seals, reason=problem)
    held = [link.message for link in links if _worth_hashing(link, links[-1]) and chain.holds(link.message)]
    return chain.conclude(held, await hash_forms(raw, header.body, {one.form for one in held}, beside, hashed), seals)


def at_once(header: Header) -> Arc | None:
    """The verdict on a header of which no set can or need be read, which is most; None for any other."""
    if header.cut:
        return Arc(result=Result.UNKNOWN, reason="the header is larger than what is read of it")
    return _NO_CHAIN if header.values.keys().isdisjoint(FIELDS) else None


@dataclass(frozen=True, slots=True)
class _Chain:
    """A mail, its sets and their keys."""

    header: Header
    links: tuple[Link, ...]
    answers: Mapping[str, Answer[bytes]]
    texts: dict[tuple[int, bool], bytes] = field(default_factory=dict)
    """Fields as they were canonicalised: ten signatures may cover the same large one."""

    def broken_seal(self) -> str | None:
        """Each seal covers all sets up to its own: results, message signature, seal (RFC 8617, 5.1.1)."""
        before = b""
        for link in self.links:
            own = link.seal.field
            for one in (link.results, link.message.field):
                before += self._canonical(one, relaxed=True)
            if not self._verifies(link.seal, before + signed_text((), own, relaxed=True)):
                return f"the seal of set {link.seal.instance} does not hold"
            before += self._canonical(own, relaxed=True)
        return None

    def holds(self, message: Stamp) -> bool:
        """Whether a message signature holds over the header. A second From field must be covered (RFC 6376, 8.15)."""
        signed = message.signed_headers
        if "from" in signed and len(self.header.all("from")) > signed.count("from"):
            return False
        relaxed = message.header_relaxed
        covered = b"".join(self._canonical(one, relaxed=relaxed) for one in self._select(message))
        return self._verifies(message, covered + signed_text((), message.field, relaxed=relaxed))

    def _canonical(self, one: HeaderField, *, relaxed: bool) -> bytes:
        key = id(one), relaxed
        if key not in self.texts:
            self.texts[key] = canonical_field(one.raw, relaxed=relaxed)
        return self.texts[key]

    def conclude(self, held: Sequence[Stamp], hashes: Mapping[BodyForm, BodyHash], seals: tuple[Seal, ...]) -> Arc:
        """The newest message signature must hold; how far back the others do is told (RFC 8617, 5.2, steps 4 and 5)."""
        good = {message.instance for message in held if _body_holds(message, hashes)}
        newest = self.links[-1].message
        if newest.instance not in good:
            reason = f"the message signature of set {newest.instance}, the newest, does not hold"
            return Arc(result=Result.FAIL, seals=seals, reason=reason)
        oldest = newest.instance
        while oldest - 1 in good:
            oldest -= 1
        whole = newest.form.limit is None or newest.form.limit == hashes[newest.form].length
        return Arc(
            result=Result.PASS,
            seals=seals,
            oldest_pass=0 if oldest == 1 else oldest,
            partial=not whole or "from" not in newest.signed_headers,
        )

    def _select(self, message: Stamp) -> list[HeaderField]:
        """The fields of `h=`, each name from the bottom up (RFC 6376, 5.4.2), its own apart: it came later."""
        left: dict[str, list[HeaderField]] = {name: [] for name in message.signed_headers}
        for one in self.header.fields:
            if one.name in left and one is not message.field:
                left[one.name].append(one)
        return [left[name].pop() for name in message.signed_headers if left[name]]

    def _verifies(self, stamp: Stamp, text: bytes) -> bool:
        digest = sha256(text).digest()
        return any(key.verifies(stamp.signature, digest) for key in _keys(stamp, self.answers[stamp.key_name]))


def _broken_before(links: tuple[Link, ...]) -> str | None:
    """What the seals say of it: none first, then pass; a fail ends a chain for good (RFC 8617, 5.2, steps 2 and 3)."""
    if any(link.seal.chain == "fail" for link in links):
        return "a sealer found the chain broken already"
    for link in links:
        if (link.seal.chain == "none") != (link.seal.instance == 1):
            return f"the cv= of seal {link.seal.instance} is not the one for its place"
    return None


def _from_the_future(links: tuple[Link, ...], now: datetime) -> str | None:
    latest = (now + CLOCK_GRACE).timestamp()
    times = [one.signed_at for link in links for one in (link.message, link.seal) if one.signed_at is not None]
    return "the time of a signature lies in the future" if any(time > latest for time in times) else None


def _needed(links: tuple[Link, ...]) -> list[Stamp]:
    """Without these no verdict: every seal and the newest message signature."""
    return [*(link.seal for link in links), links[-1].message]


async def _ask(lookup: Lookup, links: tuple[Link, ...]) -> Mapping[str, Answer[bytes]]:
    names = list(dict.fromkeys(one.key_name for link in links for one in (link.seal, link.message)))
    return dict(zip(names, await side_by_side(*map(lookup.txt, names)), strict=True))


def _keys(stamp: Stamp, answer: Answer[bytes]) -> list[Key]:
    """The keys that fit, in an order that does not depend on DNS."""
    records = sorted(set(answer.records), key=lambda record: (not record.startswith(b"v=DKIM1"), record))
    found = map(read_key, records[:MAX_KEYS])
    return [key for key in found if isinstance(key, Key) and stamp.algorithm.startswith(f"{key.kind}-")]


def _worth_hashing(link: Link, newest: Link) -> bool:
    """An older signature only tells how far back all hold: no large body is hashed up to ten limits (`l=`) for it."""
    return link is newest or link.message.form.limit is None


def _body_holds(message: Stamp, hashes: Mapping[BodyForm, BodyHash]) -> bool:
    body = hashes[message.form]
    fits = message.form.limit is None or message.form.limit <= body.length  # RFC 6376, 3.5
    return fits and body.digest == message.body_hash


def _report(link: Link) -> Seal:
    """A set as the report has it. Blanks are made one, so that more of a folded value is kept."""
    return Seal(
        instance=link.seal.instance,
        domain=readable(link.seal.domain),
        selector=readable(link.seal.selector),
        chain=link.seal.chain,
        results=readable(b" ".join(link.results.value[: 8 * RESULTS_LIMIT].split()), RESULTS_LIMIT),
    )
