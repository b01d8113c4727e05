"""ingester explain: the whole judgement, of a file as of a stored message; and the verdicts in show and raw."""

from collections.abc import Iterator
from email.parser import BytesHeaderParser
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.nameserver import NameServer, in_thread
from tests.signing import key_record, signed

ZONE = {
    "strict.test": [{"TXT": "v=spf1 ip4:192.0.2.1 -all"}],
    "_dmarc.strict.test": [{"TXT": "v=DMARC1; p=reject"}],
    "s._domainkey.strict.test": [{"TXT": key_record()}],
}
MAIL = (
    b"From: Ada <ada@strict.test>\r\nTo: support@acme.test\r\nSubject: A question\r\n"
    b"Message-ID: <1@strict.test>\r\n\r\nHow?\r\n"
)


@pytest.fixture
def town(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    with in_thread(NameServer(zone=ZONE)) as server:
        host, port = server.address
        monkeypatch.setenv("INGESTER_DNS__NAMESERVERS", f"{host}:{port}")
        monkeypatch.setenv("INGESTER_SMTP__HOSTNAME", "mx.acme.test")
        cli.town()
        yield cli


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mail.eml"
    path.write_bytes(signed(MAIL, "strict.test").replace(b"\r\n", b"\n"))
    return path


def test_a_file_is_judged_as_if_it_arrived(town: Cli, file: Path) -> None:
    one = town.json("explain", file, "--from", "ada@strict.test", "--ip", "192.0.2.1", "--helo", "mx.strict.test")
    report = one["report"]
    assert [report[name]["result"] for name in ("spf", "dkim", "dmarc", "arc")] == ["pass", "pass", "pass", "none"]
    assert one["sender_verified"]
    assert one["authentication_results"].startswith("Authentication-Results: mx.acme.test;")
    assert {policy["auth_policy"]: policy["treatment"] for policy in one["policies"]}["enforce"] == "store"
    assert one["answers"] == []


def test_the_tree_tells_why(town: Cli, file: Path) -> None:
    text = town.ok("explain", file, "--ip", "198.51.100.1")
    for words in (
        "SPF: fail",
        "matched -all",
        "DKIM: pass",
        "DMARC: pass",
        "dkim of strict.test is aligned",
        "enforce:",
    ):
        assert words in text
    forged = file.with_name("forged.eml")
    forged.write_bytes(MAIL)
    text = town.ok("explain", forged, "--ip", "198.51.100.1")
    assert "policy reject at strict.test: reject" in text
    assert "enforce: refuse." in text
    assert "The sender is not verified" in text


def test_a_mail_comes_from_standard_input_too(town: Cli) -> None:
    result = town.run("explain", "-", "--json", stdin=MAIL)
    assert result.exit_code == 0
    assert '"spf": {\n' in result.stdout


def test_with_recipients_the_mailbox_is_asked(town: Cli, file: Path) -> None:
    town.ok("mailbox", "set", "support@acme.test", "--auth-policy", "enforce")
    forged = file.with_name("forged.eml")
    forged.write_bytes(MAIL)
    to = ("--ip", "198.51.100.1", "--to", "support@acme.test", "--to", "sales@acme.test", "--to", "nobody@acme.test")
    answers = {one["recipients"][0]: one for one in town.json("explain", forged, *to)["answers"]}
    assert answers["support@acme.test"]["reason"] == "authentication_failed"
    assert "DMARC failed" in answers["support@acme.test"]["why"][0]
    assert answers["sales@acme.test"]["stored"]
    assert any("enforce would have refused it" in line for line in answers["sales@acme.test"]["why"])
    assert answers["nobody@acme.test"]["reason"] == "unknown_mailbox"
    assert town.json("dead", "list") == []


def test_a_stored_message_shows_the_judgement_of_its_arrival(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    message_id = town.accept(signed(MAIL, "strict.test"), mail_from="ada@strict.test").stored[0].message_id
    monkeypatch.setenv("INGESTER_DNS__NAMESERVERS", "127.0.0.1:9")  # nobody is asked again
    one = town.json("explain", message_id)
    assert one["report"]["spf"]["mechanism"] == "ip4:192.0.2.1"
    assert one["report"]["dmarc"]["result"] == "pass"
    assert "for files" in town.usage("explain", message_id, "--ip", "192.0.2.1")
    text = town.ok("show", message_id)
    assert "\ufffd" not in text
    assert "Who sent it" in text
    assert "spf of strict.test is aligned" in text
    assert "Authentication-Results: mx.acme.test;" in text


def test_the_trace_carries_our_verdicts_and_no_forged_ones(town: Cli) -> None:
    forged = b"Authentication-Results: MX.acme.test; dmarc=pass header.from=strict.test\r\n"
    other = b"Authentication-Results: other.test; dmarc=pass header.from=strict.test\r\n"
    outcome = town.accept(forged + other + MAIL)
    message_id = outcome.stored[0].message_id
    data = town.run("raw", message_id, "--trace").stdout_bytes
    fields = BytesHeaderParser().parsebytes(data).get_all("authentication-results") or []
    assert len(fields) == 2
    assert fields[0].startswith("mx.acme.test;")
    assert "dmarc=fail" in fields[0].replace("\n", "")
    assert fields[1].startswith("other.test;")
    assert town.run("raw", message_id).stdout_bytes == forged + other + MAIL
    assert town.json("explain", message_id)["report"]["set_aside"] == 1


def test_explain_fails_with_a_sentence(town: Cli, tmp_path: Path) -> None:
    assert "cannot be read" in town.fails("explain", tmp_path / "none.eml")
    assert "is not an IP address" in town.usage("explain", "-", "--ip", "here")
    assert "No message has the id" in town.fails("explain", "01a1fca2-c9ea-73b2-a686-aab1322b74f3")
