"""Parts made as the settings say: the bounds of the MIME walk, the resolver, the rules of the checks."""

import socket
from ipaddress import ip_network

from ingester.auth.check import Rules
from ingester.auth.dns import Resolver
from ingester.core.mime import Bounds
from ingester.settings import Settings
from ingester.telemetry.metrics import Metrics


def bounds(settings: Settings) -> Bounds:
    """The bounds of the MIME walk that the settings describe."""
    mime = settings.mime
    return Bounds(
        max_line_bytes=mime.max_line_bytes,
        max_header_bytes=mime.max_header_bytes,
        max_header_fields=mime.max_header_fields,
        max_parts=mime.max_parts,
        max_depth=mime.max_depth,
        max_address_tokens=mime.max_address_tokens,
    )


def resolver(settings: Settings, metrics: Metrics | None = None) -> Resolver:
    """The resolver that the settings describe. Raises NoNameserver where none is known."""
    dns = settings.dns
    return Resolver(
        [(one.host, one.port) for one in dns.nameservers],
        try_seconds=dns.try_seconds,
        mail_queries=dns.mail_queries,
        mail_seconds=dns.mail_seconds,
        in_flight=dns.in_flight,
        cache_entries=dns.cache_entries,
        metrics=metrics,
    )


def rules(settings: Settings) -> Rules:
    """The rules of the checks that the settings describe."""
    auth = settings.auth
    return Rules(
        authserv_id=auth.authserv_id or settings.smtp.hostname or socket.gethostname(),
        relays=tuple(ip_network(network) for network in auth.relays),
        block_zones=auth.block_zones,
        allow_zones=auth.allow_zones,
        reverse_dns=auth.reverse_dns,
        max_signatures=auth.max_signatures,
        max_arc_sets=auth.max_arc_sets,
    )
