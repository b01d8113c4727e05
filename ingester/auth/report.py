"""The auth report: every verdict on one arrival, with its evidence. Data only; it is stored as JSON with the receipt.

The result words are those of RFC 8601, 2.7, with `unknown` (not checked, or beyond our bounds) and
`pass_via_forwarder`. Text in it comes from strangers and is cut by those who put it in.
"""

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """A verdict's word."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"
    UNKNOWN = "unknown"
    PASS_VIA_FORWARDER = "pass_via_forwarder"  # noqa: S105


class Identity(StrEnum):
    """What SPF checked (RFC 7208, 2.3 and 2.4)."""

    MAIL_FROM = "mailfrom"
    HELO = "helo"


class Policy(StrEnum):
    """What the owner of a domain wants for mail that fails DMARC (RFC 9989)."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spf:
    """SPF on one identity (RFC 7208): the data of a Received-SPF field (9.1)."""

    result: Result
    domain: str = ""
    """The domain whose record was evaluated, lower case, as A-labels."""
    identity: Identity = Identity.MAIL_FROM
    client_ip: str = ""
    helo: str = ""
    envelope_from: str = ""
    mechanism: str | None = None
    """The term that matched, as it stands in the record; `default` where none did."""
    explanation: str | None = None
    """What the domain's owner says of a fail (RFC 7208, 6.2)."""
    problem: str | None = None
    """One sentence for an error: what is wrong, and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One DKIM-Signature (RFC 6376, 3.5). `ordinal` counts all of the mail from 1, top to bottom."""

    ordinal: int
    result: Result
    domain: str = ""
    selector: str = ""
    algorithm: str = ""
    identity: str = ""
    """`i=`, or its default `@domain`."""
    reason: str | None = None
    """One sentence, for all but a clean pass."""
    signed_headers: tuple[str, ...] = ()
    body_length: int | None = None
    """`l=`, in bytes."""
    partial_body: bool = False
    """`l=` left a part of the body unsigned: true to its signer, but no ground for DMARC."""
    signed_at: int | None = None
    expires_at: int | None = None
    key_bits: int | None = None
    testing: bool = False
    """The key's `t=y`: the signer only tries (RFC 6376, 3.6.1)."""
    digest_prefix: str = ""
    """The first eight characters of `b=`, to tell signatures apart (header.b; RFC 6008)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dkim:
    """All signatures judged. `result` is pass if any acceptable one passes, else the best of the rest."""

    result: Result
    signatures: tuple[Signature, ...] = ()
    unjudged: int = 0
    """Signatures beyond the bound: neither good nor bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """An identifier that passed and belongs to the From domain (RFC 9989)."""

    method: str
    """`spf` or `dkim`."""
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dmarc:
    """DMARC (RFC 9989). `policy` is what the record asks for this From domain, before `t=y` softens it."""

    result: Result
    from_domain: str = ""
    policy_domain: str = ""
    """Where the record was found."""
    organizational_domain: str = ""
    policy: Policy | None = None
    disposition: Policy = Policy.NONE
    """What the owner wants done with this very mail: none unless it failed; a test (`t=y`) asks one step less."""
    testing: bool = False
    aligned: tuple[Aligned, ...] = ()
    record: str | None = None
    reason: str | None = None
    """One sentence, for all but a clean pass."""
    mail_at_fault: bool = False
    """A permerror of the mail itself (two From fields), not of the owner's records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """One ARC set (RFC 8617, 4.1): who sealed, and what he said of the chain that he got."""

    instance: int
    domain: str
    selector: str
    chain: str
    """The `cv=` of the seal."""
    results: str
    """The ARC-Authentication-Results value, cut; believed only of sealers in the forwarder registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arc:
    """The chain as we validate it (RFC 8617, 5.2). More than ten sets are `unknown`, never a fail."""

    result: Result
    seals: tuple[Seal, ...] = ()
    oldest_pass: int | None = None
    """The first instance from which on all message signatures still hold; 0 when the first does."""
    partial: bool = False
    """The newest message signature leaves out From or a part of the body: true to its signer, no ground for trust."""
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """Why a mail that fails DMARC is believed all the same: a trusted forwarder says that it passed there."""

    kind: str
    """`arc` (a trusted sealer in a chain that holds) or `authserv_id` (a trusted upstream's header)."""
    name: str
    statement: str
    """What it said of the From domain, cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One zone that was asked about the client's address (RFC 5782)."""

    zone: str
    listed: bool | None
    """None when DNS did not answer."""
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What is noted of the client itself. It decides nothing."""

    ip: str
    reverse_names: tuple[str, ...] = ()
    confirmed_name: str | None = None
    """The reverse name that points back to the address."""
    reverse: Result = Result.UNKNOWN
    """`iprev` (RFC 8601, 2.7.3)."""
    helo_problem: str | None = None
    listings: tuple[Listing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthReport:
    """Everything known about who sent one arrival. None stands for a check that this door cannot make."""

    spf: Spf
    helo: Spf | None
    dkim: Dkim
    dmarc: Dmarc
    arc: Arc
    peer: Peer | None = None
    voucher: Voucher | None = None
    set_aside: int = 0
    """Authentication-Results fields that claim to be ours, which no upstream can know."""
    queries: int = 0
    """DNS questions asked for this mail, answers from the cache included."""
    notes: tuple[str, ...] = ()
