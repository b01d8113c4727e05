"""`ingester doctor` beside other servers: a careless Postgres, a pooler, an object store, another program."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from ingester.cli import main
from tests.daemon import command, serving
from tests.deploy.pgbouncer import pooling
from tests.doctor.conftest import Hospital, Practice
from tests.ports import free_port
from tests.swift import Swift

pytestmark = pytest.mark.thorough


def told(found: list[dict[str, str]], check: str) -> list[str]:
    """Level and sentence of what a check has found, in its order."""
    return [f"{one['level']}: {one['what']}" for one in found if one["check"] == check]


def test_a_postgres_that_does_not_keep_its_word(
    practice: Practice, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    practice.env["INGESTER_DATABASE_URL"] = database_url  # the server of the everyday tests
    said = told(practice.findings(monkeypatch, status=1), "database")
    assert said[:3] == [
        "fault: fsync is off: a power cut destroys the database, mails said yes to included",
        "fault: synchronous_commit is off: a crash loses mails that were said yes to",
        "warning: full_page_writes is off: a crash may leave half-written pages",
    ]


def test_a_database_in_another_encoding(
    practice: Practice, hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.cluster.execute("create database latin template template0 encoding 'LATIN1' locale 'C'")
    try:
        url = hospital.cluster.url_of("latin")
        practice.env["INGESTER_DATABASE_URL"] = url
        said = told(practice.findings(monkeypatch, status=1), "database")
        assert "fault: its encoding is LATIN1: most mails cannot be stored" in said
        assert any(one.startswith("fault: it lacks migrations: 0001_main, 0002") for one in said)
    finally:
        hospital.cluster.execute("drop database latin")


def test_a_pooler_in_transaction_mode(practice: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = practice.database.runtime
    with pooling(direct) as url:
        practice.env["INGESTER_DATABASE_URL"] = url
        said = told(practice.findings(monkeypatch, status=1), "pooler")
        assert [one.partition(":")[0] for one in said] == ["ok", "fault", "fault"]
        assert "prepared statements are kept" in said[1]
        assert "notifications and migrations do not come through" in said[2]
        practice.env["INGESTER_STORE__STATEMENT_CACHE"] = "0"
        practice.env["INGESTER_DATABASE_DIRECT_URL"] = url
        said = told(practice.findings(monkeypatch, status=1), "pooler")
        assert [one.partition(":")[0] for one in said] == ["ok", "fault"]
        assert "notifications and migrations do not come through" in said[1]
        practice.env["INGESTER_DATABASE_DIRECT_URL"] = f"postgresql://a:b@127.0.0.1:{free_port()}/c"
        said = told(practice.findings(monkeypatch, status=1), "pooler")
        assert said[1:] == ["fault: INGESTER_DATABASE_DIRECT_URL cannot be reached (ConnectionRefusedError)"]
        practice.env["INGESTER_DATABASE_DIRECT_URL"] = direct
        found = practice.findings(monkeypatch, status=0)
        assert told(found, "pooler") == ["ok: a pooler in transaction mode stands between"]


def test_a_pooler_in_session_mode_is_like_none(practice: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    with pooling(practice.database.runtime, mode="session") as url:
        practice.env["INGESTER_DATABASE_URL"] = url
        assert told(practice.findings(monkeypatch), "pooler") == []


def test_an_object_store(practice: Practice, swift: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = swift.make_bucket()
    practice.env.update(swift.settings, INGESTER_BLOBS=f"s3://{bucket}/mail")
    assert told(practice.findings(monkeypatch), "blobs") == ["ok: the object store takes, gives and deletes"]
    assert not list(swift.keys(bucket))
    practice.env["INGESTER_BLOBS"] = "s3://no-such-bucket-at-all"
    (said,) = told(practice.findings(monkeypatch, status=1), "blobs")
    assert said == "fault: the object store of INGESTER_BLOBS cannot be written to (no such bucket)"
    practice.env["INGESTER_S3__SECRET_ACCESS_KEY"] = "another"
    (said,) = told(practice.findings(monkeypatch, status=1), "blobs")
    assert said == "fault: the object store of INGESTER_BLOBS cannot be written to (HTTP status 403)"


def test_segments(practice: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this disk, and another host beside it."""
    tmp_path.chmod(0o700)
    practice.env["INGESTER_BLOBS"] = f"file://{tmp_path}"
    found = practice.findings(monkeypatch)
    assert told(found, "blobs") == [f"ok: raw mails can be written to {tmp_path}, and stay there"]
    assert any("where raw mails lie" in one for one in told(found, "disk"))
    practice.sql(
        "INSERT INTO blob_hosts (tenant_id, host, place, boot, name)"
        " VALUES ('00000000-0000-0000-0000-000000000000', 'another', 'postgres', 'another', 'mx2')"
    )
    said = told(practice.findings(monkeypatch, status=1), "blobs")
    assert said[-1].startswith("fault: the host mx2 uses this database too, and raw mails lie in segments here")
    practice.env["INGESTER_BLOBS"] = "postgres"
    assert told(practice.findings(monkeypatch), "blobs") == ["ok: raw mails lie in Postgres"]


def test_another_program_on_the_port(practice: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        practice.env["INGESTER_SMTP__LISTEN"] = f"127.0.0.1:{mute.getsockname()[1]}"
        (said,) = told(practice.findings(monkeypatch), "listeners")
    assert said.startswith("warning: smtp on 127.0.0.1:")
    assert said.endswith("something listens and says nothing")


def test_for_a_person_it_prints_lines_and_says_what_to_do(practice: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    practice.env["INGESTER_DATABASE_URL"] = f"postgresql://a:b@127.0.0.1:{free_port()}/c"
    practice.findings(monkeypatch, status=1)
    done = CliRunner().invoke(main, ["doctor", *practice.arguments])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert "fault   database: it cannot be reached (ConnectionRefusedError): every mail is deferred" in done.stdout
    assert any(line.startswith("        → Look whether it runs") for line in lines)
    # What the others could not look at for its sake is one line, not six.
    assert sum("not looked at" in line for line in lines) == 1
    assert lines[-1].startswith("1 fault, ")
    assert len(done.stdout.split("ok      ")) == 1
    everything = CliRunner().invoke(main, ["doctor", "--all", *practice.arguments]).stdout
    assert "ok      certificate: its chain is complete" in everything


def test_a_faulty_file_is_all_that_is_told() -> None:
    """Without its settings nothing can be looked at: one sentence, no traceback."""
    command(None, "doctor", status=1, INGESTER_CONFIG="/nowhere.toml")


def test_what_stands_in_for_faulty_settings_is_not_looked_at(
    practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    practice.env.update(INGESTER_SMTP__LISTEN="25", INGESTER_DATABASE_URL="mysql://u:p@h/d")
    found = practice.findings(monkeypatch, status=1)
    assert told(found, "listeners") == []
    assert told(found, "database") == ["fault: no database is named"]
    assert [one.split(":")[1].strip() for one in told(found, "settings")] == [
        "INGESTER_DATABASE_URL",
        "INGESTER_SMTP__LISTEN (entry 1)",
    ]


def test_no_secret_is_told(practice: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    practice.env["INGESTER_INBOUND_TOKEN"] = "hushhush" * 5
    practice.env["INGESTER_SPAM__URL"] = "hushhush"
    found = practice.findings(monkeypatch, status=1)
    password = urlsplit(practice.env["INGESTER_DATABASE_URL"]).password
    assert password
    assert "hush" not in str(found)
    assert password not in str(found)


def test_the_doors_of_a_daemon_that_runs(
    practice: Practice, hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All four, the one behind a proxy by the proxy's own header."""
    doors = {
        "INGESTER_SMTP__PROXY_NETWORKS": "127.0.0.0/8",
        "INGESTER_HTTP__LISTEN": f"127.0.0.1:{free_port()}",
        "INGESTER_METRICS__LISTEN": f"127.0.0.1:{free_port()}",
        "INGESTER_LMTP__LISTEN": f"127.0.0.1:{free_port()}",
        "INGESTER_INBOUND_TOKEN": "8f1c5a2e7b0d94638f1c5a2e7b0d9463",
    }
    with hospital.clone() as database, serving(database.owner, settings=doors) as daemon:
        practice.env.update(doors, INGESTER_SMTP__LISTEN=f"127.0.0.1:{daemon.port}")
        said = told(practice.findings(monkeypatch), "listeners")
        assert [one.partition(" on ")[0] for one in said] == ["ok: smtp", "ok: lmtp", "ok: http", "ok: metrics"]
        assert [one.rpartition(" ")[2] for one in said] == ["greets", "greets", "ready", "ready"]


def test_a_daemon_that_waits_for_its_database(practice: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {"INGESTER_METRICS__LISTEN": f"127.0.0.1:{free_port()}"}
    with serving(f"postgresql://a:b@127.0.0.1:{free_port()}/c", settings=metrics) as daemon:
        practice.env.update(metrics, INGESTER_SMTP__LISTEN=f"127.0.0.1:{daemon.port}")
        found = practice.findings(monkeypatch, status=1)
    assert told(found, "listeners")[1].startswith("fault: metrics on 127.0.0.1:")
    assert told(found, "listeners")[1].endswith("is not ready")
