"""The certificate that a door shows to its clients: for which names, and for how long.

Whether it is trusted, OpenSSL says. It opens no file and no connection.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The first certificate of a chain, and how many there are."""

    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    length: int

    def is_for(self, host: str) -> bool:
        """Whether it names the host; `*` stands for one whole label at the left (RFC 9525, 6.3)."""
        host = host.lower().removesuffix(".")
        _, _, parent = host.partition(".")
        return any(name in (host, f"*.{parent}") for name in self.names)


def read_shown(pem: bytes) -> Shown | None:
    """The certificate in a PEM file; None when it holds none that can be read."""
    try:
        chain = x509.load_pem_x509_certificates(pem)
        first = chain[0]
        ends, begins = first.not_valid_after_utc, first.not_valid_before_utc
        names = _names(first)
    except (ValueError, TypeError, IndexError, x509.InvalidVersion):
        return None
    return Shown(names=names, begins=begins, ends=ends, length=len(chain))


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names it is for: what stands in its common name does not count any more (RFC 9525, 2)."""
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in held.value.get_values_for_type(x509.DNSName))
