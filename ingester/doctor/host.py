"""The host as the internet sees it: the greeting's name, its addresses, and the names of those."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from ingester.auth.dns import MailLookup
from ingester.auth.dns_name import canonical
from ingester.auth.hosts import addresses_of
from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import Address, Patient

_FAR: Final = ("192.0.2.1", "2001:db8::1")
"""Addresses that nobody has (RFC 5737, RFC 3849): no packet is sent to learn from where one would be."""

_pen = Pen("hostname")


async def look(patient: Patient) -> Sequence[Finding]:
    """The name in the greeting, forth and back."""
    name = patient.hostname
    if canonical(name) is None or "." not in name:
        return [
            _pen.fault(
                f"the greeting says {name}, which is not the full name of a host",
                "Set INGESTER_SMTP__HOSTNAME to the name that the MX records point at.",
            )
        ]
    async with patient.lookup() as lookup:
        found = await addresses_of(lookup, name)
        if not found:
            return [
                _pen.fault(f"{name} has no address in DNS", "Publish one (A, AAAA), or change INGESTER_SMTP__HOSTNAME.")
            ]
        backwards = await asyncio.gather(*(_names(lookup, ip) for ip in found))
    return [*_here(patient, found), *_agree(name, found, backwards)]


def _here(patient: Patient, found: Sequence[Address]) -> Iterator[Finding]:
    public = {ip for ip in own_addresses() if ip.is_global} | set(patient.addresses)
    strange = [ip for ip in found if ip not in public]
    if public and strange and len(strange) == len(found):
        yield _pen.warning(
            f"{patient.hostname} is at {_list(found)}, and this host at {_list(sorted(public, key=str))}",
            "Correct the record; or name the address of a balancer in front with --address.",
        )


def _agree(name: str, found: Sequence[Address], backwards: Sequence[Sequence[str]]) -> Iterator[Finding]:
    fine = True
    for ip, names in zip(found, backwards, strict=True):
        if name not in names:
            fine = False
            said = f"says {', '.join(names[:3])}" if names else "says nothing"
            yield _pen.warning(
                f"{name} is at {ip}, whose reverse DNS {said}: who looks back takes us for a stranger",
                f"Let whoever gave you the address set its name (PTR) to {name}.",
            )
    if fine:
        yield _pen.ok(f"{name} is at {_list(found)}, and back")


async def _names(lookup: MailLookup, ip: Address) -> list[str]:
    return [name.lower().removesuffix(".") for name in (await lookup.ptr(ip)).records]


def _list(addresses: Sequence[Address]) -> str:
    return ", ".join(map(str, addresses))


async def ours(patient: Patient, lookup: MailLookup) -> frozenset[Address]:
    """Every address that is ours: this host's public ones, the greeting's, and those named on the command line."""
    public = {ip for ip in own_addresses() if ip.is_global}
    return frozenset({*public, *await addresses_of(lookup, patient.hostname), *patient.addresses})


def own_addresses() -> set[Address]:
    """This host's addresses, as far as the kernel tells: of interfaces (IPv6), and those it would send from."""
    found: set[Address] = set()
    for family, far in zip((socket.AF_INET, socket.AF_INET6), _FAR, strict=True):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as link:
                link.connect((far, 9))
                found.add(ip_address(link.getsockname()[0]))
        except OSError:
            continue
    return found | _interfaces(Path("/proc/net/if_inet6"))


def _interfaces(file: Path) -> set[Address]:
    """IPv6 addresses in Linux's list, one a line, its hex first."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    return {ip_address(bytes.fromhex(line[:32])) for line in lines if len(line) > 32}
