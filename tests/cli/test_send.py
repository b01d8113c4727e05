"""ingester send: against the real daemon, and against servers that answer as a script says."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ingester.cli.client import with_crlf, with_message_id
from tests import signing
from tests.cli.conftest import Cli
from tests.daemon import serving
from tests.nameserver import NameServer, in_thread

MAIL = b"From: Ada <ada@customer.test>\r\nSubject: x\r\nMessage-ID: <x@customer.test>\r\n\r\n.dot\r\n..\r\nend\r\n"


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


def test_a_mail_can_be_signed_as_its_domain_would(town: Cli, tmp_path: Path) -> None:
    key, other = tmp_path / "key.pem", tmp_path / "no.pem"
    key.write_bytes(signing.key_pem())
    other.write_bytes(b"no key")
    zone = {"s._domainkey.customer.test": [{"TXT": signing.key_record()}]}
    with in_thread(NameServer(zone=zone)) as server:
        names = {"INGESTER_DNS__NAMESERVERS": "{}:{}".format(*server.address)}
        with serving(town.url, settings=names) as daemon:
            to = ("--to", "support@acme.test", "--server", f"127.0.0.1:{daemon.port}")
            reply = town.ok("send", "-", *to, "--dkim", "customer.test", "s", key, stdin=MAIL)
            assert "cannot be signed" in town.fails("send", "-", *to, "--dkim", "customer.test", "s", other, stdin=MAIL)
            assert "cannot be read" in town.fails("send", "-", *to, "--dkim", "x.test", "s", tmp_path / "x", stdin=MAIL)
    (signature,) = town.json("explain", UUID(reply.split()[-1]))["report"]["dkim"]["signatures"]
    assert (signature["domain"], signature["result"]) == ("customer.test", "pass")


# -- the real daemon ---------------------------------------------------------------------------------------------------


def test_what_is_sent_is_what_is_stored(town: Cli, tmp_path: Path) -> None:
    (tmp_path / "mail.eml").write_bytes(MAIL)
    with serving(town.url) as daemon:
        door = f"127.0.0.1:{daemon.port}"
        reply = town.ok("send", tmp_path / "mail.eml", "--to", "support@acme.test", "--server", door)
        assert reply.startswith("250 2.0.0 stored as ")
        shown = town.json("show", UUID(reply.split()[-1]))
        assert shown["message"]["envelope_from"] == "ada@customer.test"
        assert town.run("raw", shown["message"]["id"]).stdout_bytes == MAIL
        unix = MAIL.replace(b"\r\n", b"\n").replace(b"<x@", b"<y@")
        town.ok("send", "-", "--to", "sales@acme.test", "--from", "", "--server", f"[::1]:{daemon.port}", stdin=unix)
        many = town.json(
            "send", "-", "--to", "support@globex.test", "--server", door, "--count", "25", "--fresh", stdin=unix
        )
        assert (many["accepted"], many["sent"], len(many["answers"])) == (25, 25, 25)
        assert len({answer["reply"] for answer in many["answers"]}) == 25
        assert "2 of 2 accepted in " in town.ok(
            "send", "-", "--to", "support@globex.test", "--server", door, "--count", "2", stdin=unix
        )
        partly = town.run(
            "send", "-", "--to", "nobody@acme.test", "--to", "sales@acme.test", "--server", door, stdin=unix
        )
        assert partly.stdout.startswith("250 2.0.0 stored as ")
        assert partly.exit_code == 1
        assert partly.stderr.startswith("Error: Refused for nobody@acme.test: 550 5.1.1 ")
        assert town.fails(
            "send", "-", "--to", "a@else.test", "--server", door, stdin=unix
        ).startswith("Refused for a@else.test: 550 5.7.1 ")  # fmt: skip
    # 25 fresh ones, the repeated one once, the two of support and sales.
    assert sum(len(town.json("show", a["reply"].split()[-1])["receipts"]) for a in many["answers"]) == 25


def test_starttls_and_international_addresses(town: Cli, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    town.ok("mailbox", "add", "gr\u00fc\u00dfe@acme.test")
    settings = {"INGESTER_SMTP__TLS_CERT": str(certificate), "INGESTER_SMTP__TLS_KEY": str(key)}
    with serving(town.url, settings=settings) as daemon:
        door = f"127.0.0.1:{daemon.port}"
        reply = town.ok("send", "-", "--to", "gr\u00fc\u00dfe@acme.test", "--server", door, "--starttls", stdin=MAIL)
    receipt = town.json("show", reply.split()[-1])["receipts"][0]
    assert receipt["tls"].startswith("TLSv1.")
    assert receipt["envelope_to"] == ["gr\u00fc\u00dfe@acme.test"]


def _certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
    certificate = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "key.pem").write_bytes(secret)
    return directory / "cert.pem", directory / "key.pem"


# -- servers with a script ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Script:
    """A server for one session. `replies` by the verb of a command, "." for the end of data; None hangs up."""

    replies: dict[str, str | None]
    listener: socket.socket
    heard: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)

    @property
    def door(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rwb", buffering=0) as stream:
            if not self._say(stream, "greeting", "220 stub"):
                return
            while line := stream.readline():
                self.heard.append(line.decode().rstrip("\r\n"))
                verb = self.heard[-1].split(":")[0].split(" ")[0].upper()
                usual = {"DATA": "354 go on", "EHLO": "250-stub\r\n250 SIZE"}.get(verb, "250 2.0.0 fine")
                if not self._say(stream, verb, usual):
                    return
                if verb == "DATA" and self.replies.get("DATA", usual) == usual:
                    self._read_data(stream)
                    if not self._say(stream, ".", "250 2.0.0 stored"):
                        return

    def _read_data(self, stream: socket.SocketIO) -> None:
        lines: list[bytes] = []
        while not lines or lines[-1] != b".\r\n":
            lines.append(stream.readline())
        self.data.append(b"".join(lines))

    def _say(self, stream: socket.SocketIO, what: str, usual: str) -> bool:
        reply = self.replies.get(what, usual)
        if reply is not None:
            stream.write(reply.encode() + b"\r\n")
        return reply is not None and not reply.startswith("421")


@contextmanager
def scripted(replies: dict[str, str | None]) -> Iterator[Script]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        script = Script(replies, listener)
        thread = threading.Thread(target=script.serve)
        thread.start()
        yield script
        thread.join(30)
        assert not thread.is_alive()


def _send(cli: Cli, script: Script, *more: object, stdin: bytes = MAIL) -> tuple[object, ...]:
    result = cli.run("send", "-", "--to", "a@acme.test", "--server", script.door, *more, stdin=stdin)
    return result.exit_code, result.stdout.strip(), result.stderr.strip()


@pytest.fixture
def alone(bare_environment: None) -> Cli:
    """Commands that need no database."""
    return Cli(url="")


def test_the_bytes_are_stuffed_and_not_otherwise_changed(alone: Cli) -> None:
    raw = b".a\n.b\r\n.c\rd\r\n\0\xff"
    with scripted({"EHLO": "250-stub\r\n250-SIZE 1000\r\n250 8BITMIME"}) as server:
        _send(alone, server, "--as-is", "--from", "<b@c.test>", stdin=raw)
    assert server.data == [b"..a\n.b\r\n..c\rd\r\n\0\xff\r\n.\r\n"]
    assert server.heard[1:3] == [f"MAIL FROM:<b@c.test> SIZE={len(raw)} BODY=8BITMIME", "RCPT TO:<a@acme.test>"]
    with scripted({}) as server:
        _send(alone, server, stdin=raw)
    assert server.data == [b"..a\r\n..b\r\n..c\rd\r\n\0\xff\r\n.\r\n"]
    assert server.heard[1] == f"MAIL FROM:<> SIZE={len(raw) + 1}"


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ({".": "451 4.3.0 We could not"}, "Error: Refused: 451 4.3.0 We could not"),
        ({".": "550-5.6.0 two\r\n550 5.6.0 lines"}, "Error: Refused: 550 5.6.0 two 5.6.0 lines"),
        ({"MAIL": "452 4.3.1 busy"}, "Error: Refused: 452 4.3.1 busy"),
        ({"RCPT": "550 5.1.1 No such mailbox"}, "Error: Refused for a@acme.test: 550 5.1.1 No such mailbox"),
        ({"DATA": "421 4.3.2 going away"}, "Error: Refused: 421 4.3.2 going away"),
        ({"RCPT": "421 4.3.2 going away"}, "Error: Refused: 421 4.3.2 going away"),
        ({"greeting": "554 5.3.2 not \x1b[2Jyou"}, "said 554 5.3.2 not \ufffd[2Jyou"),
        ({"greeting": "421 4.3.2 busy"}, "said 421 4.3.2 busy"),
        ({".": None}, "closed the connection"),
        ({"greeting": None}, "closed the connection"),
    ],
)
def test_refusals_are_told_in_the_servers_words(alone: Cli, replies: dict[str, str | None], words: str) -> None:
    with scripted(replies) as server:
        code, out, err = _send(alone, server)
    assert (code, out) == (1, "")
    assert str(err).startswith("Error: ")
    assert str(err).endswith(words)


def test_a_session_that_ends_early_says_how_far_it_came(alone: Cli) -> None:
    with scripted({".": "421 4.3.2 shutting down"}) as server:
        code, out, err = _send(alone, server, "--count", 3)
    assert (code, str(out).partition(" in ")[0]) == (1, "0 of 3 accepted")
    assert err == "Error: Refused: 421 4.3.2 shutting down"


def test_what_the_server_does_not_offer(alone: Cli) -> None:
    with scripted({}) as server:
        assert "STARTTLS" in str(_send(alone, server, "--starttls")[2])
    with scripted({}) as server:
        result = alone.fails("send", "-", "--to", "\u00fc@acme.test", "--server", server.door, stdin=MAIL)
    assert result.endswith("the server does not offer SMTPUTF8, which these addresses need")


def test_no_server_and_wrong_usage(alone: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        door = f"127.0.0.1:{listener.getsockname()[1]}"
    assert alone.fails("send", "-", "--to", "a@b.test", "--server", door, stdin=MAIL) == (
        f"No mail server can be reached at {door} (Connection refused): name another with --server"
    )
    assert "cannot stand in an SMTP command" in alone.usage("send", "-", "--to", "a@b\r\nDATA")
    for server in ("host", "host:x", ":25", "::1:25", "host:0", "host:65536"):
        assert "is not host:port" in alone.usage("send", "-", "--to", "a@b.test", "--server", server)
    assert "No such file" in alone.usage("send", "absent.eml", "--to", "a@b.test")
    assert "--to" in alone.usage("send", "-")


# -- the bytes ---------------------------------------------------------------------------------------------------------


def test_line_ends_become_crlf_where_they_are_bare_lf() -> None:
    assert with_crlf(b"a\nb\r\nc\r\r\n\n\rd") == b"a\r\nb\r\nc\r\r\n\r\n\rd"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"A: b\r\n\r\nx", b"A: b\r\n\r\nx"),
        (b"message-ID: <a@b>\r\nA: b\r\n\r\nx", b"A: b\r\n\r\nx"),
        (b"A: b\r\nMessage-Id:\r\n <a@b>\r\n\t(c)\r\nC: d\r\n\r\nx", b"A: b\r\nC: d\r\n\r\nx"),
        (b"A: b\r\n\r\nMessage-ID: <body@b>\r\n", b"A: b\r\n\r\nMessage-ID: <body@b>\r\n"),
        (b"\r\nMessage-ID: <body@b>\r\n", b"\r\nMessage-ID: <body@b>\r\n"),
        (b"A: b\nMessage-ID: <a@b>", b"A: b\n"),
        (b"A: b\nmessage-id: <a@b>\n\nmessage-id: <c@d>\n", b"A: b\n\nmessage-id: <c@d>\n"),
        (b"", b""),
    ],
)
def test_a_fresh_message_id_takes_the_place_of_the_old(before: bytes, after: bytes) -> None:
    assert with_message_id(before, "new@id") == b"Message-ID: <new@id>\r\n" + after
