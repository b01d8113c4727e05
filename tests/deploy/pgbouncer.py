"""The real pgbouncer, installed or fetched from Debian, in transaction mode in front of a server of the tests."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.clients import joined, unpack
from tests.ports import free_port

START_SECONDS = 30.0
"""A safety net: it takes a tenth of a second."""

_CONFIGURATION = """
[databases]
{database} = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {servers}
max_client_conn = 500
{more}
"""


@contextmanager
def pooling(url: str, *, mode: str = "transaction", servers: int = 4, more: str = "") -> Iterator[str]:
    """A pgbouncer in front of the database of `url`, and the URL through it. Skips the test where it cannot be had."""
    program, libraries = _program()
    parts = urlsplit(url)
    listen = free_port()
    directory = Path(tempfile.mkdtemp(prefix="ingester-pgbouncer-"))
    try:
        text = _CONFIGURATION.format(
            database=parts.path.strip("/"),
            host=parts.hostname,
            port=parts.port,
            user=parts.username,
            password=parts.password,
            listen=listen,
            mode=mode,
            servers=servers,
            more=more,
        )
        (directory / "pgbouncer.ini").write_text(text)
        process = _start(program, libraries, directory)
        try:
            _await_door(process, listen, directory / "log")
            yield parts._replace(netloc=f"{parts.username}@127.0.0.1:{listen}").geturl()
        finally:
            process.kill()
            process.wait(timeout=START_SECONDS)
    finally:
        shutil.rmtree(directory)


def _program() -> tuple[str, str]:
    installed = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if installed:
        return installed, ""
    root = unpack(("pgbouncer",))
    return str(root / "usr/sbin/pgbouncer"), joined(
        [*root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*")]
    )


def _start(program: str, libraries: str, directory: Path) -> subprocess.Popen[bytes]:
    command = [program, str(directory / "pgbouncer.ini")]
    if os.geteuid() == 0:  # which it refuses to be
        command[1:1] = ["--user", "nobody"]
        shutil.chown(directory, "nobody")
        shutil.chown(directory / "pgbouncer.ini", "nobody")
    environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries}
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, cwd=directory, stdout=log, stderr=log)


def _await_door(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"pgbouncer does not start: {log.read_text(errors='replace')[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)  # nothing tells us when it listens
        else:
            return
