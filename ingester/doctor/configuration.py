"""The settings: what keeps the daemon from starting, and what lets it start and is unwise."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import Patient

_pen = Pen("settings")
_secrets = Pen("secrets")


async def look(patient: Patient) -> Sequence[Finding]:
    """Every fault at once."""
    if patient.faults:
        return [_pen.fault(fault, "The daemon will not start before this is changed.") for fault in patient.faults]
    return [*_unwise(patient), _pen.ok("the daemon would start with these settings")]


def _unwise(patient: Patient) -> Iterator[Finding]:
    settings = patient.settings
    if settings.env == "development":
        yield _pen.warning(
            "INGESTER_ENV is development: secrets and tokens may be missing", "Set INGESTER_ENV=production."
        )
    believed = {
        "INGESTER_SMTP__PROXY_NETWORKS": settings.smtp.proxy_networks,
        "INGESTER_LMTP__TRUSTED_NETWORKS": settings.lmtp.trusted_networks,
        "INGESTER_AUTH__RELAYS": settings.auth.relays,
    }
    for name, networks in believed.items():
        if any(ip_network(one).prefixlen == 0 for one in networks):
            yield _pen.fault(
                f"{name} is the whole internet: anybody may say to be anybody",
                "Name the addresses of your own proxies or relays alone.",
            )
    if settings.log.addresses:
        yield _pen.warning(
            "mail addresses stand in clear in the logs", "Set INGESTER_LOG__ADDRESSES=false unless this is meant."
        )


async def look_at_secrets(patient: Patient) -> Sequence[Finding]:
    """What can be known of secrets by looking at them; their values are never told."""
    settings = patient.settings
    tokens = [one.get_secret_value() for one in settings.reply_token_secrets]
    inbound = settings.inbound_token.get_secret_value() if settings.inbound_token else None
    findings: list[Finding] = []
    if inbound is not None and inbound in tokens:
        findings.append(
            _secrets.fault(
                "INGESTER_INBOUND_TOKEN is also a secret of reply tokens: whoever may hand in mail may forge replies",
                "Make another: `openssl rand -hex 32`.",
            )
        )
    for number, secret in enumerate([*tokens, *([inbound] if inbound else [])], 1):
        if len(set(secret)) < 10:
            name = "INGESTER_INBOUND_TOKEN" if secret == inbound else f"INGESTER_REPLY_TOKEN_SECRETS (entry {number})"
            findings.append(_secrets.fault(f"{name} can be guessed: it has few different characters", _REPLACE))
    if len(set(tokens)) < len(tokens):
        findings.append(_secrets.warning("a secret of reply tokens stands there twice", "Remove one of them."))
    if tokens:
        findings.append(
            _secrets.ok(f"{len(tokens)} for reply tokens; whether other hosts have the same cannot be seen from here")
        )
    elif settings.env == "development":  # production does not start without
        findings.append(_secrets.warning("there is none for reply tokens: replies find home by ids alone", _REPLACE))
    return findings


_REPLACE = "Make one with `openssl rand -hex 32`, put it first in INGESTER_REPLY_TOKEN_SECRETS on every host."
