"""A receiving domain as a sender sees it: do its MX records lead here, and could anybody forge mail in its name?"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from ingester.auth import dmarc_record
from ingester.auth.dkim_key import read_key
from ingester.auth.dns import MailLookup
from ingester.auth.hosts import addresses_of
from ingester.auth.lookup import Answer, Exchange, Status
from ingester.auth.report import Policy, Result, Spf
from ingester.auth.spf import check_mail_from
from ingester.core.ids import SYSTEM_TENANT
from ingester.doctor.finding import Finding, Pen
from ingester.doctor.host import ours
from ingester.doctor.patient import Address, Patient
from ingester.store.registry import Domain, domains, owners, tenants

AT_ONCE = 10
"""Domains that are looked at side by side."""
MOST = 500
"""Domains of the directory that are looked at without being named."""

NOBODY = "203.0.113.77"
"""An address that sends no mail (RFC 5737): who lets it pass lets everybody."""

_pen = Pen("directory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A mail exchange: where its name leads."""

    exchange: Exchange
    alias: str = ""
    addresses: tuple[Address, ...] = ()


async def look(patient: Patient) -> Sequence[Finding]:
    """Those that were named, or all that the directory has."""
    known = await _known(patient)
    names = patient.domains or tuple(dict.fromkeys(one.name for one in known))
    if not names:
        return [_pen.warning("the directory has no domain: no mail is taken", "Add one: `ingester domain add`.")]
    more = [] if len(names) <= MOST else [_pen.ok(f"the first {MOST} of {len(names)} domains are looked at")]
    if not patient.selectors:
        more.append(_pen.ok("DKIM keys are not looked at: DNS does not list them, name them with --selector"))
    places = asyncio.Semaphore(AT_ONCE)
    async with patient.lookup() as lookup:
        here = await ours(patient, lookup)

        async def one(name: str) -> list[Finding]:
            async with places, patient.lookup() as own:
                return [*_status(name, known), *await _dns(patient, own, name, here)]

        found = await asyncio.gather(*(one(name) for name in names[:MOST]))
    return [*(finding for findings in found for finding in findings), *more]


async def _known(patient: Patient) -> list[Domain]:
    async with patient.connection() as connection:
        if patient.domains:
            return [one for name in patient.domains for one in await owners(connection, name)]
        return await domains(connection, [one.id for one in await tenants(connection) if one.id != SYSTEM_TENANT])


def _status(name: str, known: Sequence[Domain]) -> Iterator[Finding]:
    """What the directory says: mail is taken for verified domains alone."""
    pen = Pen(name)
    holders = [one for one in known if one.name == name]
    verified = [one for one in holders if one.status == "verified"]
    if verified:
        yield pen.ok(f"verified for the tenant {verified[0].tenant}")
    elif holders:
        tenant = holders[0].tenant
        yield pen.fault(
            f"it is pending for {', '.join(one.tenant for one in holders)}: its mail is answered 450",
            f"`ingester domain verify {name} --tenant {tenant}`",
        )
    else:
        yield pen.fault(
            "the directory does not have it: its mail is refused", f"`ingester domain add {name} --tenant SLUG`"
        )


async def _dns(patient: Patient, lookup: MailLookup, name: str, here: frozenset[Address]) -> list[Finding]:
    pen = Pen(name)
    mx, spf, (place, record), keys = await asyncio.gather(
        lookup.mx(name),
        check_mail_from(
            lookup,
            ip=NOBODY,
            helo=patient.hostname,
            mail_from=f"postmaster@{name}",
            receiver=patient.hostname,
            now=patient.now,
        ),
        _policy(lookup, name),
        asyncio.gather(*(lookup.txt(f"{selector}._domainkey.{name}") for selector in patient.selectors)),
    )
    hosts = await asyncio.gather(*(_host(lookup, one) for one in mx.records if one.host))
    return [
        *judge_mx(pen, mx, hosts, hostname=patient.hostname, here=here),
        judge_spf(pen, spf),
        judge_dmarc(pen, place, record),
        *(_judge_key(pen, name, answer) for name, answer in zip(patient.selectors, keys, strict=True)),
    ]


async def _host(lookup: MailLookup, exchange: Exchange) -> Host:
    alias, addresses = await asyncio.gather(lookup.cname(exchange.host), addresses_of(lookup, exchange.host))
    return Host(exchange=exchange, alias=next(iter(alias.records), ""), addresses=addresses)


def judge_mx(
    pen: Pen, mx: Answer[Exchange], hosts: Sequence[Host], *, hostname: str, here: frozenset[Address]
) -> Iterator[Finding]:
    """Where its mail goes (RFC 5321, 5.1)."""
    record = f"Publish `{pen.check}. MX 10 {hostname}.`"
    if mx.status is Status.NO_NAME:
        yield pen.fault("it does not exist in DNS", "Register it, or correct the spelling.")
    elif mx.status is Status.NO_DATA:
        yield pen.fault("it has no MX record: its mail goes to its own address, if anywhere", record)
    elif mx.status is not Status.FOUND:
        yield pen.fault(f"its MX records cannot be had ({mx.status})", "Look at its name servers.")
    elif any(one.host == "" for one in mx.records):
        yield pen.fault("it says that it takes no mail (a null MX, RFC 7505)", f"{record} instead.")
    else:
        yield from _judge_hosts(pen, hosts, hostname=hostname, here=here)


def _judge_hosts(pen: Pen, hosts: Sequence[Host], *, hostname: str, here: frozenset[Address]) -> Iterator[Finding]:
    for one in hosts:
        name = one.exchange.host
        if _is_address(name):
            yield pen.fault(f"its MX is the address {name}, where a name must be", f"Let it name {hostname}.")
        elif one.alias:
            yield pen.fault(
                f"its MX {name} is an alias of {one.alias}, which senders may refuse (RFC 5321, 5.1)",
                f"Let the MX name {hostname} itself, or give {name} an address record.",
            )
        elif not one.addresses:
            yield pen.fault(f"its MX {name} has no address", f"Publish an A or AAAA record, or let it name {hostname}.")
    arrive = [one for one in hosts if one.exchange.host.lower() == hostname or here.intersection(one.addresses)]
    elsewhere = [one.exchange.host for one in hosts if one not in arrive]
    if not arrive:
        yield pen.fault(
            f"its mail goes elsewhere: {', '.join(elsewhere[:5])}",
            f"Let its MX name {hostname}; or name the address of a balancer in front with --address.",
        )
    elif elsewhere:
        yield pen.warning(
            f"a part of its mail may go elsewhere: {', '.join(elsewhere[:5])}",
            "Remove those MX records, unless they are other hosts of ours.",
        )
    else:
        yield pen.ok(f"its mail goes to {', '.join(one.exchange.host for one in arrive)}")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def judge_spf(pen: Pen, report: Spf) -> Finding:
    """Who may send in its name (RFC 7208), judged on an address from which nobody sends."""
    if report.result is Result.TEMPERROR:
        return pen.warning(f"its SPF record cannot be had: {report.problem}", "Look at its name servers.")
    if report.result is Result.NONE:
        return pen.warning(
            "it has no SPF record: anybody may send in its name", "Publish one; `v=spf1 -all` where it sends no mail."
        )
    if report.result is Result.PERMERROR:
        return pen.fault(f"its SPF record is as good as none: {report.problem}", "Correct it (RFC 7208, 4.6).")
    if report.result is Result.PASS:
        return pen.fault(
            f"its SPF record lets the whole world send in its name ({report.mechanism})", "Let it end in -all."
        )
    return pen.ok("its SPF record can be read")


async def _policy(lookup: MailLookup, name: str) -> tuple[str, dmarc_record.Record | Status | None]:
    """The closest DMARC record around a domain and where it stands, or why it cannot be had (RFC 9989, 4.10)."""
    for place in dmarc_record.names_to_walk(name):
        answer = await lookup.txt(f"_dmarc.{place}")
        if answer.status in (Status.UNAVAILABLE, Status.MALFORMED):
            return place, answer.status
        record = dmarc_record.select(answer.records)
        if record is not None:
            return place, record
        if place == name and len(answer.records) > 1:
            return place, Status.MALFORMED
    return name, None


def judge_dmarc(pen: Pen, place: str, record: dmarc_record.Record | Status | None) -> Finding:
    """What receivers shall do with forged mail."""
    where = f"_dmarc.{place}"
    if isinstance(record, Status):
        return pen.warning(f"its DMARC record at {where} cannot be had ({record})", "Let one record stand there.")
    if record is None:
        return pen.warning(
            "it has no DMARC record: nobody is told to refuse forged mail",
            f"Publish one at {where}: `v=DMARC1; p=reject; rua=mailto:...`",
        )
    policy = record.policy if place == pen.check else record.subdomains
    if not record.usable:
        return pen.fault(f"the DMARC record at {where} has no valid policy: nobody applies it", "Correct its p= tag.")
    if policy is Policy.NONE:
        return pen.warning(
            f"the DMARC policy at {where} is none: forged mail is delivered everywhere",
            "Go to quarantine, then to reject.",
        )
    return pen.ok(f"its DMARC policy is {policy}")


def _judge_key(pen: Pen, selector: str, answer: Answer[bytes]) -> Finding:
    """A public key of DKIM, by the selector that was named."""
    where = f"{selector}._domainkey.{pen.check}"
    if not answer.records:
        return pen.fault(f"there is no DKIM key at {where} ({answer.status})", "Publish the signer's key there.")
    key = read_key(answer.records[0])
    if isinstance(key, str):
        return pen.fault(f"the DKIM key at {where} cannot be used: {key}", "Publish the signer's key anew.")
    if key.kind == "rsa" and key.bits < 2048:
        return pen.warning(f"the DKIM key at {where} has {key.bits:,} bits", "Make one of 2,048.")
    if key.testing:
        return pen.warning(f"the DKIM key at {where} is in test mode (t=y)", "Take the flag away.")
    return pen.ok(f"the DKIM key at {where} can be used")
