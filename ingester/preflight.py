"""What keeps a daemon from starting although every setting is well-formed: absent files, taken ports, missing rights.

All of it at once, one sentence each, which names the setting to change. It asks no network and no database: what is
away now may be back in a minute, and is no reason not to start. The ports are bound for a moment, and let go again.
"""

import errno
import grp
import os
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from pathlib import Path

from ingester.auth.dns_servers import NoNameserver
from ingester.configured import resolver
from ingester.settings import Listen, Settings, UnixListen
from ingester.store.hosts import FILES
from ingester.store.objects import MissingExtra, ObjectsUnavailable, open_objects, require_extra
from ingester.telemetry import tracing
from ingester.transport.sockets import bind
from ingester.transport.tls import Certificate, CertificateError

DOORS = ("smtp", "http", "lmtp", "metrics")
_EVERYWHERE = {"::", "0.0.0.0"}  # noqa: S104  (compared, not bound)


def faults(settings: Settings, *, held: Collection[str] = ()) -> list[str]:
    """A sentence for each fault. `held` names doors (smtp, http, lmtp, metrics) whose sockets are there already."""
    return [
        *_database(settings),
        *_secrets(settings),
        *certificate(settings),
        *nameservers(settings),
        *objects(settings),
        *segments(settings),
        *traces(settings),
        *listeners(settings, held),
    ]


def _database(settings: Settings) -> Iterator[str]:
    if not settings.database_url.get_secret_value():
        yield "INGESTER_DATABASE_URL is not set: give the URL of a Postgres 15 to 18, or try `ingester dev`"


def _secrets(settings: Settings) -> Iterator[str]:
    if settings.env == "production" and not settings.reply_token_secrets:
        yield "INGESTER_REPLY_TOKEN_SECRETS is not set: production needs a secret of at least 32 characters"


def certificate(settings: Settings) -> Iterator[str]:
    """A certificate that cannot be used: later, each worker would only die of it."""
    cert, key = settings.smtp.tls_cert, settings.smtp.tls_key
    if cert is None or key is None:
        return
    try:
        Certificate(cert=cert, key=key, clock=time.monotonic)
    except CertificateError as error:
        yield f"INGESTER_SMTP__TLS_CERT and INGESTER_SMTP__TLS_KEY: {error}"


def nameservers(settings: Settings) -> Iterator[str]:
    """Nobody to ask: every mail would be a temperror."""
    try:
        resolver(settings)
    except NoNameserver as error:
        yield str(error)


def objects(settings: Settings) -> Iterator[str]:
    """Objects that can never be had."""
    stored = not settings.blobs.startswith(("postgres", FILES))
    try:
        if settings.ses.buckets or stored:
            require_extra()
    except MissingExtra as error:
        yield f"INGESTER_BLOBS and INGESTER_SES__BUCKETS: {error}"
        return
    try:
        if stored:
            open_objects(settings.blobs, settings.s3)
    except ObjectsUnavailable as error:
        yield f"INGESTER_BLOBS cannot be used: it lacks an account or a key ({error})"


def segments(settings: Settings) -> Iterator[str]:
    """A directory that cannot be written to. The daemon makes it, but not what is above it: that may be a disk."""
    if not settings.blobs.startswith(FILES):
        return
    directory = Path(settings.blobs.removeprefix(FILES))
    parent = directory.parent
    if directory.exists() and not directory.is_dir():
        yield f"INGESTER_BLOBS: {directory} is no directory: remove it, or name another"
    elif not directory.exists() and not parent.is_dir():
        yield f"INGESTER_BLOBS: {parent} is no directory: make it, or mount its disk"
    elif not os.access(directory if directory.exists() else parent, os.R_OK | os.W_OK | os.X_OK):
        where = directory if directory.exists() else parent
        yield (
            f"INGESTER_BLOBS: this user may not write to {where}: change its owner or mode, and let systemd allow it "
            "(StateDirectory= or ReadWritePaths=)"
        )


def traces(settings: Settings) -> Iterator[str]:
    """Spans that nobody can make."""
    try:
        if settings.traces.endpoint:
            tracing.require_extra()
    except tracing.MissingExtra as error:
        yield f"INGESTER_TRACES__ENDPOINT: {error}"


def listeners(settings: Settings, held: Collection[str] = ()) -> Iterator[str]:
    """Addresses that two doors want, or that cannot be had."""
    places = [(name, where) for name, where in doors(settings) if name not in held]
    yield from clashes(places)
    for name, where in places:
        wanted_twice = sum(_meet(where, there) for _, there in places) > 1  # itself is one
        problem = None if wanted_twice else place(settings, where)
        if problem:
            yield f"{setting(name)}: {problem}"


def clashes(places: Sequence[tuple[str, Listen | UnixListen]]) -> Iterator[str]:
    """Addresses that two of these doors want."""
    for (name, where), (other, there) in combinations(places, 2):
        if _meet(where, there):
            want = f"{setting(name)} wants" if name == other else f"{setting(name)} and {setting(other)} want"
            yield f"{want} the same address twice ({where} and {there}): give each a port of its own"


def doors(settings: Settings) -> list[tuple[str, Listen | UnixListen]]:
    """Every door's name and where it listens."""
    return [
        *(("smtp", one) for one in settings.smtp.listen),
        *(("lmtp", one) for one in settings.lmtp.listen),
        *(("http", one) for one in settings.http.listen),
        *(("metrics", one) for one in settings.metrics.listen),
    ]


def setting(door: str) -> str:
    """The setting that says where a door listens."""
    return f"INGESTER_{door.upper()}__LISTEN"


def _meet(one: Listen | UnixListen, other: Listen | UnixListen) -> bool:
    """Whether the kernel would give both one port. `[::]` beside `0.0.0.0` takes IPv6 alone, and is fine."""
    if not (isinstance(one, Listen) and isinstance(other, Listen)):
        return one == other
    hosts = {one.host, other.host}
    if one.port != other.port or one.port == 0 or hosts == _EVERYWHERE:
        return False
    return len(hosts) == 1 or "::" in hosts or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))  # noqa: S104


def place(settings: Settings, where: Listen | UnixListen) -> str | None:
    """Why a door cannot listen there, or None."""
    return _unix(settings, where) if isinstance(where, UnixListen) else port(where)


def port(where: Listen) -> str | None:
    """Why this address cannot be listened on, or None."""
    try:
        for sock in bind([where], reuse_port=False):
            sock.close()
    except OSError as error:
        if error.errno == errno.EACCES:
            return (
                f"port {where.port} is below 1024 and needs a right that this user lacks: give CAP_NET_BIND_SERVICE "
                "(systemd: AmbientCapabilities=), or pass the socket (systemd/ingester.socket), or take another port"
            )
        if error.errno == errno.EADDRINUSE:
            return f"another program listens on {where}: stop it (`ss -ltnp` names it), or take another port"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"{where.host} is no address of this host: take one that `ip address` shows, or [::] for all"
        return f"it is not possible to listen on {where}: {error.strerror or type(error).__name__}"
    return None


def _unix(settings: Settings, where: UnixListen) -> str | None:
    directory = Path(where.path).parent
    if not directory.is_dir():
        return f"{directory} is no directory: make it, or give the socket another place"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"this user may not make a socket in {directory}: change its owner or mode"
    group = settings.lmtp.socket_group
    try:
        if group:
            grp.getgrnam(group)
    except KeyError:
        return f"INGESTER_LMTP__SOCKET_GROUP names no group of this host ({group})"
    return None
