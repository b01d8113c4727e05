"""`ingester serve`: what keeps it from starting is one clear sentence that names the setting to change."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import ROOT, serving
from tests.ports import free_port

pytestmark = pytest.mark.thorough


def serve(*arguments: str, **settings: str) -> tuple[int, str]:
    """Run it to its end; the exit status and stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INGESTER_")}
    environment["INGESTER_REPLY_TOKEN_SECRETS"] = "of the tests and long enough to be taken for one"
    done = subprocess.run(
        [sys.executable, "-m", "ingester", "serve", *arguments],
        cwd=ROOT,
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_without_a_database_url() -> None:
    status, words = serve()
    assert status == 1
    assert "INGESTER_DATABASE_URL is not set" in words


def test_without_a_secret_for_reply_tokens(database_url: str) -> None:
    status, words = serve(INGESTER_DATABASE_URL=database_url, INGESTER_REPLY_TOKEN_SECRETS="")
    assert status == 1
    assert "INGESTER_REPLY_TOKEN_SECRETS is not set" in words


def test_with_faults_in_the_settings_all_are_told(database_url: str) -> None:
    status, words = serve(INGESTER_DATABASE_URL=database_url, INGESTER_WORKERS="0", INGESTER_PORT="25")
    assert status == 1
    assert "INGESTER_WORKERS" in words
    assert "INGESTER_PORT" in words


def test_with_pending_migrations_it_says_so_and_with_migrate_it_runs_them(empty_database_url: str) -> None:
    status, words = serve(INGESTER_DATABASE_URL=empty_database_url)
    assert status == 1
    assert "0001_main" in words
    assert "ingester migrate" in words
    with serving(empty_database_url, arguments=("--migrate",)) as daemon:
        assert daemon.terminate() == 0
    with serving(empty_database_url) as daemon:
        assert daemon.terminate() == 0


def test_with_a_port_that_is_taken(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        status, words = serve(INGESTER_DATABASE_URL=database_url, INGESTER_SMTP__LISTEN=listen)
    assert status == 1
    assert "INGESTER_SMTP__LISTEN" in words


@pytest.mark.parametrize("workers", ["1", "2"])
def test_with_a_certificate_that_cannot_be_used(database_url: str, tmp_path: Path, workers: str) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    status, words = serve(
        INGESTER_DATABASE_URL=database_url,
        INGESTER_SMTP__LISTEN=f"127.0.0.1:{free_port()}",
        INGESTER_SMTP__TLS_CERT=str(broken),
        INGESTER_SMTP__TLS_KEY=str(broken),
        INGESTER_WORKERS=workers,
    )
    assert status == 1
    assert "INGESTER_SMTP__TLS_CERT" in words
