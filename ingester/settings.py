"""Settings: one frozen value, read once. The only module that reads the environment.

Order: the command line, the environment (`INGESTER_*`, nested with `__`), the TOML file (`INGESTER_CONFIG`), the
defaults. All faults are reported at once, each naming the setting to change and never the value, which may be a secret.
"""

import difflib
import json
import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ingester.core.address import normalise_domain
from ingester.faults import Faults

PREFIX = "INGESTER_"
TEST_PREFIX = "INGESTER_TEST_"
CONFIG = "INGESTER_CONFIG"
LEGACY_TOKEN_SECRET = "OPENSEND_REPLY_TOKEN_SECRET"  # noqa: S105  (the name of a variable)
SECRET_CHARACTERS = 32
"""What a secret needs at least (design page, Settings)."""
MIB = 1 << 20


class SettingsError(Exception):
    """The settings are not usable; the text lists every fault, one a line."""


def _split(value: object) -> object:
    """A list is comma-separated or JSON; in a TOML file it is one already. `[::]:25` begins like JSON but is none."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError("is neither a comma-separated nor a JSON list") from None
    return [piece.strip() for piece in text.split(",") if piece.strip()]


def _host_port(value: object) -> object:
    if isinstance(value, Listen):
        return value
    host, colon, port = str(value).rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port[:6]) > 65535:
        raise ValueError("must be host:port, with a port of at most 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise ValueError("must be host:port, with an IPv6 address in brackets")
    name = host[1:-1] if bracketed else host
    if not name:
        raise ValueError("must be host:port; all addresses are 0.0.0.0:port or [::]:port")
    return Listen(host=name, port=int(port))


def _network(value: str) -> str:
    try:
        return str(ip_network(value, strict=False))
    except ValueError:
        raise ValueError("must be an IP address or a network such as 192.0.2.0/24") from None


def _zone(value: str) -> str:
    name = normalise_domain(value)
    if name is None or name.startswith("["):
        raise ValueError("must be a domain name such as zen.example.org")
    return name


def _long(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < SECRET_CHARACTERS:
        raise ValueError(f"needs at least {SECRET_CHARACTERS} characters")
    return secret


def _checkv2(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    plain = url.isascii() and url.isprintable() and " " not in url and "@" not in url
    if url and not (usable and plain and url.endswith("/checkv2")):
        raise ValueError("must be like http://127.0.0.1:11333/checkv2")
    return url


def _postgres(url: SecretStr) -> SecretStr:
    if url.get_secret_value() and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must be like postgresql://user:password@host:5432/database")
    return url


def _blobs(value: str) -> str:
    if value == "postgres":
        return value
    if value.startswith(("file:///", "s3://", "gs://", "az://")):
        raise ValueError("only `postgres` can be used yet")
    raise ValueError("must be `postgres`, or a file:///, s3://, gs:// or az:// URL")


def _fault_points(text: str) -> str:
    try:
        Faults.parse(text)
    except ValueError:
        raise ValueError("must be a comma list of point:action[@n], see ingester/faults.py") from None
    return text


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Listen(_Group):
    """An address to listen on, or to ask. Port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = Annotated[Listen, BeforeValidator(_host_port)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_split)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_split)]
Zones = Annotated[tuple[Annotated[str, AfterValidator(_zone)], ...], BeforeValidator(_split)]
Secret = Annotated[SecretStr, AfterValidator(_long)]
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(_split)]
Url = Annotated[SecretStr, AfterValidator(_postgres)]


class Smtp(_Group):
    """The SMTP door."""

    listen: Addresses = Field(
        (Listen(host="::", port=25),),
        description="where SMTP listens; `[::]` takes IPv4 too, port 0 lets the kernel choose",
    )
    hostname: str = Field("", description="the name in the greeting, this host's own by default")
    tls_cert: Path | None = Field(
        None, description="certificate chain (PEM) for STARTTLS; a changed file is loaded without a restart"
    )
    tls_key: Path | None = Field(None, description="its key (PEM)")
    proxy_networks: Networks = Field(
        (), description="networks whose connections begin with a PROXY header (v1 or v2); nobody else may send one"
    )
    bare_lf: Literal["normalise", "refuse"] = Field(
        "normalise",
        description="a lone LF in a mail becomes CRLF before anything is stored, or the mail is refused (`refuse`)",
    )
    max_recipients: int = Field(1000, ge=100, description="recipients of one mail; the others are told to come again")
    max_connections: int = Field(1000, ge=1, description="connections of one worker")
    max_connections_per_prefix: int = Field(
        50, ge=1, description="connections of one IPv4 address or IPv6 /64, per worker"
    )
    unknown_recipients_per_hour: int = Field(
        200, ge=1, description="unknown recipients of one prefix before its others are deferred without a look"
    )
    idle_seconds: float = Field(300, gt=0, description="how long a client may be silent")
    idle_seconds_overloaded: float = Field(10, gt=0, description="the same while nearly all connections are taken")
    session_seconds: float = Field(
        1800, gt=0, description="how long a session may last; a mail that comes fast enough is not cut"
    )
    min_bytes_per_second: int = Field(500, ge=0, description="slower mails are cut")
    max_command_errors: int = Field(20, ge=1, description="mistakes of a client before it is sent away")

    @model_validator(mode="after")
    def _pair(self) -> "Smtp":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("INGESTER_SMTP__TLS_CERT and INGESTER_SMTP__TLS_KEY go together: set both or neither")
        return self


class Http(_Group):
    """The HTTP door."""

    listen: Addresses = Field((), description="where HTTP listens")
    max_connections: int = Field(1000, ge=1, description="connections of one worker")
    idle_seconds: float = Field(60, gt=0, description="how long a client may be silent between two requests")
    body_seconds: float = Field(30, gt=0, description="how long the body of a request may take")


class Metrics(_Group):
    """Where Prometheus scrapes."""

    listen: Addresses = Field((), description="where Prometheus scrapes")


class Dns(_Group):
    """DNS, for the checks of senders."""

    nameservers: Addresses = Field(
        (), description="name servers (IP addresses) for the checks of senders; none means the system's"
    )
    try_seconds: float = Field(2, gt=0, le=30, description="how long one question to one name server may take")
    mail_queries: int = Field(75, ge=10, le=1000, description="questions for one mail, known answers included")
    mail_seconds: float = Field(15, gt=0, le=40, description="how long one mail may wait for DNS in all")
    in_flight: int = Field(50, ge=1, le=1000, description="questions on their way at the same time, per worker")
    cache_entries: int = Field(20_000, ge=0, le=1_000_000, description="answers kept while they hold, per worker")


class Auth(_Group):
    """The checks of who sent a mail. Everything is judged; what a mailbox does about it is its `auth_policy`."""

    authserv_id: str = Field(
        "", description="our name in Authentication-Results (RFC 8601), the greeting's name by default"
    )
    relays: Networks = Field(
        (),
        description="own hosts or gateways that hand on mail of others: what they bring has no known client address, "
        "so SPF is unknown instead of a false fail",
    )
    reverse_dns: bool = Field(True, description="the client's names in DNS are noted; they decide nothing")
    block_zones: Zones = Field((), description="DNS block lists that are asked and noted; they decide nothing")
    allow_zones: Zones = Field((), description="DNS allow lists that are asked and noted; they decide nothing")
    max_signatures: int = Field(5, ge=1, le=50, description="DKIM signatures of a mail that are judged")
    max_arc_sets: int = Field(10, ge=1, le=50, description="ARC sets of a mail that are judged; more are unknown")


class Spam(_Group):
    """The spam gate: an rspamd that is asked about mail from strangers."""

    url: Annotated[str, AfterValidator(_checkv2)] = Field(
        "", description="rspamd's `/checkv2`, which is asked about mail that belongs to no conversation; empty is off"
    )
    seconds: float = Field(10, gt=0, le=30, description="how long its answer may take; without one the mail is flagged")
    max_bytes: int = Field(
        10 * MIB, ge=1024, description="of a larger mail it sees so many bytes, and the worst that follows is a flag"
    )
    in_flight: int = Field(20, ge=1, le=1000, description="mails that it is asked about at the same time, per worker")


class Mime(_Group):
    """Bounds of the MIME walk; beyond one, the rest stays opaque and flagged."""

    max_line_bytes: int = Field(64 << 10, ge=1000, description="a mail with a longer line is flagged")
    max_header_bytes: int = Field(256 << 10, ge=1024, description="bytes of a header block that are read as one")
    max_header_fields: int = Field(1000, ge=10, description="fields of a header block that are read")
    max_parts: int = Field(1000, ge=1, description="parts of a mail; the rest is one opaque part")
    max_depth: int = Field(50, ge=1, description="how deep multiparts may be nested; what is deeper is one opaque part")
    max_address_tokens: int = Field(10_000, ge=10, description="pieces of an address field that are read")
    max_received: int = Field(100, ge=1, description="Received fields; a mail with more is in a loop")


class Store(_Group):
    """How the store is used."""

    connections: int = Field(8, ge=2, le=100, description="connections to Postgres, per worker")
    statement_cache: int = Field(
        100, ge=0, description="prepared statements kept per connection; 0 behind pgbouncer in transaction mode"
    )
    commit_seconds: float = Field(60, gt=0, description="how long after the final dot a mail may wait for its commit")
    batch: int = Field(16, ge=1, le=256, description="mails that may share a commit")
    claim_days: int = Field(14, ge=1, description="how long a second arrival of a mail is known as a duplicate")
    refusal_days: int = Field(30, ge=1, description="how long refusals are kept")
    dead_letters_per_hour: int = Field(
        1000, ge=1, description="dead letters a tenant may get before further ones are deferred"
    )
    dead_letters_per_prefix_hour: int = Field(200, ge=1, description="the same from one client prefix")


class Log(_Group):
    """Logging. `addresses` puts mail addresses in clear into the logs; off, they are keyed hashes.

    `format` auto is JSON in production and pleasant lines in development.
    """

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least level that is logged")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is JSON in production and lines for people in development"
    )
    addresses: bool = Field(False, description="mail addresses in clear; else they are keyed hashes")


class Test(_Group):
    """Only for tests, refused in production. `faults`: see `ingester.faults`."""

    __test__ = False
    faults: Annotated[str, AfterValidator(_fault_points)] = Field(
        "", description="fault points for tests, see `ingester/faults.py`"
    )


class Settings(BaseSettings):
    """Everything that can be set, validated. Made by `load`; made directly it knows arguments and defaults alone."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
    )

    env: Literal["development", "production"] = Field("production", description="`development` or `production`")
    database_url: Url = Field(SecretStr(""), description="the Postgres, 15 to 18")
    workers: int = Field(1, ge=1, le=64, description="processes that receive, behind one port")
    max_message_bytes: int = Field(25 * MIB, ge=1024, description="size of a mail")
    max_bytes_in_flight: int = Field(
        256 * MIB,
        ge=MIB,
        description="bytes of mails being received or stored, per worker; beyond it new mails are deferred",
    )
    drain_seconds: float = Field(30, gt=0, description="how long a stopping daemon waits for mails in transfer")
    dev_dir: Path = Field(Path(".ingester"), description="where `ingester dev` keeps its database")
    blobs: Annotated[str, AfterValidator(_blobs)] = Field(
        "postgres", description="where the raw bytes live: `postgres`"
    )
    inbound_token: Secret | None = Field(
        None, description="what providers show to hand in mail by HTTP, at least 32 characters"
    )
    reply_token_secrets: Secrets = Field(
        (), description="secrets of reply tokens, at least 32 characters each; the first signs, all verify"
    )
    smtp: Smtp = Smtp()
    http: Http = Http()
    metrics: Metrics = Metrics()
    dns: Dns = Dns()
    auth: Auth = Auth()
    spam: Spam = Spam()
    mime: Mime = Mime()
    store: Store = Store()
    log: Log = Log()
    test: Test = Test()

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """None but the arguments: `load` reads the others, so that it can report their faults together."""
        return (sources["init_settings"],)

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        faults: list[str] = []
        if self.env == "production" and self.http.listen and self.inbound_token is None:
            faults.append("INGESTER_HTTP__LISTEN needs INGESTER_INBOUND_TOKEN in production: set it")
        if self.max_bytes_in_flight < self.max_message_bytes:
            faults.append("INGESTER_MAX_BYTES_IN_FLIGHT must hold at least one mail of INGESTER_MAX_MESSAGE_BYTES")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def token_secrets(self) -> tuple[bytes, ...]:
        """The secrets of reply tokens as keys: the first signs, all verify."""
        return tuple(one.get_secret_value().encode() for one in self.reply_token_secrets)

    @property
    def not_used_yet(self) -> tuple[str, ...]:
        """The names of settings that are set although nothing reads them yet."""
        given = {
            "INBOUND_TOKEN": self.inbound_token,
            "METRICS__LISTEN": self.metrics.listen,
        }
        return tuple(PREFIX + name for name, value in given.items() if value)


class _Environment(EnvSettingsSource):
    """The environment as an argument instead of the process's own."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items()}


def load(environ: Mapping[str, str] | None = None, *, file: Path | None = None, **override: Any) -> Settings:
    """Read the settings. `override` (from the command line) wins over the environment, dotted names with `__`.

    An empty variable counts as unset. Raises SettingsError with every fault.
    """
    env = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
    faults: list[str] = []
    values = _file(file or (Path(env[CONFIG]) if CONFIG in env else None), faults)
    ours = {_canonical(name): value for name, value in env.items() if name.startswith(PREFIX)}
    known = set(_names(Settings, PREFIX))
    unknown = ours.keys() - known - {CONFIG, "INGESTER_CORPORA"}
    faults += [_unknown(name, known) for name in sorted(unknown) if not name.startswith(TEST_PREFIX)]
    _merge(values, _Environment({name: ours[name] for name in ours.keys() & known})())
    if LEGACY_TOKEN_SECRET in env:
        values.setdefault("reply_token_secrets", [env[LEGACY_TOKEN_SECRET]])
    for name, value in override.items():
        if value is not None:
            _merge(values, _nest(name.split("__"), value))
    if values.get("env", "production") == "production":
        armed = {TEST_PREFIX + name.upper() for name in values.get("test", {})}
        armed |= {name for name in env if name.startswith(TEST_PREFIX)}
        faults += [f"{name} is refused in production: INGESTER_ENV=development allows it" for name in sorted(armed)]
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError("\n".join([*faults, *_sentences(error)])) from None
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _file(path: Path | None, faults: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb"):  # the source takes a file that is not there for an empty one
            return dict(TomlConfigSettingsSource(Settings, path)())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        faults.append(f"{path} cannot be read as a TOML file: {reason}")
        return {}


def _canonical(name: str) -> str:
    """`INGESTER_TEST_FAULTS` is `test.faults`, as if it had two underscores."""
    return name if not name.startswith(TEST_PREFIX) else f"{PREFIX}TEST__{name.removeprefix(TEST_PREFIX).lstrip('_')}"


def _names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Every name that the environment may set."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, _Group):
            yield from _names(kind, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper()


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"{name} is not a setting: " + (f"did you mean {near[0]}?" if near else "remove it")


def _nest(path: list[str], value: object) -> dict[str, Any]:
    return {path[0]: _nest(path[1:], value) if path[1:] else value}


def _merge(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        if isinstance(value, Mapping) and isinstance(under.get(name), dict):
            _merge(under[name], value)
        else:
            under[name] = value


def _sentences(error: ValidationError) -> Iterator[str]:
    """One sentence a fault. The value given is never printed: it may be a secret."""
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        message = fault["msg"].removeprefix("Value error, ")
        if message.startswith(PREFIX):
            yield from message.split("\n")
            continue
        steps = [step.upper() for step in fault["loc"] if isinstance(step, str)]
        entry = next((f" (entry {step + 1})" for step in fault["loc"] if isinstance(step, int)), "")
        name = PREFIX + "__".join(steps).replace("TEST__", "TEST_", 1)
        if fault["type"] == "extra_forbidden":
            yield f"{name} is not a setting: remove it from the file"
        else:
            yield f"{name}{entry}: {message}"
