"""A certificate authority of the tests: a root, an intermediate, and certificates for hosts."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


class Authority:
    """`root` is what a client trusts; `issue` signs with the intermediate."""

    def __init__(self) -> None:
        self.root = _sign("Root of the tests", None)
        self.intermediate = _sign("Intermediate of the tests", self.root)

    def outlive(self) -> None:
        """From now on the intermediate is one that has ended, and the root and all hosts' are as they were."""
        self.intermediate = _sign("Intermediate of the tests", self.root, days=-1)

    def issue(self, host: str, *, days: float = 60) -> Signed:
        return _sign(host, self.intermediate, host=host, days=days)

    def write(self, directory: Path, host: str, *, days: float = 60, whole: bool = True) -> dict[str, str]:
        """A chain and its key in two files, as settings. Without the `whole` chain the intermediate is left out."""
        leaf = self.issue(host, days=days)
        cert, key = directory / "chain.pem", directory / "key.pem"
        cert.write_bytes(leaf.pem + (self.intermediate.pem if whole else b""))
        key.write_bytes(leaf.key_pem)
        return {"INGESTER_SMTP__TLS_CERT": str(cert), "INGESTER_SMTP__TLS_KEY": str(key)}


def _sign(name: str, by: Signed | None, *, host: str = "", days: float = 3650) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    begin = datetime.now(UTC) - 40 * DAY
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(datetime.now(UTC) + days * DAY)
        .add_extension(x509.BasicConstraints(ca=not host, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((by.key if by else key).public_key()), critical=False
        )
    )
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return Signed(builder.sign(by.key if by else key, hashes.SHA256()), key)
