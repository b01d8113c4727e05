"""The certificate and its reloading."""

import ssl
from pathlib import Path

import pytest

from ingester.auth.server_certificate import read_shown
from ingester.transport.tls import Certificate, CertificateError
from tests.transport.certificates import write_certificate
from tests.transport.stubs import Clock


def test_a_changed_file_gives_a_new_context(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "one.test")
    clock = Clock()
    certificate = Certificate(cert=cert, key=key, clock=clock)
    first = certificate.context()
    clock.now += 2
    assert certificate.context() is first
    write_certificate(tmp_path, "two.test")
    assert certificate.context() is first  # looked at less than a second ago
    clock.now += 2
    second = certificate.context()
    assert second is not first
    assert second.minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_end_of_the_certificate_in_use_is_told(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "one.test")
    clock = Clock()
    certificate = Certificate(cert=cert, key=key, clock=clock)
    first = certificate.ends
    shown = read_shown(cert.read_bytes())
    assert shown is not None
    assert first == shown.ends.timestamp()
    cert.write_bytes(b"no certificate")
    clock.now += 2
    assert certificate.ends == first, "the old one is still in use"
    write_certificate(tmp_path, "two.test")
    clock.now += 2
    assert certificate.ends is not None
    assert certificate.ends >= first


def test_a_broken_file_keeps_the_old_context_until_it_is_mended(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "one.test")
    clock = Clock()
    certificate = Certificate(cert=cert, key=key, clock=clock)
    first = certificate.context()
    for damage in (lambda: cert.write_bytes(b"no certificate"), cert.unlink):
        damage()
        clock.now += 2
        assert certificate.context() is first
    write_certificate(tmp_path, "two.test")
    clock.now += 2
    assert certificate.context() is not first


def test_a_certificate_without_its_key_keeps_the_old_context(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path, "one.test")
    clock = Clock()
    certificate = Certificate(cert=cert, key=key, clock=clock)
    first = certificate.context()
    old_key = key.read_bytes()
    write_certificate(tmp_path, "two.test")
    new_key = key.read_bytes()
    key.write_bytes(old_key)
    clock.now += 2
    assert certificate.context() is first
    key.write_bytes(new_key)
    clock.now += 2
    assert certificate.context() is not first


def test_what_cannot_be_loaded_at_the_start_is_an_error_that_names_the_files(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"cert\.pem"):
        Certificate(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem", clock=Clock())
