"""The kinds of values that settings have, and how each is read from text. Faults name no value: it may be a secret."""

import json
import re
from ipaddress import ip_network
from pathlib import PurePosixPath
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

from ingester.core.address import normalise_domain
from ingester.faults import Faults

SECRET_CHARACTERS: Final = 32
"""What a secret needs at least (design page, Settings)."""
MIB: Final = 1 << 20
_UNIX_PATH: Final = 107
"""Bytes of a unix socket's path (unix(7): sun_path, with its final NUL)."""
_ARN: Final = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]{1,40}:[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?")
_SLUG: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}")
_NAME: Final = re.compile(r"[a-z0-9_.-]{1,253}")
_HEADER: Final = re.compile(r"[A-Za-z0-9_-]+=[ -~]*")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")


def split(value: object) -> object:
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
    if value.startswith("file:"):
        return _directory(value)
    parts = urlsplit(value)
    if (
        parts.scheme not in ("s3", "gs", "az")
        or not parts.netloc
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
        or not _is_prefix(parts.path.strip("/"))
    ):
        raise ValueError(
            "must be `postgres`, or like file:///directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
        )
    return value.rstrip("/")


def _directory(url: str) -> str:
    """An absolute directory in its one spelling, taken letter by letter: no name in it is written with a %."""
    path = url.removeprefix("file://").rstrip("/")
    if not url.startswith("file:///") or not _is_prefix(path.removeprefix("/")) or set(path) & set("%?#"):
        raise ValueError("must be like file:///var/lib/ingester/segments, an absolute directory without % ? # and dots")
    if path == "":
        raise ValueError("must be like file:///var/lib/ingester/segments, not the root of all")
    return f"file://{path}"


def _is_prefix(path: str) -> bool:
    """Whether keys may begin so: an object store's client takes no empty step and none of dots."""
    steps = path.split("/") if path else []
    return path.isprintable() and not any(step in ("", ".", "..") for step in steps)


def _door(value: object) -> object:
    """A TCP address, or `unix:` and an absolute path."""
    text = str(value)
    if isinstance(value, UnixListen) or not text.startswith("unix:"):
        return value if isinstance(value, UnixListen) else _host_port(value)
    path = text.removeprefix("unix:")
    if not PurePosixPath(path).is_absolute() or len(path.encode()) > _UNIX_PATH:
        raise ValueError(f"must be unix: and an absolute path of at most {_UNIX_PATH} bytes")
    return UnixListen(path=path)


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query):
        raise ValueError("must be like https://s3.example.org")
    return url.rstrip("/")


def _collector(url: str) -> str:
    parts = urlsplit(url)
    plain = url.isascii() and url.isprintable() and " " not in url and "@" not in url
    if url and not (plain and parts.scheme in ("http", "https") and parts.hostname and not parts.query):
        raise ValueError("must be like http://127.0.0.1:4318")
    return url if parts.path.strip("/") or not url else url.rstrip("/") + "/v1/traces"


def _headers(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text.isascii() or not all(_HEADER.fullmatch(one.strip()) for one in text.split(",") if text):
        raise ValueError("must be like name=value,other-name=value")
    return secret


def _topic(value: object) -> object:
    if isinstance(value, Topic):
        return value
    arn, equals, owner = str(value).partition("=")
    if not _ARN.fullmatch(arn.strip()):
        raise ValueError("must be like arn:aws:sns:eu-west-1:123456789012:name, or that and =tenant:SLUG")
    return Topic(arn=arn.strip(), owner=_owner(owner) if equals else None)


def _source(value: object) -> object:
    if isinstance(value, Source):
        return value
    where, equals, owner = str(value).partition("=")
    bucket, _, prefix = where.strip().partition("/")
    if not equals or not _BUCKET.fullmatch(bucket):
        raise ValueError("must be like bucket/prefix=tenant:SLUG or bucket/prefix=example.com")
    return Source(bucket=bucket, prefix=prefix, owner=_owner(owner))


def _owner(text: str) -> "Owner":
    text = text.strip()
    kind, colon, slug = text.partition(":")
    if colon and kind == "tenant" and _SLUG.fullmatch(slug):
        return Owner(tenant=slug)
    domain = normalise_domain(text)
    if domain is None or not _NAME.fullmatch(domain):
        raise ValueError("belongs to tenant:SLUG or to a domain such as example.com")
    return Owner(domain=domain)


def _fault_points(text: str) -> str:
    try:
        Faults.parse(text)
    except ValueError:
        raise ValueError("must be a comma list of point:action[@n], see ingester/faults.py") from None
    return text


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Listen(Group):
    """An address to listen on, or to ask. Port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnixListen(Group):
    """A unix socket to listen on."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class Owner(Group):
    """Whose mail it may be: that of one tenant (by slug), or of one domain."""

    tenant: str | None = None
    domain: str | None = None


class Topic(Group):
    """An SNS topic that is listened to, and whose outbound messages it may speak of."""

    arn: str
    owner: Owner | None = None


class Source(Group):
    """A place in S3 where SES puts mail, and whose mail may lie there. `prefix` is "" for the whole bucket."""

    bucket: str
    prefix: str
    owner: Owner


Address = Annotated[Listen, BeforeValidator(_host_port)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(split)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(split)]
Zones = Annotated[tuple[Annotated[str, AfterValidator(_zone)], ...], BeforeValidator(split)]
Secret = Annotated[SecretStr, AfterValidator(_long)]
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(split)]
Url = Annotated[SecretStr, AfterValidator(_postgres)]
Doors = Annotated[tuple[Annotated[Listen | UnixListen, BeforeValidator(_door)], ...], BeforeValidator(split)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Collector = Annotated[str, AfterValidator(_collector)]
Headers = Annotated[SecretStr, AfterValidator(_headers)]
Topics = Annotated[tuple[Annotated[Topic, BeforeValidator(_topic)], ...], BeforeValidator(split)]
Sources = Annotated[tuple[Annotated[Source, BeforeValidator(_source)], ...], BeforeValidator(split)]
Checkv2 = Annotated[str, AfterValidator(_checkv2)]
Blobs = Annotated[str, AfterValidator(_blobs)]
FaultPoints = Annotated[str, AfterValidator(_fault_points)]
