"""What a door's certificate says: names and dates. Rubbish is None."""

from datetime import UTC, datetime, timedelta

import pytest

from ingester.auth.server_certificate import read_shown
from tests.doctor.authorities import Authority


def test_names_dates_and_the_length_of_the_chain() -> None:
    authority = Authority()
    shown = read_shown(authority.issue("*.Acme.test", days=5).pem + authority.intermediate.pem)
    assert shown is not None
    assert shown.length == 2
    assert shown.names == ("*.acme.test",)
    assert abs(shown.ends - datetime.now(UTC) - timedelta(days=5)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("host", "fits"),
    [("mx.acme.test", True), ("MX.acme.test.", True), ("a.mx.acme.test", False), ("acme.test", False), ("", False)],
)
def test_a_star_is_one_label(host: str, fits: bool) -> None:
    shown = read_shown(Authority().issue("*.acme.test").pem)
    assert shown is not None
    assert shown.is_for(host) == fits


def test_a_common_name_is_no_name() -> None:
    shown = read_shown(Authority().root.pem)
    assert shown is not None
    assert shown.names == ()


@pytest.mark.parametrize(
    "pem", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_rubbish(pem: bytes) -> None:
    assert read_shown(pem) is None
