"""Our own Authentication-Results field (RFC 8601), and whose word we take for a mail that fails DMARC here.

What a mail says of its own authentication is never believed but of forwarders that the operator or a tenant trusts.
Pure; nothing here raises.
"""

import re
from collections.abc import Collection, Iterator, Sequence

from authres.core import AuthenticationResult, AuthenticationResultProperty

from ingester.auth.header import split
from ingester.auth.report import Arc, AuthReport, Identity, Result, Seal, Signature, Spf, Voucher
from ingester.auth.statements import Claim, Statement, read_statements, read_value

__all__ = [
    "RESULTS_LIMIT",
    "SES_ID",
    "Claim",
    "Statement",
    "authentication_results",
    "claims_to_be",
    "read_statements",
    "vouch",
    "without_ours",
]

RESULTS_LIMIT = 1024
"""Characters of an ARC-Authentication-Results value that a report keeps."""

SES_ID = "amazonses.com"
"""What Amazon SES calls itself in its fields. Its hosts have another name."""
_SES_HOST = re.compile(r"inbound-smtp\.[a-z0-9-]{1,40}\.amazonaws\.com")

_FOLD = ";\r\n\t"
_UNSAFE_IN_ID = re.compile(r"[^A-Za-z0-9._-]")
_UNSAFE_IN_VALUE = re.compile(r"[^A-Za-z0-9._+=/:-]")
_UNSAFE_IN_ADDRESS = re.compile(r"[^A-Za-z0-9._@+=-]")
"""authres quotes what needs it, but for what has an @."""
_UNSAFE_IN_COMMENT = re.compile(r"[^A-Za-z0-9 .,;:=_@/-]")
_NO_WORD = (Result.UNKNOWN, Result.PASS_VIA_FORWARDER)
"""Our own words, which RFC 8601, 2.7, does not know."""


def authentication_results(report: AuthReport, authserv_id: str) -> str:
    """The whole field, folded with CRLF, without the last line end. Checks that were not made are not in it.

    Strangers' text is reduced to characters that need no quoting anywhere, so none can end a value or a line.
    """
    results = [str(result) for result in _results(report)]
    own = _UNSAFE_IN_ID.sub("_", authserv_id)
    return "Authentication-Results: " + _FOLD.join([own, *(results or ["none"])])


def claims_to_be(statement: Statement, authserv_id: str) -> bool:
    """Whether a field claims to be our own: no upstream can know what we find (RFC 8601, 5)."""
    return statement.authserv_id == authserv_id.lower()


def without_ours(raw: bytes, authserv_id: str) -> bytes:
    """The mail without the Authentication-Results that claim to be ours: beneath ours they would be believed.

    RFC 8601, 5, asks for it wherever a mail is handed on with our own field. The stored bytes keep them.
    """
    header = split(raw)
    head, body = raw[: header.body], raw[header.body :]
    for field in header.all("authentication-results"):
        claimed, _ = read_value(field.value[:RESULTS_LIMIT].decode("utf-8", "replace"))
        if claimed == authserv_id.lower():
            head = head.replace(field.raw, b"", 1)
    return head + body


def vouch(
    *,
    arc: Arc,
    statements: Sequence[Statement],
    trusted_sealers: Collection[str],
    trusted_ids: Collection[str],
    from_domain: str,
) -> Voucher | None:
    """The trusted forwarder that says the From domain (lower case, A-labels) passed there, or None.

    The names that are trusted are in lower case. `trusted_ids` must hold only those upstreams whose own address the
    client has: anybody can write such a field.
    """
    if not from_domain:
        return None
    return _by_seal(arc, trusted_sealers, from_domain) or _by_upstream(statements, trusted_ids, from_domain)


def _by_seal(arc: Arc, trusted: Collection[str], from_domain: str) -> Voucher | None:
    """The newest trusted seal that speaks for the domain, with no stranger's seal after it.

    A chain that holds proves who said what, not that it is true: a sealer may change the mail and lie about what it
    was. So all who handled it later must be trusted as well (RFC 8617, 7.2 and 9.2), and the newest signature must hold
    From and body together: else an old chain fits on a new mail.
    """
    if arc.result is not Result.PASS or arc.partial:
        return None
    for seal in sorted(arc.seals, key=lambda one: one.instance, reverse=True):
        if seal.domain.lower() not in trusted:
            return None
        statement = _believable(_sealed_claims(seal), from_domain)
        if statement is not None:
            return Voucher(kind="arc", name=seal.domain.lower(), statement=statement)
    return None


def _sealed_claims(seal: Seal) -> tuple[Claim, ...]:
    """What a sealer found, from `i=1; authserv-id; claims` (RFC 8617, 4.1.1). The seal says who it was, not the id."""
    _, _, after_instance = seal.results.partition(";")
    return read_value(after_instance, RESULTS_LIMIT - (len(seal.results) - len(after_instance)))[1]


def _by_upstream(statements: Sequence[Statement], trusted: Collection[str], from_domain: str) -> Voucher | None:
    """What the upstream itself wrote, as far as the place of a field can tell.

    A host puts its fields above all that it got. So those above every Received are the upstream's; a field under
    Received lines counts only if it is the topmost of all and every line above it is the upstream's own, which still
    relies on it writing its field into each mail, or removing forged ones (RFC 8601, 5).
    """
    for place, statement in enumerate(statements):
        upstream = statement.authserv_id
        if statement.hops and (place > 0 or not all(_is_host_of(hop, upstream) for hop in statement.hops)):
            return None
        found = _believable(statement.claims, from_domain) if upstream in trusted else None
        if found is not None:
            return Voucher(kind="authserv_id", name=upstream, statement=found)
    return None


def _is_host_of(host: str, upstream: str) -> bool:
    if upstream == SES_ID and _SES_HOST.fullmatch(host):
        return True
    return bool(upstream) and (host == upstream or host.endswith(f".{upstream}"))


def _believable(claims: Sequence[Claim], from_domain: str) -> str | None:
    """The claim that the From domain passed: DMARC for it, or DKIM or SPF for that very domain.

    A DMARC that failed, was for another From, or was found twice outweighs the rest: it was not this author there.
    """
    dmarc = [claim for claim in claims if claim.method == "dmarc"]
    if len(dmarc) > 1 or any(claim.result not in ("pass", "none", "bestguesspass") for claim in dmarc):
        return None
    if any(_passed_for(claim) not in ("", from_domain) for claim in dmarc):
        return None
    for claim in claims:
        if claim.result == "pass" and _passed_for(claim) == from_domain:
            return f"{claim.method}=pass for {from_domain}"[:256]
    return None


def _passed_for(claim: Claim) -> str:
    """The domain that a claim is about. A local part says nothing more: only a host could vouch for it."""
    if claim.method == "dmarc":
        named = claim.only("header.from")
    elif claim.method == "dkim":
        named = claim.only("header.d") or claim.only("header.i")
    elif claim.method == "spf":
        named = claim.only("smtp.mailfrom")
    else:
        named = ""
    return named.rpartition("@")[2].lower().removesuffix(".")


def _results(report: AuthReport) -> Iterator[AuthenticationResult]:
    if report.spf.result not in _NO_WORD:
        yield _spf(report.spf)
    if report.helo is not None and report.helo.result not in _NO_WORD:
        yield _spf(report.helo)
    for signature in report.dkim.signatures:
        if signature.result not in _NO_WORD:
            yield _dkim(signature)
    if not report.dkim.signatures and report.dkim.result not in _NO_WORD:
        yield _result("dkim", report.dkim.result)
    if report.dmarc.result is not Result.UNKNOWN:
        yield _dmarc(report)
    if report.arc.result not in _NO_WORD:
        oldest = report.arc.oldest_pass
        yield _result("arc", report.arc.result, report.arc.reason, ("header", "oldest-pass", oldest))
    if report.peer is not None and report.peer.reverse not in _NO_WORD:
        yield _result("iprev", report.peer.reverse, report.peer.confirmed_name, ("policy", "iprev", report.peer.ip))


def _spf(spf: Spf) -> AuthenticationResult:
    if spf.identity is Identity.HELO:
        return _result("spf", spf.result, spf.problem, ("smtp", "helo", spf.helo or spf.domain))
    return _result("spf", spf.result, spf.problem, ("smtp", "mailfrom", spf.envelope_from or spf.domain))


def _dkim(signature: Signature) -> AuthenticationResult:
    return _result(
        "dkim",
        signature.result,
        signature.reason,
        ("header", "d", signature.domain),
        ("header", "s", signature.selector),
        ("header", "a", signature.algorithm),
        ("header", "b", signature.digest_prefix),
    )


def _dmarc(report: AuthReport) -> AuthenticationResult:
    """A forwarder's word is our own decision, not DMARC: the field says that it failed, and who vouched."""
    dmarc = report.dmarc
    result, comment = dmarc.result, dmarc.reason
    if result is Result.PASS_VIA_FORWARDER:
        result = Result.FAIL
        comment = f"vouched for by {report.voucher.name}" if report.voucher else comment
    policy = dmarc.policy.value if dmarc.policy else None
    return _result("dmarc", result, comment, ("header", "from", dmarc.from_domain), ("policy", "dmarc", policy))


def _result(
    method: str, result: Result, comment: str | None = None, *properties: tuple[str, str, str | int | None]
) -> AuthenticationResult:
    return AuthenticationResult(
        method,
        result=result.value,
        result_comment=_UNSAFE_IN_COMMENT.sub("_", comment)[:100].strip() if comment else None,
        properties=[
            AuthenticationResultProperty(kind, name, _value(str(value)))
            for kind, name, value in properties
            if value is not None and value != ""
        ],
    )


def _value(text: str) -> str:
    unsafe = _UNSAFE_IN_ADDRESS if "@" in text[:256] else _UNSAFE_IN_VALUE
    return unsafe.sub("_", text[:256])
