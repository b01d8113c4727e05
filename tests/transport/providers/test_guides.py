"""deploy/providers: each example is read from its page as the HTTP door reads it, and the settings are settings."""

import re
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from ingester.cli.intake import intake
from ingester.settings.groups import Lmtp, Providers
from ingester.settings.kinds import UnixListen
from ingester.transport.forms import Form
from ingester.transport.providers import SignatureCheck, may_be_signed, read_form, read_json
from ingester.transport.submission import Assertion, Submission
from tests import postfix
from tests.transport.providers.bodies import read

GUIDES = Path(__file__).parents[3] / "deploy" / "providers"
NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
MAIL = (
    b"From: Ada <ada@customer.example>\r\nTo: support@acme.example\r\nSubject: Hello\r\n"
    b"Message-ID: <1@customer.example>\r\n\r\nIt works.\r\n"
)


def example(name: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a guide's example, with the line ends of the wire."""
    found = re.search(r"```http\n(.*?)```", (GUIDES / f"{name}.md").read_text(), re.DOTALL)
    assert found is not None
    head, _, body = found[1].partition("\n\n")
    request, *lines = head.splitlines()
    assert request.startswith("POST /events/inbound")
    headers = dict(line.split(": ", 1) for line in lines)
    return headers, body.replace("\n", "\r\n").encode()


def form_of(name: str) -> Form:
    headers, body = example(name)
    found = read(headers["Content-Type"], [body])
    assert isinstance(found, Form), found
    return found


def submission(found: object) -> Submission:
    assert isinstance(found, Submission), found
    assert found.raw == MAIL
    assert found.recipients == ("support@acme.example",)
    return found


def signer(name: str, keys: Providers) -> str | None:
    headers, body = example(name)
    assert may_be_signed(keys, headers=headers, content_type=headers["Content-Type"])
    check = SignatureCheck(keys, headers)
    check.update(body)
    return check.signed_by(form_of(name), NOW)


def test_mailgun() -> None:
    found = submission(read_form(form_of("mailgun"), asked=None))
    assert found.asserted == Assertion(mail_from="ada@customer.example")
    assert found.event_id == "9f2c4e6a8b0d1f3e5a7c9b1d3f5e7a9c0b2d4f6e8a1c3e5f70"
    assert signer("mailgun", Providers(mailgun_signing_key=SecretStr("key-of-this-example"))) == "mailgun"
    assert signer("mailgun", Providers(mailgun_signing_key=SecretStr("another"))) is None


def test_sendgrid() -> None:
    """A change of the example's body needs a new key and a new signature on the page."""
    found = submission(read_form(form_of("sendgrid"), asked=None))
    assert found.asserted == Assertion(mail_from="ada@customer.example", client_ip="192.0.2.7")
    key = re.search(r"key that belongs to `([^`]+)`", (GUIDES / "sendgrid.md").read_text())
    assert key is not None
    assert signer("sendgrid", Providers(sendgrid_public_key=key[1])) == "sendgrid"


def test_cloudmailin() -> None:
    found = submission(read_form(form_of("cloudmailin"), asked=None))
    assert found.asserted == Assertion(
        mail_from="ada@customer.example", client_ip="192.0.2.7", helo="mx.customer.example"
    )
    assert b64decode(example("cloudmailin")[0]["Authorization"].removeprefix("Basic ")) == b"cloudmailin:TOKEN"


def test_postmark() -> None:
    headers, body = example("postmark")
    found = submission(read_json(body, asked=None))
    assert found.event_id == "73e6d360-66eb-11e1-8e72-a8904824019b"
    assert found.metadata["x-spam-score"] == "-0.1"
    assert b64decode(headers["Authorization"].removeprefix("Basic ")) == b"postmark:TOKEN"


def test_postfix() -> None:
    """The lines that matter are those with which Postfix is run (tests/e2e/test_lmtp.py); the settings are settings."""
    guide = (GUIDES / "postfix.md").read_text()
    for line in ("relay_domains = ", "relay_transport = lmtp:", "lmtp_send_xforward_command = yes\n"):
        assert line in guide
        assert line in postfix._MAIN
    named = re.findall(r"INGESTER_LMTP__([A-Z_]+)=(\S+)", guide)
    assert {name.lower() for name, _ in named} <= set(Lmtp.model_fields)
    unix = Lmtp.model_validate({name.lower(): value for name, value in named[:2]})
    assert unix.listen == (UnixListen(path="/run/ingester/lmtp"),)
    Lmtp.model_validate({name.lower(): value for name, value in named[2:]})


@pytest.mark.parametrize("name", ["sendgrid", "cloudmailin", "postmark"])
def test_the_command_that_makes_a_token_is_one(name: str) -> None:
    found = re.search(r"ingester intake add (.+)", (GUIDES / f"{name}.md").read_text())
    assert found is not None
    context = intake.commands["add"].make_context("add", found[1].split())
    assert (context.params["name"], context.params["provider"]) == (name, name)


@pytest.mark.parametrize("name", ["mailgun", "sendgrid"])
def test_the_settings_of_keys_are_settings(name: str) -> None:
    named = re.findall(r"INGESTER_PROVIDERS__([A-Z_]+)=", (GUIDES / f"{name}.md").read_text())
    assert named
    assert {one.lower() for one in named} <= set(Providers.model_fields)
