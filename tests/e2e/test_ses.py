"""Mail through SES, SNS and S3, with kill -9 at each step: what SNS and the reconciler try again is stored once."""

import http.client
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen, run
from typing import Any

import msgspec
import pytest

from tests.daemon import ROOT, Town, clean_environment
from tests.quiet_dns import nameservers
from tests.sns import FakeSns, body_of, headers_of
from tests.swift import Swift
from tests.transport.ses.house import INBOUND, in_s3, mail, received

pytestmark = pytest.mark.thorough

END_SECONDS = 60.0
POINTS = ("fetched", "before_commit", "after_commit")
MORE_POINTS = ("scan", "find", "during_commit")


def environment(acme: Town, sns: FakeSns, swift: Swift, bucket: str, faults: str = "") -> dict[str, str]:
    said = clean_environment() | swift.settings
    said |= {
        "INGESTER_ENV": "development",
        "INGESTER_DATABASE_URL": acme.url,
        "INGESTER_DNS__NAMESERVERS": nameservers(),
        "INGESTER_SES__TOPICS": sns.topic_arn,
        "INGESTER_SES__BUCKETS": f"{bucket}/in=tenant:acme",
        "INGESTER_SES__RECONCILE_SECONDS": "0",
    }
    return said | ({"INGESTER_TEST_FAULTS": faults} if faults else {})


@contextmanager
def serving(directory: Path, sns: FakeSns, settings: dict[str, str]) -> Iterator[tuple[Popen[bytes], int]]:
    """A daemon of its own process, and its port. It is told to stop at the end, if it lives."""
    certificate = directory / "certificate.pem"
    certificate.write_bytes(sns.certificate)
    words = [sys.executable, "-m", "tests.e2e.ses_daemon", sns.certificate_url, str(certificate)]
    with (directory / "log").open("ab") as log:
        process = Popen(words, cwd=ROOT, env=settings, stdout=PIPE, stderr=log)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        process.wait(END_SECONDS)
    finally:
        process.kill()
        process.wait(END_SECONDS)
        process.stdout.close()


def post(port: int, envelope: dict[str, Any]) -> tuple[int, Any] | None:
    """Bring an SNS message; None where the daemon died over it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=END_SECONDS)
    try:
        connection.request("POST", INBOUND, body_of(envelope), headers_of(envelope))
        response = connection.getresponse()
        return response.status, msgspec.json.decode(response.read())
    except (ConnectionError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@pytest.mark.parametrize("point", [*POINTS, *(pytest.param(one, marks=pytest.mark.long) for one in MORE_POINTS)])
def test_kill_at_each_step_and_the_retry_stores_once(acme: Town, swift: Swift, tmp_path: Path, point: str) -> None:
    sns, bucket = FakeSns(), swift.make_bucket()
    swift.write(bucket, "in/one", mail())
    envelope = sns.notification(received(action=in_s3(bucket, "in/one")))
    with serving(tmp_path, sns, environment(acme, sns, swift, bucket, f"{point}:kill")) as (process, port):
        assert post(port, envelope) is None
        assert process.wait(END_SECONDS) == -signal.SIGKILL
    with serving(tmp_path, sns, environment(acme, sns, swift, bucket)) as (_, port):
        first = post(port, envelope)
        again = post(port, envelope)
    assert first is not None
    assert again is not None
    assert first[0] in ((200,) if point in ("during_commit", "after_commit") else (202,))
    assert (again[0], again[1]["status"]) == (200, "duplicate")
    assert again[1]["message_ids"] == first[1]["message_ids"]
    rows = acme.ask("SELECT m.id, w.data FROM messages m JOIN raws w ON w.id = m.raw_id")
    assert [(str(row["id"]), bytes(row["data"])) for row in rows] == [(first[1]["message_id"], mail())]
    assert acme.count("raws") == 1


def test_what_sns_gave_up_on_is_brought_by_the_command(acme: Town, swift: Swift, tmp_path: Path) -> None:
    """The whole way of an operator: the daemon died over a mail, nobody tries again, `ingester reconcile s3` does."""
    sns, bucket = FakeSns(), swift.make_bucket()
    swift.write(bucket, "in/one", mail())
    settings = environment(acme, sns, swift, bucket, "fetched:kill")
    with serving(tmp_path, sns, settings) as (_, port):
        assert post(port, sns.notification(received(action=in_s3(bucket, "in/one")))) is None
    del settings["INGESTER_TEST_FAULTS"]
    young = command(settings, "--apply")
    assert young.stdout == "All that lies in the buckets has arrived.\n", "it is left to its notification first"
    dry = command(settings, "--json", code=GRACELESS)
    assert msgspec.json.decode(dry.stdout)["objects"][0]["ending"] == "missing"
    assert acme.count("messages") == 0
    done = command(settings, "--apply", code=GRACELESS)
    assert f"s3://{bucket}/in/one" in done.stdout
    assert "stored" in done.stdout
    assert acme.count("messages") == 1
    assert command(settings, "--apply", code=GRACELESS).stdout == young.stdout


INGESTER = "from ingester.cli import main; main(prog_name='ingester')"
GRACELESS = f"""
from datetime import timedelta
from ingester.transport.ses import reconcile
reconcile.GRACE = timedelta(seconds=-5)
{INGESTER}
"""
"""The first minutes of an object are passed over: a test does not wait for them. Swift rounds times up."""


def command(settings: dict[str, str], *words: str, code: str = INGESTER) -> Any:
    done = run(
        [sys.executable, "-c", code, "reconcile", "s3", *words],
        cwd=ROOT,
        env=settings | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done
