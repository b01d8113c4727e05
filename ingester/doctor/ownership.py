"""Whether a domain's owner has shown in live DNS that it is theirs and that its mail comes here. It changes nothing."""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from ingester.auth.authority import PORT, Live, Owners
from ingester.auth.dns import MailLookup
from ingester.auth.dns_message import Kind
from ingester.auth.hosts import addresses_of
from ingester.auth.lookup import Status
from ingester.core.challenge import holds, owner_name, record_text
from ingester.doctor.patient import fresh_resolver
from ingester.settings import Settings


async def missing(
    settings: Settings, name: str, challenge: str, hosts: Sequence[str] = (), *, port: int = PORT
) -> list[str]:
    """What is missing, one sentence each; nothing where all is proved. Raises NoNameserver."""
    ours = [one.lower().removesuffix(".") for one in (settings.smtp.hostname or socket.gethostname(), *hosts)]
    async with fresh_resolver(settings) as resolver:
        owners = Owners(resolver, port=port)
        proof = await owners.ask(owner_name(name), Kind.TXT)
        exchanges = await owners.ask(name, Kind.MX)
        return [
            *_missing_proof(proof, name, challenge),
            *await _missing_mx(resolver.lookup(), exchanges, name, ours),
        ]


def _missing_proof(live: Live, name: str, challenge: str) -> list[str]:
    without = [one for one in live.told if not holds(one.answer.records, challenge)]
    if live.told and not without:
        return []
    where = owner_name(name)
    if any(one.answer.status is Status.UNAVAILABLE for one in live.told):
        return [f"DNS does not answer for {where} now (asked: {live.asked}): try again in a minute"]
    if len(without) < len(live.told):
        behind = ", ".join(one.who for one in without)
        return [f"not all name servers have the TXT record at {where} yet ({behind} lack it): try again in a minute"]
    other = any(one.answer.records for one in without)
    found = "says something else" if other else "is not there"
    return [f'the TXT record at {where} {found}: publish "{record_text(challenge)}" (asked: {live.asked})']


async def _missing_mx(lookup: MailLookup, live: Live, name: str, ours: Sequence[str]) -> list[str]:
    """Each server must name one of our hosts, by its name or by an address that it has."""
    here: set[IPv4Address | IPv6Address] = set()
    for host in ours:
        here |= set(await addresses_of(lookup, host))
    for one in live.told:
        hosts = [exchange.host.lower() for exchange in one.answer.records if exchange.host]
        if one.answer.status is Status.UNAVAILABLE:
            return [f"DNS does not answer for the MX of {name} now (asked: {live.asked}): try again in a minute"]
        if not hosts:
            return [f"{name} has no MX that takes mail: publish `{name}. MX 10 {ours[0]}.` (asked: {live.asked})"]
        if not await _leads_here(lookup, hosts, ours, here):
            return [
                f"the MX records of {name} lead elsewhere ({', '.join(hosts[:5])}): let one name {ours[0]}; "
                f"a host of ours by another name is told with --mx (asked: {live.asked})"
            ]
    return []


async def _leads_here(
    lookup: MailLookup, hosts: Sequence[str], ours: Sequence[str], here: set[IPv4Address | IPv6Address]
) -> bool:
    if set(hosts) & set(ours):
        return True
    return any([not here.isdisjoint(await addresses_of(lookup, host)) for host in hosts[:10]])
