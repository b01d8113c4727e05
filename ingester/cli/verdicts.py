"""An auth report in plain lines: who sent it, by each check, and the evidence. Pure; nothing is decided here."""

from typing import Any

import msgspec

from ingester.auth.report import Arc, AuthReport, Dkim, Dmarc, Peer, Result, Signature, Spf

Branch = tuple[str, list[str]]
"""A line, and the lines beneath it."""

_ZONE_WORDS = {True: "listed", False: "not listed", None: "no answer"}


def stored_report(document: dict[str, Any]) -> AuthReport | None:
    """The report of a receipt; None where there is none (a dead letter's) or it is of another version."""
    try:
        return msgspec.convert(document, AuthReport)
    except msgspec.ValidationError:
        return None


def branches(report: AuthReport) -> list[Branch]:
    """One branch a check, in the order in which they build on each other."""
    out = [_peer(report.peer)] if report.peer is not None else []
    out.append(_spf("SPF", report.spf))
    if report.helo is not None:
        out.append(_spf("SPF of the HELO name", report.helo))
    out += [_dkim(report.dkim), _arc(report.arc), _dmarc(report.dmarc)]
    if report.voucher is not None:
        out.append((f"Vouched for by {report.voucher.name} ({report.voucher.kind})", [report.voucher.statement]))
    if report.set_aside:
        out.append((f"Set aside: {report.set_aside} Authentication-Results that claim to be ours", []))
    return out


def _peer(peer: Peer) -> Branch:
    lines = [f"reverse DNS {peer.reverse.value}: {', '.join(peer.reverse_names) or 'no name'}"]
    if peer.helo_problem:
        lines.append(f"HELO: {peer.helo_problem}")
    lines += [f"{one.zone}: {_ZONE_WORDS[one.listed]} {' '.join(one.codes)}".rstrip() for one in peer.listings]
    return f"Client {peer.ip}", lines


def _spf(title: str, spf: Spf) -> Branch:
    if spf.result is Result.UNKNOWN:
        return f"{title}: unknown", ["this door cannot know the address of the client"]
    lines = [f"{spf.identity.value} {spf.domain}"] if spf.domain else []
    lines += [f"matched {spf.mechanism}"] if spf.mechanism else []
    lines += [f"the domain says: {spf.explanation}"] if spf.explanation else []
    return f"{title}: {spf.result.value}", lines + ([spf.problem] if spf.problem else [])


def _dkim(dkim: Dkim) -> Branch:
    lines = [_signature(one) for one in dkim.signatures]
    return f"DKIM: {dkim.result.value}", lines + ([f"{dkim.unjudged} more not judged"] if dkim.unjudged else [])


def _signature(one: Signature) -> str:
    words = [f"{one.domain or '?'} ({one.selector or '?'}, {one.algorithm or '?'}): {one.result.value}"]
    words += [f"signed {one.body_length:,} bytes of the body only"] if one.partial_body else []
    words += ["the key is for testing"] if one.testing else []
    return ", ".join(words + ([one.reason] if one.reason else []))


def _arc(arc: Arc) -> Branch:
    lines = [f"{seal.instance} {seal.domain} ({seal.selector}), chain {seal.chain}" for seal in arc.seals]
    return f"ARC: {arc.result.value}", lines + ([arc.reason] if arc.reason else [])


def _dmarc(dmarc: Dmarc) -> Branch:
    lines = [f"From {dmarc.from_domain}"] if dmarc.from_domain else []
    if dmarc.policy is not None:
        softened = ", only a test" if dmarc.testing else ""
        lines.append(f"policy {dmarc.policy.value} at {dmarc.policy_domain}{softened}: {dmarc.disposition.value}")
    lines += [f"{one.method} of {one.domain} is aligned" for one in dmarc.aligned]
    return f"DMARC: {dmarc.result.value}", lines + ([dmarc.reason] if dmarc.reason else [])
