"""The name servers: does each answer, how fast, does it validate DNSSEC, does it invent answers?"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

from ingester.auth.dns_servers import SYSTEM_FILE, Nameservers, NoNameserver
from ingester.auth.validation import Seen, look_at
from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import Patient

SLOW: Final = 0.25
"""Seconds for a question that it can answer by itself."""

_pen = Pen("resolver")


async def look(patient: Patient) -> Sequence[Finding]:
    """Ask every server that the daemon would ask."""
    dns = patient.settings.dns
    try:
        servers = Nameservers([(one.host, one.port) for one in dns.nameservers], SYSTEM_FILE, time.monotonic).current()
    except NoNameserver as error:
        return [_pen.fault(str(error), "Set INGESTER_DNS__NAMESERVERS to a resolver on this host or next to it.")]
    seen = await asyncio.gather(
        *(look_at(one, seconds=dns.try_seconds, random_label=patient.random_label) for one in servers)
    )
    return [finding for one in seen for finding in judge(one, alone=len(seen) == 1)]


def judge(seen: Seen, *, alone: bool) -> Iterator[Finding]:
    """What one server is worth; `alone` where there is no other."""
    if seen.seconds is None:
        write = _pen.fault if alone else _pen.warning
        consequence = "every sender is a temperror" if alone else "every question to it waits in vain"
        yield write(
            f"{seen.host} does not answer: {consequence}",
            "Start it, let UDP and TCP port 53 through, or take it out of INGESTER_DNS__NAMESERVERS.",
        )
        return
    if seen.invents:
        yield _pen.fault(
            f"{seen.host} has an address for a name that does not exist: unknown senders look real",
            "Take a resolver that tells the truth, best an unbound on this host, in INGESTER_DNS__NAMESERVERS.",
        )
    if seen.validates is False:
        yield _pen.warning(
            f"{seen.host} does not validate DNSSEC: forged keys and policies would be believed",
            "Take a validating resolver, best an unbound on this host, in INGESTER_DNS__NAMESERVERS.",
        )
    if seen.validates is None:
        yield _pen.warning(
            f"{seen.host} answers, but not of the public DNS: whether it validates cannot be seen",
            "Look whether it reaches the root servers or its forwarder.",
        )
    if seen.seconds > SLOW:
        yield _pen.warning(
            f"{seen.host} needs {seen.seconds * 1000:.0f} ms for what it knows by itself",
            "Take a resolver on this host or next to it.",
        )
    if seen.validates and not seen.invents and seen.seconds <= SLOW:
        yield _pen.ok(f"{seen.host} answers in {seen.seconds * 1000:.0f} ms and validates")
