"""Real clients deliver over IPv4, IPv6 and STARTTLS; many different mails over many connections all become rows."""

import subprocess
from pathlib import Path

import pytest

from tests.clients import smtp_source, swaks
from tests.daemon import Town, serving
from tests.e2e.certificates import write_pair
from tests.e2e.ledger import audit
from tests.mta import THOUSANDS_SECONDS, letters, send, sending

pytestmark = pytest.mark.usefixtures("blobs")


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "starttls"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def test_swaks(acme: Town, tmp_path: Path, host: str, tls: bool) -> None:
    """One mail with an attachment; the receipt tells the address and the protocol."""
    pair = write_pair(tmp_path)
    with serving(acme.url, settings=pair.settings) as daemon:
        server = f"[{host}]" if ":" in host else host
        run = [*swaks(), "--server", server, "--port", str(daemon.port), "--to", "support@acme.test", "--silent", "3"]
        run += [
            "--from",
            "ada@customer.test",
            "--header",
            "Subject: by swaks",
            "--attach",
            "-",
            *(["--tls"] if tls else []),
        ]
        subprocess.run(run, input=b"the attachment", check=True, timeout=60, capture_output=True)
    (row,) = acme.ask(
        """
        SELECT m.subject, x.client_ip, x.tls, x.helo IS NOT NULL AS helo, x.envelope_to,
               (SELECT count(*) FROM parts p WHERE p.tenant_id = m.tenant_id AND p.message_id = m.id) AS parts
        FROM messages m JOIN receipts x ON x.tenant_id = m.tenant_id AND x.message_id = m.id
        """
    )
    assert (row["subject"], row["client_ip"], row["helo"]) == ("by swaks", host, True)
    assert row["envelope_to"] == ["support@acme.test"]
    assert (row["tls"] is not None and row["tls"].startswith("TLSv1.")) if tls else row["tls"] is None
    assert row["parts"] == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def test_smtp_source(acme: Town, host: str) -> None:
    """Postfix's generator: 500 transactions over 20 connections. Its mails are equal in all but their Message-ID."""
    with serving(acme.url) as daemon:
        where = f"inet:[{host}]:{daemon.port}"
        run = [
            *smtp_source(),
            "-s",
            "20",
            "-m",
            "500",
            "-l",
            "2000",
            "-f",
            "ada@customer.test",
            "-t",
            "support@acme.test",
        ]
        subprocess.run([*run, where], check=True, timeout=60, capture_output=True)
    assert acme.count("receipts") == 500
    (row,) = acme.ask(
        "SELECT count(DISTINCT rfc_message_id) AS ids, count(*) AS messages, min(size) AS size FROM messages"
    )
    assert row["messages"] == row["ids"]
    assert row["size"] > 2000


@pytest.mark.thorough
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def test_different_mails_over_starttls(acme: Town, tmp_path: Path, host: str) -> None:
    """What smtp-source cannot do: many connections with TLS."""
    mails = letters(200, "support@acme.test", "sales@globex.test", size=20_000)
    with serving(acme.url, settings=write_pair(tmp_path).settings) as daemon:
        mta = send(daemon.port, mails, connections=20, host=host, tls=True)
    audit(acme.url, mails, mta.attempts)
    (row,) = acme.ask("SELECT count(*) AS clear FROM receipts WHERE tls IS NULL")
    assert row["clear"] == 0


@pytest.mark.thorough
@pytest.mark.parametrize("many", [2000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_different_mails_over_fifty_connections(acme: Town, many: int) -> None:
    """10,000 mails are 10,000 messages and 10,000 receipts."""
    mails = letters(many)
    with serving(acme.url) as daemon:
        with sending(daemon.port, mails, connections=50) as mta:
            mta.finish(THOUSANDS_SECONDS)
        assert daemon.terminate() == 0
    assert mta.count("2") == len(mta.attempts) == many
    assert acme.count("messages") == many
    assert acme.count("receipts") == many
    audit(acme.url, mails, mta.attempts)
