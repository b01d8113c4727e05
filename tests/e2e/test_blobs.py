"""Raw mails in a real S3: killed between upload and commit, S3 gone, frozen, refusing; deleted mails leave no object.

Nothing is lost, nothing is a dead letter for want of S3, and what a crash leaves behind is swept.
"""

import signal
import time
from hashlib import sha256

import msgspec
import pytest

from tests.blobs import Bucket, stored_bytes
from tests.daemon import Town, command, serving
from tests.e2e.caller import calling
from tests.e2e.ledger import audit
from tests.e2e.provider import hand_in, insist
from tests.inbound import TOKEN
from tests.mta import letter, letters, send, sending
from tests.ports import free_port

BOTH = ("support@acme.test", "sales@globex.test")
HASTY = {"INGESTER_STORE__COMMIT_SECONDS": "1"}

pytestmark = [pytest.mark.usefixtures("blobs"), pytest.mark.s3(only=True), pytest.mark.thorough]


def with_faults(faults: str) -> dict[str, str]:
    return {"INGESTER_TEST_FAULTS": faults}


# -- the daemon is killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "orphans"),
    [
        ("uploaded", 2),
        pytest.param("before_commit", 2, marks=pytest.mark.long),
        pytest.param("during_commit", 0, marks=pytest.mark.long),
        ("after_commit", 0),
    ],
)
def test_kill_around_the_commit(acme: Town, blobs: Bucket, point: str, orphans: int) -> None:
    """What was uploaded for a commit that never came lies there until it is swept; the retry stores once."""
    port, mails = free_port(), letters(1, *BOTH)
    with (
        serving(acme.url, port=port, settings=with_faults(f"{point}:kill")) as daemon,
        sending(port, mails) as mta,
    ):
        daemon.wait_killed()
        mta.wait_for(lambda: mta.count("") > 1)
        rows = {row["blob_key"] for row in acme.ask("SELECT blob_key FROM raws")}
        assert len(blobs.urls() - rows) == orphans
        with serving(acme.url, port=port):
            mta.finish()
    assert len(blobs.urls()) == 4, "the retry has objects of its own"
    audit(acme.url, mails, mta.attempts)
    assert len(blobs.urls()) == 2


# -- S3 is away -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [30, pytest.param(400, marks=pytest.mark.long)])
def test_s3_stops_and_starts(acme: Town, blobs: Bucket, many: int) -> None:
    """Under 10 senders: 4xx until it is back, then all goes on without a restart."""
    mails = letters(many, *BOTH)
    with serving(acme.url, settings=HASTY) as daemon:
        with sending(daemon.port, mails, connections=10) as mta:
            mta.wait_for(lambda: mta.count("2") >= 10)
            blobs.server.stop()
            stopped = time.monotonic()
            mta.wait_for(lambda: sum(bool(one.said("4")) for one in mta.since(stopped)) >= 10)
            blobs.server.start()
            mta.finish()
        assert daemon.terminate() == 0
    assert mta.count("5") == mta.count("") == 0
    audit(acme.url, mails, mta.attempts)


@pytest.mark.long
def test_started_while_s3_is_away(acme: Town, blobs: Bucket) -> None:
    """The daemon starts, says 451, and takes mail once S3 is there."""
    blobs.server.stop()
    mails = letters(5, *BOTH)
    with (
        serving(acme.url, settings=HASTY) as daemon,
        sending(daemon.port, mails, connections=5) as mta,
    ):
        mta.wait_for(lambda: mta.count("4") >= 5)
        assert mta.count("2") == mta.count("5") == mta.count("") == 0
        blobs.server.start()
        mta.finish()
    audit(acme.url, mails, mta.attempts)


def test_s3_hangs(acme: Town, blobs: Bucket) -> None:
    """It costs the commit's deadline, no more, then 451; meanwhile what needs no S3 is answered."""
    (mail,) = letters(1)
    with serving(acme.url, settings=HASTY) as daemon, calling(daemon.port) as caller:
        caller.announce()
        with blobs.server.frozen():
            began = time.monotonic()
            caller.send(mail.stuffed)
            with calling(daemon.port) as other:
                assert other.ask("MAIL FROM:<ada@customer.test>").startswith("250")
                assert other.ask("RCPT TO:<nobody@acme.test>").startswith("550")
            assert caller.answer().startswith("451 4.3.0")
            assert 0.8 < time.monotonic() - began < 10
        mta = send(daemon.port, [mail], connections=1)
    audit(acme.url, [mail], mta.attempts)


def test_over_http_it_is_503(acme: Town, blobs: Bucket) -> None:
    port, (mail,) = free_port(), letters(1, *BOTH)
    settings = {"INGESTER_HTTP__LISTEN": f"127.0.0.1:{port}", "INGESTER_INBOUND_TOKEN": TOKEN, **HASTY}
    with serving(acme.url, settings=settings):
        blobs.server.stop()
        assert hand_in(port, mail.content, *BOTH, event_id="e").status == 503
        blobs.server.start()
        attempts = insist(port, mail.content, *BOTH, event_id="e")
    assert attempts[-1].status == 202
    audit(acme.url, [mail], [])


def test_drain_while_s3_hangs(acme: Town, blobs: Bucket) -> None:
    """SIGTERM ends the daemon in order, though a mail waits for an upload that will not come."""
    with serving(acme.url, settings={"INGESTER_DRAIN_SECONDS": "1"}) as daemon, calling(daemon.port) as caller:
        assert caller.deliver(letters(1)[0].stuffed).startswith("250")
        caller.announce()
        with blobs.server.frozen():
            caller.send(letter("late@customer.test", "support@acme.test").stuffed)
            with calling(daemon.port) as other:
                assert other.ask("NOOP").startswith("250")
            daemon.signal(signal.SIGTERM)
            assert daemon.wait_end(20) == 0
        assert not [line for line in daemon.raw if "Traceback" in line or "rror" in line], daemon.raw


@pytest.mark.parametrize(
    "wrong", [{"INGESTER_S3__SECRET_ACCESS_KEY": "wrong"}, {"INGESTER_BLOBS": "s3://no-such-bucket/mails"}]
)
def test_s3_refuses(acme: Town, blobs: Bucket, wrong: dict[str, str]) -> None:
    """A fault of ours: put off at once, no dead letter; the log says it without the key."""
    (mail,) = letters(1)
    with serving(acme.url, settings=wrong) as daemon, calling(daemon.port) as caller:
        began = time.monotonic()
        assert caller.deliver(mail.stuffed).startswith("451 4.3.0")
        assert time.monotonic() - began < 10
        daemon.wait_event("the object store is unavailable")
        assert not [line for line in daemon.raw if blobs.name in line or "secret" in line.lower()]
    for table in ("messages", "dead_letters", "raws", "claims", "receipts", "blob_trash"):
        assert acme.count(table) == 0, table
    assert blobs.urls() == set()


@pytest.mark.long
def test_postgres_needs_no_s3(acme: Town, blobs: Bucket) -> None:
    """A mail that cannot be digested is kept in Postgres, S3 or not; refused mail is not uploaded."""
    blobs.server.stop()
    loop = b"Received: from x\r\n" * 101 + letter("loop@customer.test").stuffed
    with serving(acme.url, settings=with_faults("scan:raise@2")) as daemon, calling(daemon.port) as caller:
        assert caller.deliver(loop).startswith("554")
        assert caller.deliver(letters(1)[0].stuffed).startswith("250")
    (row,) = acme.ask("SELECT data, blob_key FROM raws")
    assert (row["data"], row["blob_key"]) == (letters(1)[0].content, None)
    blobs.server.start()
    assert blobs.urls() == set()
    command(acme.url, "dead", "redrive", "--all", "--apply")
    assert blobs.urls() == set()
    (row,) = acme.ask("SELECT m.id, r.data FROM messages m JOIN raws r ON r.id = m.raw_id")
    assert command(acme.url, "raw", row["id"]).encode() == letters(1)[0].content.replace(b"\r\n", b"\n")


# -- afterwards -----------------------------------------------------------------------------------------------------


def test_a_deleted_mail_leaves_no_object(acme: Town, blobs: Bucket) -> None:
    """By the command, and by hand; a mail that came twice has one object."""
    mails = letters(3)
    with serving(acme.url) as daemon:
        send(daemon.port, [*mails, *mails], connections=1)
    ids = [row["id"] for row in acme.ask("SELECT id FROM messages ORDER BY received_at")]
    command(acme.url, "blobs", "sweep", "--apply")
    assert len(blobs.urls()) == 3
    done = msgspec.json.decode(command(acme.url, "delete", ids[0], "--apply", "--json"))
    assert done["object_deleted"] is True
    assert len(blobs.urls()) == 2
    acme.ask("DELETE FROM raws WHERE id = (SELECT raw_id FROM messages WHERE id = $1)", ids[1])
    done = msgspec.json.decode(command(acme.url, "blobs", "sweep", "--apply", "--json"))
    assert (done["trash"]["deleted"], done["trash"]["left"]) == (1, 0)
    (row,) = acme.ask("SELECT blob_key FROM raws")
    assert blobs.urls() == {row["blob_key"]}


@pytest.mark.long
def test_deleted_while_s3_is_away(acme: Town, blobs: Bucket) -> None:
    """The mail is gone at once, its object when S3 is back."""
    with serving(acme.url) as daemon:
        send(daemon.port, letters(1), connections=1)
    blobs.server.stop()
    (row,) = acme.ask("SELECT id FROM messages")
    assert "is deleted when it is back" in command(acme.url, "delete", row["id"], "--apply")
    assert acme.count("messages") == acme.count("raws") == 0
    command(acme.url, "blobs", "sweep", "--apply", status=1)
    blobs.server.start()
    assert len(blobs.urls()) == 1
    command(acme.url, "blobs", "sweep", "--apply")
    assert blobs.urls() == set()


@pytest.mark.long
def test_some_here_some_there(acme: Town, blobs: Bucket) -> None:
    """The setting is changed to and fro: all mails and parts are read, whatever it is now."""
    mails = letters(3)
    for mail, place in zip(mails, ("postgres", blobs.url, "postgres"), strict=True):
        with serving(acme.url, settings={"INGESTER_BLOBS": place}) as daemon, calling(daemon.port) as caller:
            assert caller.deliver(mail.stuffed).startswith("250")
    rows = acme.ask(
        "SELECT m.id, m.rfc_message_id, r.data, r.blob_key, r.sha256 FROM messages m JOIN raws r ON r.id = m.raw_id"
        " ORDER BY m.received_at"
    )
    assert [row["blob_key"] is None for row in rows] == [True, False, True]
    for row, mail in zip(rows, mails, strict=True):
        assert stored_bytes(row) == mail.content
        assert row["sha256"] == sha256(mail.content).digest()
        for place in ("postgres", blobs.url, "s3://another-bucket"):
            text = command(acme.url, "raw", row["id"], INGESTER_BLOBS=place)
            assert text.encode() == mail.content.replace(b"\r\n", b"\n")
        part = command(acme.url, "raw", row["id"], "--part", 1, INGESTER_BLOBS="postgres")
        assert mail.content.decode().replace("\r\n", "\n").endswith(part)
    blobs.server.stop()
    command(acme.url, "raw", rows[1]["id"], status=1)
    command(acme.url, "raw", rows[0]["id"])
