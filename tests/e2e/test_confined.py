"""The daemon under what its unit forbids: system calls, memory that is written and run, files, privileges.

systemd does not run here: `tests.confined` makes of the unit what systemd would.
"""

import errno
import http.client
import signal
import subprocess
import sys
import tempfile
from email.message import EmailMessage
from pathlib import Path

import psutil
import pytest

from tests.blobs import Bucket, Directory
from tests.confined import options
from tests.daemon import OURS, ROOT, Town, serving
from tests.e2e.caller import calling
from tests.e2e.certificates import write_pair
from tests.e2e.provider import hand_in
from tests.inbound import TOKEN
from tests.nameserver import NameServer, in_thread
from tests.ports import free_port
from tests.service_manager import listening, managing, port_of
from tests.signing import key_record, signed

pytestmark = pytest.mark.thorough

UNIT = ROOT / "systemd/ingester.service"
ZONE = {
    "customer.test": [{"TXT": "v=spf1 ip4:127.0.0.1 -all"}],
    "_dmarc.customer.test": [{"TXT": "v=DMARC1; p=reject"}],
    "s._domainkey.customer.test": [{"TXT": key_record()}],
}
BOTH = ("support@acme.test", "sales@globex.test")


def mail(name: str) -> bytes:
    """A signed mail with text, HTML and a file."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ada@customer.test", ", ".join(BOTH), name
    message["Message-ID"] = f"<{name}@customer.test>"
    message.set_content("Guten Tag.")
    message.add_alternative("<p>Guten <b>Tag</b>.<script>no()</script></p>", subtype="html")
    message.add_attachment(b"%PDF-1.4 " * 1000, maintype="application", subtype="pdf", filename="offer.pdf")
    return signed(bytes(message).replace(b"\n", b"\r\n"), "customer.test")


@pytest.mark.s3(only=True)
def test_it_does_all_that_it_must(acme: Town, blobs: Bucket, tmp_path: Path) -> None:
    """Mail by SMTP with STARTTLS and by HTTP into S3, sender checks, metrics, reloads, the drain."""
    metrics = free_port()
    confined = [sys.executable, "-m", "tests.confined", str(UNIT), "--", *OURS]
    with listening("smtp", "http") as sockets, managing() as manager, in_thread(NameServer(zone=ZONE)) as server:
        given = {
            "INGESTER_WORKERS": "2",
            "INGESTER_INBOUND_TOKEN": TOKEN,
            "INGESTER_METRICS__LISTEN": f"127.0.0.1:{metrics}",
            "INGESTER_DNS__NAMESERVERS": "{}:{}".format(*server.address),
            "NOTIFY_SOCKET": manager.name,
            "WATCHDOG_USEC": "200000",
        }
        given |= write_pair(tmp_path).settings
        with serving(acme.url, handed=sockets, settings=given, command=confined) as daemon:
            manager.wait_for("READY=1")
            assert psutil.Process(daemon.process.pid).cmdline()[1:] == [*OURS[1:], "serve"]
            for number, event in enumerate(("serving", "reloaded")):
                daemon.wait_event(event)
                with calling(daemon.port) as caller:
                    caller.start_tls()
                    caller.ask("EHLO client.test")
                    wire = mail(f"smtp-{number}") + b"\r\n.\r\n"
                    assert caller.deliver(wire, *BOTH).startswith("250")
                assert hand_in(port_of(sockets["http"]), mail(f"http-{number}"), *BOTH).status == 202
                daemon.signal(signal.SIGHUP)
            daemon.wait_event("reloaded", times=2)
            manager.wait_for("WATCHDOG=1")
            connection = http.client.HTTPConnection("127.0.0.1", metrics)
            connection.request("GET", "/metrics")
            assert (
                'ingester_messages_total{method="none",status="unmatched"}' in connection.getresponse().read().decode()
            )
            connection.close()
            assert daemon.terminate() == 0
    rows = acme.ask("SELECT dkim, dmarc, body_text FROM messages")
    assert len(rows) == 8
    assert {tuple(row)[:2] for row in rows if row["dkim"] != "none"} == {("pass", "pass")}
    assert len(blobs.urls()) == 8
    assert not [line for line in daemon.lines if line.get("level") in ("error", "critical")]


def test_segments(acme: Town) -> None:
    """Mail into segments, and bytes erased from one, in the one place that can be written to."""
    assert options(UNIT)["StateDirectory"] == ["ingester"]
    confined = [sys.executable, "-m", "tests.confined", str(UNIT), "--"]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as room:  # /dev stands for the state directory
        directory = Directory(path=Path(room, "segments"))
        with serving(acme.url, settings=directory.settings, command=[*confined, *OURS]) as daemon:
            with calling(daemon.port) as caller:
                assert caller.deliver(mail("one") + b"\r\n.\r\n", *BOTH).startswith("250")
            assert daemon.terminate() == 0
        assert len(directory.urls()) == 2
        (segment,) = directory.shelf.segments()
        assert directory.shelf.is_sealed(segment)
        code = "import sys; from pathlib import Path; from ingester.store.segments.segment import can_punch, probe\n"
        code += "probe(Path(sys.argv[1])); assert can_punch(Path(sys.argv[1]))"
        words = [*confined, sys.executable, "-c", code, str(directory.path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


PROBE = """
import mmap, os, socket, sys
def tried(name, what, *arguments, **more):
    try:
        what(*arguments, **more)
    except OSError as error:
        print(name, error.errno)
tried("memory", mmap.mmap, -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
tried("family", socket.socket, socket.AF_NETLINK, socket.SOCK_RAW)
tried("owner", os.chown, sys.argv[1], 1, 1)
tried("resource", os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
tried("set-user-id", os.chmod, sys.argv[1], 0o4700)
"""


def test_what_the_unit_forbids_is_forbidden(tmp_path: Path) -> None:
    """What the test above relies on."""
    words = [sys.executable, "-m", "tests.confined", str(UNIT), "--", sys.executable, "-c", PROBE, str(tmp_path)]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert dict(line.split() for line in told.stdout.splitlines()) == {
        "memory": str(errno.EPERM),
        "family": str(errno.EAFNOSUPPORT),
        "owner": str(errno.EPERM),
        "resource": str(errno.EPERM),
        "set-user-id": str(errno.EPERM),
    }, told.stderr
