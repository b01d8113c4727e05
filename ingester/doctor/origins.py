"""The trap of containers and load balancers: is the address of a client the client's, or a gateway's?

With a gateway's address SPF is a false fail, the limits per client hit everybody at once, and block lists say nothing.
It shows in the receipts: mail from the internet never comes from one private address.
"""

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import Patient
from ingester.settings import Settings
from ingester.store.survey import Origin, origins

SINCE: Final = timedelta(days=1)
MOST: Final = 0.9
"""The share of one address from which it cannot be chance."""
SURE: Final = 10
"""Mails from which it is a fault; a few may be somebody's own tests."""
_DOCKER: Final = ip_network("172.16.0.0/12")

_pen = Pen("client addresses")


async def look(patient: Patient) -> Sequence[Finding]:
    """Judge by the mail of the last day."""
    async with patient.connection() as connection:
        seen = await origins(connection, since=patient.now - SINCE)
    return [judge(seen, patient.settings)]


def judge(seen: Sequence[Origin], settings: Settings) -> Finding:
    """Where the mail has come from says whether the addresses are real."""
    mails = sum(one.mails for one in seen)
    if not mails:
        return _pen.ok("no mail came by SMTP within a day: nothing to judge by")
    private = [(one, ip_address(one.client_ip)) for one in seen if not ip_address(one.client_ip).is_global]
    relays = [ip_network(one) for one in settings.auth.relays]
    gates = [(one, ip) for one, ip in private if not any(ip in network for network in relays)]
    if sum(one.mails for one, _ in gates) < MOST * mails:
        return _pen.ok(f"{mails:,} mails of a day came from {len(seen)} addresses, as they do from the internet")
    ip = gates[0][1]
    proxied = any(ip in ip_network(network) for network in settings.smtp.proxy_networks)
    write = _pen.fault if mails >= SURE else _pen.warning
    what = (
        f"{sum(one.mails for one, _ in gates):,} of {mails:,} mails of a day seem to come from {_name(ip)}"
        f"{'' if len(gates) == 1 else f' and {len(gates) - 1} more private addresses'}: that is no sender, and SPF and "
        "the limits per client judge a gateway"
    )
    return write(what, _cure(ip, proxied=proxied))


def _name(ip: IPv4Address | IPv6Address) -> str:
    if ip.is_loopback:
        return f"{ip}, this host itself"
    if isinstance(ip, IPv4Address) and ip in _DOCKER and ip.packed[3] == 1:
        return f"{ip}, the gateway of a docker network"
    return f"{ip}, a private address"


def _cure(ip: IPv4Address | IPv6Address, *, proxied: bool) -> str:
    if proxied:
        return (
            "The proxy of INGESTER_SMTP__PROXY_NETWORKS sends a header without the client's address (LOCAL, UNKNOWN): "
            "let it send the real one (haproxy: send-proxy-v2, not check-send-proxy alone)."
        )
    return (
        f"If a relay of your own stands there, name it: INGESTER_AUTH__RELAYS={ip}. If it is a balancer, let it send "
        f"the PROXY protocol, and set INGESTER_SMTP__PROXY_NETWORKS={ip}. In docker: network_mode host, or the PROXY "
        "protocol. In Kubernetes: externalTrafficPolicy: Local on the Service."
    )
