"""Raw mails in segments, the real process: killed at every step, a full disk, workers, erasures, commands."""

import resource
import time
from hashlib import sha256
from pathlib import Path

import msgspec
import psutil
import pytest

from tests.blobs import Directory, stored_bytes
from tests.daemon import Town, command, serving
from tests.e2e.caller import calling
from tests.e2e.ledger import audit
from tests.mta import letter, letters, send, sending
from tests.ports import free_port

BOTH = ("support@acme.test", "sales@globex.test")
HASTY = {"INGESTER_STORE__COMMIT_SECONDS": "1"}
POINTS = ("torn", "unsynced", "uploaded", "before_commit", "during_commit", "after_commit")

pytestmark = [pytest.mark.usefixtures("blobs"), pytest.mark.segments(only=True), pytest.mark.thorough]


def with_faults(faults: str) -> dict[str, str]:
    return {"INGESTER_TEST_FAULTS": faults}


def assert_well(blobs: Directory) -> None:
    """After an audit, which tends what daemons have left."""
    for segment in blobs.shelf.segments():
        health = blobs.shelf.examine(segment)
        assert health.well, health


# -- the daemon is killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "there"),
    [("append", 0), ("torn", 0), ("unsynced", 2), ("sync", 2), ("uploaded", 2), ("before_commit", 2),
     ("during_commit", 2), ("after_commit", 2)],
)  # fmt: skip
def test_kill_around_the_commit(acme: Town, blobs: Directory, point: str, there: int) -> None:
    """What was appended for a commit that never came is swept; what is torn is cut; the retry stores once."""
    port, mails = free_port(), letters(1, *BOTH)
    with serving(acme.url, port=port, settings=with_faults(f"{point}:kill")) as daemon, sending(port, mails) as mta:
        daemon.wait_killed()
        mta.wait_for(lambda: mta.count("") > 1)
        whole = [one for _, one in blobs.records()]
        assert len(whole) >= there
        committed = acme.count("raws")
        assert committed in ((0, 2) if point == "during_commit" else (2,) if point == "after_commit" else (0,))
        with serving(acme.url, port=port):
            mta.finish()
    audit(acme.url, mails, mta.attempts)
    assert len(blobs.urls()) == 2
    assert_well(blobs)


@pytest.mark.parametrize(("times", "mails_each"), [(6, 150), pytest.param(60, 300, marks=pytest.mark.long)])
def test_kill_under_load(acme: Town, blobs: Directory, times: int, mails_each: int) -> None:
    """50 senders are in the midst of it, two workers append. Each start dies at another point, at another commit."""
    port, mails = free_port(), letters(mails_each * times, *BOTH, size=4000)
    with sending(port, mails) as mta:
        for number in range(times):
            faults = with_faults(f"{POINTS[number % len(POINTS)]}:kill@{5 + number % 10}")
            with serving(acme.url, port=port, settings={"INGESTER_WORKERS": "2", **faults}) as daemon:
                daemon.wait_killed()
        assert not mta.ended
        with serving(acme.url, port=port):
            mta.finish(300)
    assert mta.count("5") == 0
    audit(acme.url, mails, mta.attempts)
    assert_well(blobs)


@pytest.mark.parametrize("point", ["before_seal", "after_seal"])
def test_kill_at_the_seal(acme: Town, blobs: Directory, point: str) -> None:
    """Between two segments."""
    port, mails = free_port(), letters(12, *BOTH, size=300_000)
    small = {"INGESTER_STORE__SEGMENT_BYTES": str(1 << 20)}
    with (
        serving(acme.url, port=port, settings={**small, **with_faults(f"{point}:kill@2")}) as daemon,
        sending(port, mails, connections=2) as mta,
    ):
        daemon.wait_killed()
        with serving(acme.url, port=port, settings=small):
            mta.finish()
    audit(acme.url, mails, mta.attempts)
    assert len(blobs.shelf.segments()) > 3
    assert_well(blobs)


def test_an_ordered_end_seals(acme: Town, blobs: Directory) -> None:
    with serving(acme.url) as daemon:
        send(daemon.port, letters(3), connections=1)
        assert daemon.terminate() == 0
    (segment,) = blobs.shelf.segments()
    assert blobs.shelf.is_sealed(segment)
    assert_well(blobs)


# -- the disk -------------------------------------------------------------------------------------------------------


def test_a_full_disk(acme: Town, blobs: Directory) -> None:
    """4xx until there is room again, and the daemon says that it is not ready; then all goes on without a restart."""
    metrics, mails = free_port(), letters(300, *BOTH, size=4000)
    settings = {**HASTY, "INGESTER_METRICS__LISTEN": f"127.0.0.1:{metrics}"}
    with serving(acme.url, settings=settings) as daemon:
        worker = psutil.Process(daemon.worker)
        with sending(daemon.port, mails) as mta:
            mta.wait_for(lambda: mta.count("2") >= 20)
            worker.rlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            full = time.monotonic()
            mta.wait_for(lambda: sum(bool(one.said("4")) for one in mta.since(full)) >= 20)
            daemon.wait_event("raw mails could not be written")
            with pytest.raises(AssertionError, match="disk"):
                command(None, "health", "--ready", INGESTER_METRICS__LISTEN=f"127.0.0.1:{metrics}")
            worker.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            mta.finish()
        _wait_ready(f"127.0.0.1:{metrics}")
        assert daemon.terminate() == 0
    assert mta.count("5") == mta.count("") == 0
    assert acme.count("dead_letters") == 0
    audit(acme.url, mails, mta.attempts)
    assert_well(blobs)


def _wait_ready(address: str) -> None:
    """What is told of readiness may be a second old."""
    end = time.monotonic() + 10
    while True:
        try:
            command(None, "health", "--ready", INGESTER_METRICS__LISTEN=address)
            return
        except AssertionError:
            if time.monotonic() > end:
                raise


def test_a_directory_of_another_database(acme: Town, blobs: Directory, empty_database_url: str) -> None:
    """Nothing is written there, nothing is a dead letter, and the log says why."""
    with serving(acme.url) as daemon:
        send(daemon.port, letters(1), connections=1)
    acme.ask("DELETE FROM blob_hosts")
    store = msgspec.json.decode((blobs.path / "STORE").read_bytes())
    (blobs.path / "STORE").write_bytes(msgspec.json.encode({**store, "database": "another"}))
    before = sorted(blobs.path.glob("*.seg"))
    with serving(acme.url) as daemon, calling(daemon.port) as caller:
        begun = time.monotonic()
        assert caller.deliver(letter("x@customer.test", "support@acme.test").stuffed).startswith("451 4.3.0")
        assert time.monotonic() - begun < 10  # and not after the 60 s of a commit: to wait changes nothing
        said = daemon.wait_event("segments cannot be used")
        assert said["why"] == "the directory of INGESTER_BLOBS belongs to another database"
    assert sorted(blobs.path.glob("*.seg")) == before
    assert acme.count("messages") == 1
    assert acme.count("dead_letters") == 0


def test_a_second_host(acme: Town, blobs: Directory) -> None:
    """It does not start, whatever its own raw bytes would go to."""
    with serving(acme.url) as daemon:
        send(daemon.port, letters(1), connections=1)
        acme.ask("UPDATE blob_hosts SET host = 'another', boot = 'another', name = 'mx1', seen_at = now()")
        for place in (f"{blobs.url}2", "postgres"):
            settings = {"INGESTER_BLOBS": place, "INGESTER_SMTP__LISTEN": f"127.0.0.1:{free_port()}"}
            with serving(acme.url, settings=settings, wait=False) as second:
                second.wait_text("raw mails lie in segments on the host mx1")
                assert second.wait_end() == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [("file:///{}/missing/segments", "missing is no directory: make it, or mount its disk"),
     ("file:///{}/file", "file is no directory: remove it, or name another")],
)  # fmt: skip
def test_a_directory_that_cannot_be(acme: Town, blobs: Directory, tmp_path: Path, url: str, said: str) -> None:
    (tmp_path / "file").touch()
    settings = {"INGESTER_BLOBS": url.format(tmp_path).replace("file:////", "file:///")}
    with serving(acme.url, settings=settings, wait=False) as daemon:
        assert daemon.wait_end() == 1
        daemon.wait_silence()
    assert any("INGESTER_BLOBS" in line and said in line for line in daemon.raw), daemon.raw


# -- afterwards -----------------------------------------------------------------------------------------------------


def test_a_deleted_mail_leaves_no_bytes(acme: Town, blobs: Directory) -> None:
    """By commands, while the daemon appends to the same segment: a message, a person, a tenant."""
    mails = [letter(f"m{n}@customer.test", *BOTH) for n in range(3)]
    with serving(acme.url) as daemon:
        send(daemon.port, mails, connections=1)
        rows = acme.ask(
            "SELECT m.id, t.slug, r.data, r.blob_key FROM messages m JOIN raws r ON r.id = m.raw_id"
            " JOIN tenants t ON t.id = m.tenant_id ORDER BY t.slug, m.received_at"
        )
        assert [row["slug"] for row in rows] == ["acme"] * 3 + ["globex"] * 3
        done = msgspec.json.decode(command(acme.url, "delete", rows[0]["id"], "--apply", "--json"))
        assert done["object_deleted"] is True
        assert len(blobs.urls()) == 5
        assert blobs.holds(b"m0@customer.test"), "the other tenant's copy"
        command(acme.url, "erase", "--address", "ada@customer.test", "--tenant", "globex", "--apply")
        assert blobs.urls() == {row["blob_key"] for row in rows[1:3]}
        assert not blobs.holds(b"m0@customer.test")
        send(daemon.port, [letter("later@customer.test", "support@acme.test")], connections=1)
        assert daemon.terminate() == 0
    command(acme.url, "erase", "--tenant", "acme", "--apply")
    assert not blobs.holds(b"@customer.test")
    assert blobs.urls() == set()
    assert_well(blobs)


def test_commands_read_beside_the_daemon(acme: Town, blobs: Directory) -> None:
    """Whole and by parts, whatever INGESTER_BLOBS is for them; and hold all against its checksums."""
    mails = letters(3)
    with serving(acme.url, settings={"INGESTER_WORKERS": "2"}) as daemon:
        send(daemon.port, mails)
        rows = acme.ask(
            "SELECT m.id, m.rfc_message_id, r.data, r.blob_key, r.sha256 FROM messages m JOIN raws r ON r.id = m.raw_id"
        )
        by_id = {mail.message_id: mail.content for mail in mails}
        for row in rows:
            content = by_id[row["rfc_message_id"]]
            assert stored_bytes(row) == content
            assert row["sha256"] == sha256(content).digest()
            for place in ("postgres", blobs.url, "s3://another-bucket"):
                text = command(acme.url, "raw", row["id"], INGESTER_BLOBS=place)
                assert text.encode() == content.replace(b"\r\n", b"\n")
            part = command(acme.url, "raw", row["id"], "--part", 1)
            assert content.decode().replace("\r\n", "\n").endswith(part)
        said = msgspec.json.decode(command(acme.url, "blobs", "verify", "--json"))
        assert sum(one["records"] for one in said) == 3
        assert daemon.terminate() == 0
    segment = blobs.shelf.segments()[0]
    damaged = bytearray(blobs.shelf.path(segment).read_bytes())
    damaged[-1] ^= 1
    blobs.shelf.path(segment).write_bytes(damaged)
    assert "1 mails are damaged" in command(acme.url, "blobs", "verify", status=1)


def test_what_cannot_be_reached_is_said(acme: Town, blobs: Directory) -> None:
    """On another host, or with the disk away: not that the mail is gone."""
    with serving(acme.url) as daemon:
        send(daemon.port, letters(1), connections=1)
    (row,) = acme.ask("SELECT id FROM messages")
    blobs.path.rename(blobs.path.with_name("away"))
    with pytest.raises(AssertionError, match="the directory of a segment is not on this host"):
        command(acme.url, "raw", row["id"])


def test_dead_letters_need_no_segments(acme: Town, blobs: Directory) -> None:
    """Kept in Postgres; what is redriven stays there."""
    with serving(acme.url, settings=with_faults("scan:raise")) as daemon, calling(daemon.port) as caller:
        assert caller.deliver(letters(1)[0].stuffed).startswith("250")
    (row,) = acme.ask("SELECT data, blob_key FROM raws")
    assert (row["data"], row["blob_key"]) == (letters(1)[0].content, None)
    command(acme.url, "dead", "redrive", "--all", "--apply")
    (row,) = acme.ask("SELECT m.id, r.data FROM messages m JOIN raws r ON r.id = m.raw_id")
    assert command(acme.url, "raw", row["id"]).encode() == letters(1)[0].content.replace(b"\r\n", b"\n")
    assert blobs.urls() == set()
