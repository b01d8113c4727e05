"""Debian's Postfix, installed or fetched, as the MTA in front: SMTP on a port, everything for our domains on to LMTP.

It needs root, as every Postfix does: its master gives its daemons their users. Nothing of the machine's own Postfix is
read or written: configuration, queue and log are in a directory of the test.
"""

import grp
import os
import pwd
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

import psutil
import pytest

from tests.clients import unpack
from tests.daemon import END_SECONDS, Daemon
from tests.ports import free_port

OWNER = "daemon"
"""The account that stands for `postfix`: a package that is only unpacked makes none."""
GROUP = "mail"
_QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "saved", "trace", "private")

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - {deliveries} lmtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

_MAIN = """\
compatibility_level = 3.6
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = /dev/stdout
mail_owner = {owner}
setgid_group = {group}
import_environment = MAIL_CONFIG LANG=C LD_LIBRARY_PATH={libraries}
inet_interfaces = loopback-only
myhostname = front.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
smtpd_recipient_restrictions = permit_mynetworks
default_transport = error:nothing leaves this machine
relay_domains = {domains}
relay_transport = lmtp:{target}
lmtp_send_xforward_command = yes
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
lmtp_connect_timeout = 5s
destination_concurrency_failed_cohort_limit = lmtp:0
initial_destination_concurrency = {deliveries}
"""


@contextmanager
def postfix(target: str, *domains: str, deliveries: int = 20) -> Iterator[Daemon]:
    """Run one that hands the mail of these domains to `target` (`unix:/path` or `inet:host:port`), over so many
    connections. Its `raw` lines are its log. Skips the test where it cannot run.
    """
    root = package()
    directory = Path(tempfile.mkdtemp(prefix="postfix-", dir="/tmp"))  # pytest's own are root's alone
    try:
        port = free_port()
        lay_out(directory)
        values = {
            "root": str(root).rstrip("/"),
            "libraries": root / "usr/lib/postfix",
            "directory": directory,
            "owner": OWNER,
            "group": GROUP,
            "domains": " ".join(domains),
            "target": target,
            "deliveries": deliveries,
            "port": port,
        }
        (directory / "main.cf").write_text(_MAIN.format(**values))
        (directory / "master.cf").write_text(_MASTER.format(**values))
        with running(root, directory, port) as daemon:
            daemon.wait_text("daemon started")
            yield daemon
    finally:
        shutil.rmtree(directory)


def package() -> Path:
    """The directory that stands for `/` of an installed or unpacked Postfix. Skips the test where it cannot run."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("Postfix needs root on Linux")
    installed = Path("/usr/lib/postfix/sbin/master").exists()
    return Path("/") if installed else unpack(("postfix",))


def lay_out(directory: Path) -> None:
    """The directories that its own scripts would make."""
    owner, group = pwd.getpwnam(OWNER).pw_uid, grp.getgrnam(GROUP).gr_gid
    directory.chmod(0o755)
    (directory / "queue" / "pid").mkdir(parents=True)
    for name in ("data", *(f"queue/{queue}" for queue in _QUEUES)):
        (directory / name).mkdir(mode=0o700)
        os.chown(directory / name, owner, -1)
    for name, mode in (("public", 0o710), ("maildrop", 0o730)):
        (directory / "queue" / name).mkdir()
        (directory / "queue" / name).chmod(mode)
        os.chown(directory / "queue" / name, owner, group)


@contextmanager
def running(root: Path, directory: Path, port: int) -> Iterator[Daemon]:
    """Its master with the configuration in `directory`, to the end by SIGKILL of all that it has started."""
    process = Popen(
        [root / "usr/lib/postfix/sbin/master", "-d", "-s", "-c", directory],
        cwd=directory / "queue",
        env={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(root / "usr/lib/postfix")},
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    daemon = Daemon(process, port)
    reader = threading.Thread(target=daemon._read, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield daemon
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs(children, END_SECONDS)
        process.wait(END_SECONDS)
        reader.join(END_SECONDS)
        process.stdout.close()
