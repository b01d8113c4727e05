"""ARC sets (RFC 8617, 4): their fields gathered and read, and what the RFC forbids of them. Pure; linear; never raises.

Whether signatures hold is judged in `arc`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ingester.auth.dkim_canon import BodyForm
from ingester.auth.dkim_signature import ALGORITHMS, MAX_FIELD, from_base64, listed, tags
from ingester.auth.header import HeaderField
from ingester.core.address import normalise_domain

RESULTS, MESSAGE, SEAL = "arc-authentication-results", "arc-message-signature", "arc-seal"
FIELDS = (RESULTS, MESSAGE, SEAL)
MAX_SIGNED = 500
"""Names in the `h=` of a message signature; honest ones have about twenty."""
MAX_NAME = 253
WHOLE_RELAXED = BodyForm(True, None)
CHAIN_WORDS = ("none", "pass", "fail")
"""`cv=` (RFC 8617, 4.1.3), in lower case only."""

_PREFIX = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([1-9][0-9]?)[ \t\r\n]*;")
_INSTANCE = re.compile(r"[1-9][0-9]?")
_NUMBER = re.compile(r"[0-9]{1,12}")
_FIELD_NAME = re.compile(r"[!-9;-~]*")


class Broken(Exception):
    """What makes a chain worthless. Raised while fields are read and caught by `read_chain`; nobody else sees it."""


class Beyond(Broken):
    """It is larger than what is checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoChain:
    """Why there is no chain to check, in one sentence; `beyond`: for its size, so that nothing is known."""

    reason: str
    beyond: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """A signature of a set. A seal has no signed headers and no body; a message signature has no `chain` word."""

    field: HeaderField
    instance: int
    domain: str
    selector: str
    algorithm: str
    signature: bytes
    signed_at: int | None = None
    chain: str = ""
    signed_headers: tuple[str, ...] = ()
    header_relaxed: bool = True
    form: BodyForm = WHOLE_RELAXED
    body_hash: bytes = b""

    @property
    def key_name(self) -> str:
        """Where its key is in DNS (RFC 6376, 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One whole set."""

    results: HeaderField
    message: Stamp
    seal: Stamp


def read_chain(fields: Sequence[HeaderField], max_sets: int) -> tuple[Link, ...] | NoChain:
    """The sets by instance from 1, each whole and single (RFC 8617, 5.2, step 3); or why this is no chain."""
    if any(sum(field.name == name for field in fields) > max_sets for name in FIELDS):
        return NoChain(reason=f"more than {max_sets} sets are not checked", beyond=True)
    try:
        results = {_results_instance(field): field for field in fields if field.name == RESULTS}
        messages = {one.instance: one for one in (_message(field) for field in fields if field.name == MESSAGE)}
        seals = {one.instance: one for one in (_seal(field) for field in fields if field.name == SEAL)}
    except Broken as problem:
        return NoChain(reason=str(problem), beyond=isinstance(problem, Beyond))
    wanted = set(range(1, len(seals) + 1))
    if not (results.keys() == messages.keys() == seals.keys() == wanted) or len(fields) != 3 * len(wanted):
        return NoChain(reason="the sets are not whole, single and numbered from 1")
    return tuple(Link(results=results[i], message=messages[i], seal=seals[i]) for i in sorted(wanted))


def _results_instance(field: HeaderField) -> int:
    match = _PREFIX.match(field.value)
    if match is None:
        raise Broken("an ARC-Authentication-Results field does not begin with its instance")
    return int(match[1])


def _message(field: HeaderField) -> Stamp:
    """An ARC-Message-Signature: a DKIM signature without `v=`, whose `i=` is the instance (RFC 8617, 4.1.2)."""
    found = _tags(field, "bh", "h")
    names = tuple(name.lower() for name in listed(found["h"]))
    if len(names) > MAX_SIGNED:
        raise Beyond(f"more than {MAX_SIGNED} names in h= are not checked")
    if not all(_FIELD_NAME.fullmatch(name) for name in names):
        raise Broken("h= is no list of field names")
    if SEAL in names:
        raise Broken("a message signature covers a seal (RFC 8617, 4.1.2)")
    header, slash, body = found.get("c", "relaxed/relaxed").partition("/")
    body = body if slash else "simple"
    if not {header, body} <= {"simple", "relaxed"}:
        raise Broken("the canonicalisation of c= is unknown")
    length = _number(found, "l")
    return _stamp(
        field,
        found,
        signed_headers=names,
        header_relaxed=header == "relaxed",
        form=BodyForm(body == "relaxed", length),
        body_hash=_base64(found, "bh"),
    )


def _seal(field: HeaderField) -> Stamp:
    found = _tags(field, "cv")
    if "h" in found:
        raise Broken("a seal has h= (RFC 8617, 4.1.3)")
    if found["cv"] not in CHAIN_WORDS:
        raise Broken("the cv= of a seal is unknown")
    return _stamp(field, found, chain=found["cv"])


def _tags(field: HeaderField, *needed: str) -> dict[str, str]:
    if len(field.raw) > MAX_FIELD:
        raise Beyond(f"a field of more than {MAX_FIELD:,} bytes is not checked")
    found = tags(field.value)
    if isinstance(found, str):
        raise Broken(f"a signature cannot be read: {found}")
    for name in ("i", "a", "b", "d", "s", *needed):
        if name not in found:
            raise Broken(f"the tag {name}= is missing")
    return found


def _stamp(
    field: HeaderField,
    found: dict[str, str],
    *,
    chain: str = "",
    signed_headers: tuple[str, ...] = (),
    header_relaxed: bool = True,
    form: BodyForm = WHOLE_RELAXED,
    body_hash: bytes = b"",
) -> Stamp:
    if not _INSTANCE.fullmatch(found["i"]):
        raise Broken("i= is no instance")
    if found["a"] not in ALGORITHMS:
        raise Broken("the algorithm of a= is unknown")
    return Stamp(
        field=field,
        instance=int(found["i"]),
        domain=_name(found, "d"),
        selector=_name(found, "s"),
        algorithm=found["a"],
        signature=_base64(found, "b"),
        signed_at=_number(found, "t"),
        chain=chain,
        signed_headers=signed_headers,
        header_relaxed=header_relaxed,
        form=form,
        body_hash=body_hash,
    )


def _name(found: dict[str, str], tag: str) -> str:
    text = found[tag]
    name = normalise_domain(text) if len(text) <= MAX_NAME and text[:1] != "[" else None
    if name is None:
        raise Broken(f"{tag}= is no domain name")
    return name


def _base64(found: dict[str, str], tag: str) -> bytes:
    data = from_base64(found[tag])
    if not data:
        raise Broken(f"{tag}= is empty or no base64")
    return data


def _number(found: dict[str, str], tag: str) -> int | None:
    if tag not in found:
        return None
    if not _NUMBER.fullmatch(found[tag]):
        raise Broken(f"{tag}= is no number, or none that can be true")
    return int(found[tag])
