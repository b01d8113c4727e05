"""Certificates for the door, signed by themselves."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key in two files."""

    cert: Path
    key: Path
    serial: int

    @property
    def settings(self) -> dict[str, str]:
        return {"INGESTER_SMTP__TLS_CERT": str(self.cert), "INGESTER_SMTP__TLS_KEY": str(self.key)}


def write_pair(directory: Path) -> Pair:
    """Make a new pair and put it in the place of the one that is there, as certbot does: by renaming."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.acme.test")])
    begin = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair = Pair(cert=directory / "cert.pem", key=directory / "key.pem", serial=certificate.serial_number)
    for path, data in ((pair.key, private), (pair.cert, certificate.public_bytes(serialization.Encoding.PEM))):
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(path)
    return pair


def serial_of(der: bytes) -> int:
    """The serial number of a certificate as the peer sent it."""
    return x509.load_der_x509_certificate(der).serial_number
