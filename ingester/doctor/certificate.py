"""The certificate for STARTTLS: as a sender sees it. It is tried on a handshake in memory, by OpenSSL itself."""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from ingester.auth.server_certificate import Shown, read_shown
from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import Patient

SOON_DAYS: Final = 14
"""ACME clients renew 30 days before the end: later than this, something has failed."""
STEPS: Final = 20
"""Turns of a handshake in memory; it needs three."""
_SELF_SIGNED: Final = (18, 19)
"""X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN."""
_INCOMPLETE: Final = (20, 21)
"""X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE."""
_TIMES: Final = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED."""

_pen = Pen("certificate")


async def look(patient: Patient) -> Sequence[Finding]:
    """The files of the settings."""
    cert, key = patient.settings.smtp.tls_cert, patient.settings.smtp.tls_key
    if cert is None or key is None:
        return [
            _pen.warning(
                "there is none: mail comes in clear text, and some senders do not send so",
                "Set INGESTER_SMTP__TLS_CERT and INGESTER_SMTP__TLS_KEY.",
            )
        ]
    return await asyncio.to_thread(_examine, cert, key, patient.hostname, patient.now)


def _examine(cert: Path, key: Path, hostname: str, now: datetime) -> list[Finding]:
    try:
        shown = read_shown(cert.read_bytes())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(cert, key, password=lambda: b"")
    except OSError as error:  # ssl.SSLError is one
        return [_unusable(cert, key, error)]
    if shown is None:
        return [_pen.fault(f"{cert} holds no certificate", "Name the chain (fullchain.pem), in PEM.")]
    return [*_judge(shown, hostname, now), *_trust(server, shown, now)]


def _unusable(cert: Path, key: Path, error: OSError) -> Finding:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return _pen.fault(
            f"the key {key} is not that of the certificate {cert}",
            "Copy both anew from where they were made: they were renewed apart.",
        )
    if isinstance(error, ssl.SSLError):
        return _pen.fault(
            f"{cert} and {key} cannot be used ({error.reason or 'no PEM'})",
            "Both must be PEM, and the key without a pass phrase.",
        )
    return _pen.fault(
        f"{error.filename or cert} cannot be read ({error.strerror})",
        "Let the daemon's user read it, or correct the path.",
    )


def _judge(shown: Shown, hostname: str, now: datetime) -> Iterator[Finding]:
    left = (shown.ends - now).total_seconds() / 86_400
    if now < shown.begins:
        yield _pen.fault(f"it holds from {shown.begins:%Y-%m-%d} on, and not yet", "Look at this host's clock.")
    if left < 0:
        yield _pen.fault(f"it has ended {-left:.0f} days ago", _RENEW)
    elif left < SOON_DAYS:
        yield _pen.warning(f"it ends in {left:.0f} days", _RENEW)
    if not shown.is_for(hostname):
        names = ", ".join(shown.names[:5]) or "no name at all"
        yield _pen.fault(
            f"it is for {names}, and the greeting says {hostname}",
            "Get one for the greeting's name, or set INGESTER_SMTP__HOSTNAME to a name that it has.",
        )
    elif shown.begins <= now <= shown.ends:
        yield _pen.ok(f"it is for {hostname} and holds for {left:.0f} days")


def _trust(server: ssl.SSLContext, shown: Shown, now: datetime) -> Iterator[Finding]:
    code = _refused(server)
    if code in _SELF_SIGNED:
        yield _pen.warning(
            "it is signed by itself: senders that check (MTA-STS, some banks) will not send",
            "Get one from a public authority, such as Let's Encrypt.",
        )
    elif code in _INCOMPLETE:
        yield _pen.fault(
            f"its chain of {shown.length} leads to no root that this host trusts: the intermediate is missing",
            "Name the whole chain (fullchain.pem) in INGESTER_SMTP__TLS_CERT.",
        )
    elif code == 0:
        yield _pen.ok("its chain is complete")
    elif code not in _TIMES or shown.begins <= now <= shown.ends:  # else its own dates were told of
        yield _pen.fault(
            f"who checks it refuses the chain (OpenSSL: {code if code > 0 else 'no handshake'}): an intermediate may "
            "be out of date, or a key too weak",
            "Look with `openssl verify -untrusted FULLCHAIN FULLCHAIN`, and renew it.",
        )


def _refused(server: ssl.SSLContext) -> int:
    """Why a client that trusts this host's roots refuses the chain: OpenSSL's number, 0 for not at all."""
    client = ssl.create_default_context()
    client.check_hostname = False  # names are judged apart: one fault must not hide the other
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there)
    theirs = server.wrap_bio(there, back, server_side=True)
    for _ in range(STEPS):
        done = 0
        for side in (ours, theirs):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_code
            except ssl.SSLError:
                return -1
        if done == 2:
            return 0
    return -1


_RENEW = "Renew it, and look why that did not happen by itself (certbot renew, the volume, the rights)."
