"""The other baseline: Debian's Postfix that takes mail and only puts it into its queue, durably, and checks nothing.

Every mail is put on HOLD, so that nothing is delivered meanwhile. Its limits on clients are off, its logging is on. It
is what ratios are taken to, frozen before any tuning: it must not be made faster, nor slower. Needs root.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.corpus import DOMAIN
from tests.bench.subject import BenchError, await_greeting
from tests.ports import free_port
from tests.postfix import GROUP, OWNER, lay_out, package, running

QUEUES = ("maildrop", "incoming", "active", "hold", "deferred", "corrupt")

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

_MAIN = """\
compatibility_level = 3.6
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
mail_owner = {owner}
setgid_group = {group}
import_environment = MAIL_CONFIG LANG=C LD_LIBRARY_PATH={root}/usr/lib/postfix
inet_interfaces = loopback-only
myhostname = queue.test
mydestination =
alias_maps =
alias_database =
message_size_limit = 26214400
smtpd_upstream_proxy_protocol = haproxy
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_recipient_rate_limit = 0
smtpd_peername_lookup = no
relay_domains = {domain}
smtpd_recipient_restrictions = reject_unauth_destination, check_recipient_access static:HOLD
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A running Postfix; `pid` is the root of its process tree."""

    pid: int
    port: int
    directory: Path


def find() -> Path:
    """Where Postfix is, installed or fetched and unpacked. Raises BenchError where it cannot be had."""
    try:
        return package()
    except pytest.skip.Exception as reason:
        raise BenchError(f"no baseline without Postfix ({reason}): leave postfix out of --contestants") from reason


@contextmanager
def queue_directory(parent: Path) -> Iterator[Path]:
    """A directory for configuration, queue and log, on the disk where Postgres has its data."""
    directory = Path(tempfile.mkdtemp(prefix="postfix-", dir=parent))
    try:
        lay_out(directory)
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def queueing(directory: Path) -> Iterator[Queue]:
    """Run one that queues. Raises BenchError when it does not greet."""
    root, port = find(), free_port()
    prefix = str(root).rstrip("/")
    values = {"root": prefix, "directory": directory, "owner": OWNER, "group": GROUP, "domain": DOMAIN}
    (directory / "main.cf").write_text(_MAIN.format(**values), encoding="utf-8")
    (directory / "master.cf").write_text(_MASTER.format(port=port), encoding="utf-8")
    with running(root, directory, port) as daemon:
        await_greeting(daemon.process, port, directory / "log", proxied=True)
        yield Queue(pid=daemon.process.pid, port=port, directory=directory)


def count_queued(directory: Path) -> int:
    """How many mails are in the queue, wherever."""
    return sum(path.is_file() for name in QUEUES for path in (directory / "queue" / name).rglob("*"))
