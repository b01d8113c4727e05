"""`serve` with bad configurations: refused at start, in one clear sentence for each fault, all faults at once.

The real process is started where it is the point; else the command is called here. No database is there: what is bad
is said before anybody asks one.
"""

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingester.cli import main
from tests.daemon import ROOT, clean_environment
from tests.e2e.certificates import write_pair
from tests.ports import free_port

pytestmark = pytest.mark.thorough

SOUND = {
    "INGESTER_DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/nowhere",
    "INGESTER_REPLY_TOKEN_SECRETS": "of the tests and long enough to be taken for one",
}
FIRST_LINE = "Error: The settings cannot be used:"
LINKS = {
    "INGESTER_PORT": "tcp://10.0.0.1:25",
    "INGESTER_SERVICE_HOST": "10.0.0.1",
    "INGESTER_SERVICE_PORT": "25",
    "INGESTER_SERVICE_PORT_SMTP": "25",
    "INGESTER_PORT_25_TCP": "tcp://10.0.0.1:25",
    "INGESTER_PORT_25_TCP_PROTO": "tcp",
    "INGESTER_PORT_25_TCP_PORT": "25",
    "INGESTER_PORT_25_TCP_ADDR": "10.0.0.1",
}
"""What the kubelet puts into every pod beside a Service named ingester."""
_PR_CAPBSET_DROP, _CAP_NET_BIND_SERVICE = 24, 10


Refused = Callable[[dict[str, str]], list[str]]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Call `serve` with these settings; the sentences with which it ends."""

    def call(settings: dict[str, str]) -> list[str]:
        for name in [one for one in os.environ if one.startswith("INGESTER_")]:
            monkeypatch.delenv(name)
        for name, value in _environment(settings).items():
            monkeypatch.setenv(name, value)
        done = CliRunner().invoke(main, ["serve"])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return _sentences(done.exit_code, done.stdout, done.stderr)

    def would_start(*_: object, **__: object) -> None:
        raise AssertionError("it would start")

    monkeypatch.setattr("ingester.telemetry.configure", would_start)
    return call


def refused_at_start(settings: dict[str, str], *, rights: bool = True) -> list[str]:
    """The same of a real process. Without `rights` even root may not bind below 1024."""
    done = subprocess.run(
        [sys.executable, "-m", "ingester", "serve"],
        cwd=ROOT,
        env=_environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=None if rights else _without_rights,
    )
    return _sentences(done.returncode, done.stdout, done.stderr)


def _environment(settings: dict[str, str]) -> dict[str, str]:
    environment = clean_environment() | SOUND | settings
    return {name: value for name, value in environment.items() if value != "unset"}


def _sentences(status: int, out: str, err: str) -> list[str]:
    assert status == 1, out + err
    first, *sentences = err.splitlines()
    assert first == FIRST_LINE
    assert not out
    return [sentence.strip() for sentence in sentences]


def _without_rights() -> None:
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_NET_BIND_SERVICE, 0, 0, 0)


@pytest.fixture
def listen() -> str:
    return f"127.0.0.1:{free_port()}"


BAD: dict[str, tuple[dict[str, str], str]] = {
    "no database": ({"INGESTER_DATABASE_URL": "unset"}, "INGESTER_DATABASE_URL is not set"),
    "no secret": ({"INGESTER_REPLY_TOKEN_SECRETS": "unset"}, "INGESTER_REPLY_TOKEN_SECRETS is not set: production"),
    "a short secret": ({"INGESTER_REPLY_TOKEN_SECRETS": "short"}, "(entry 1): needs at least 32 characters"),
    "HTTP without a token": ({"INGESTER_HTTP__LISTEN": "127.0.0.1:0"}, "INGESTER_HTTP__LISTEN needs INGESTER_INBOUND"),
    "certificate without a key": ({"INGESTER_SMTP__TLS_CERT": "/x.pem"}, "go together: set both or neither"),
    "certificate absent": (
        {"INGESTER_SMTP__TLS_CERT": "/nowhere/x.pem", "INGESTER_SMTP__TLS_KEY": "/nowhere/x.key"},
        "INGESTER_SMTP__TLS_CERT and INGESTER_SMTP__TLS_KEY: cannot use the certificate /nowhere/x.pem",
    ),
    "name server by name": ({"INGESTER_DNS__NAMESERVERS": "dns.test:53"}, "INGESTER_DNS__NAMESERVERS must name IP"),
    "two doors, one address": (
        {
            "INGESTER_HTTP__LISTEN": "127.0.0.1:18181",
            "INGESTER_METRICS__LISTEN": "127.0.0.1:18181",
            "INGESTER_INBOUND_TOKEN": "of the tests, for whoever hands in mail",
        },
        "INGESTER_HTTP__LISTEN and INGESTER_METRICS__LISTEN want the same address twice",
    ),
    "one door covers another": (
        {"INGESTER_LMTP__LISTEN": "127.0.0.1:18182", "INGESTER_METRICS__LISTEN": "[::]:18182"},
        "INGESTER_LMTP__LISTEN and INGESTER_METRICS__LISTEN want the same address twice",
    ),
    "address of another host": ({"INGESTER_SMTP__LISTEN": "192.0.2.77:2525"}, "192.0.2.77 is no address of this host"),
    "address without a port": ({"INGESTER_SMTP__LISTEN": "127.0.0.1"}, "INGESTER_SMTP__LISTEN (entry 1): must be host"),
    "unix socket nowhere": ({"INGESTER_LMTP__LISTEN": "unix:/nowhere/lmtp"}, "/nowhere is no directory: make it"),
    "no such group": (
        {"INGESTER_LMTP__LISTEN": "unix:/dev/shm/ingester-bad", "INGESTER_LMTP__SOCKET_GROUP": "nobody-at-all"},
        "INGESTER_LMTP__SOCKET_GROUP names no group of this host (nobody-at-all)",
    ),
    "blobs without an account": ({"INGESTER_BLOBS": "az://mail"}, "INGESTER_BLOBS cannot be used: it lacks an account"),
    "a word misspelt": ({"INGESTER_SMTP__LISTN": "[::]:25"}, "did you mean INGESTER_SMTP__LISTEN?"),
    "no workers": ({"INGESTER_WORKERS": "0"}, "INGESTER_WORKERS: Input should be greater than or equal to 1"),
    "fault points": ({"INGESTER_TEST_FAULTS": "commit:kill"}, "INGESTER_TEST_FAULTS is refused in production"),
    "no file": ({"INGESTER_CONFIG": "/nowhere.toml"}, "/nowhere.toml cannot be read as a TOML file: No such file"),
    "a port of Kubernetes": (
        {"INGESTER_PORT": "tcp://10.0.0.1:25"},
        "INGESTER_PORT comes from Kubernetes, which tells a pod of every Service so: set `enableServiceLinks: false`",
    ),
    "all links of Kubernetes": (LINKS, "INGESTER_PORT and 7 more come from Kubernetes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_configuration_is_refused_in_one_sentence(refused: Refused, listen: str, name: str) -> None:
    settings, sentence = BAD[name]
    said = refused({"INGESTER_SMTP__LISTEN": listen} | settings)
    assert len(said) == 1, said
    assert sentence in said[0]


def test_a_key_of_another_certificate(refused: Refused, listen: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pair, other = write_pair(tmp_path), write_pair(tmp_path / "other")
    settings = pair.settings | {"INGESTER_SMTP__TLS_KEY": str(other.key)}
    (said,) = refused({"INGESTER_SMTP__LISTEN": listen} | settings)
    assert "KEY_VALUES_MISMATCH" in said


def test_a_port_that_is_taken(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        (said,) = refused({"INGESTER_SMTP__LISTEN": where})
    assert said.startswith(f"INGESTER_SMTP__LISTEN: another program listens on {where}: stop it")


def test_a_port_below_1024_without_rights() -> None:
    """Some containers let everybody bind any port: then this is no fault."""
    bound = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    privileged = not bound.exists() or int(bound.read_text()) > 1
    bad = {"INGESTER_SMTP__LISTEN": "127.0.0.1:1", "INGESTER_WORKERS": "0"}
    workers, *ports = refused_at_start(bad, rights=False)
    assert workers.startswith("INGESTER_WORKERS: ")
    assert len(ports) == privileged
    for said in ports:
        assert said.startswith("INGESTER_SMTP__LISTEN: port 1 is below 1024 and needs a right that this user lacks")
        assert "CAP_NET_BIND_SERVICE" in said
        assert "systemd/ingester.socket" in said


def test_an_extra_that_is_not_installed(refused: Refused, listen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if obstore were not there: a module that is None in `sys.modules` cannot be found."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    (said,) = refused({"INGESTER_BLOBS": "s3://mail", "INGESTER_SMTP__LISTEN": listen})
    assert said.endswith("Object stores need an extra: pip install 'ingester[s3]'")


def test_all_faults_are_told_at_once_and_none_twice(tmp_path: Path) -> None:
    """Those of single values, of values together, and of what they name; a value that is faulty is not judged again."""
    said = refused_at_start(
        LINKS
        | {
            "INGESTER_DATABASE_URL": "unset",
            "INGESTER_REPLY_TOKEN_SECRETS": "unset",
            "INGESTER_WORKERS": "0",
            "INGESTER_SMTP__LISTEN": "25",
            "INGESTER_HTTP__LISTEN": "192.0.2.77:80",
            "INGESTER_LMTP__LISTEN": "unix:/nowhere/lmtp",
            "INGESTER_SMTP__TLS_CERT": str(tmp_path / "absent.pem"),
            "INGESTER_SMTP__TLS_KEY": str(tmp_path / "absent.key"),
            "INGESTER_DNS__NAMESERVERS": "dns.test:53",
            "INGESTER_BLOBS": "az://mail",
            "INGESTER_MAX_BYTES_IN_FLIGHT": "1048576",
            "INGESTER_SPAM__URL": "hushhush",
            "INGESTER_UNKNOWN": "hushhush",
        }
    )
    expected = [
        "INGESTER_UNKNOWN is not a setting",
        "INGESTER_PORT and 7 more come from Kubernetes",
        "INGESTER_WORKERS: ",
        "INGESTER_SMTP__LISTEN (entry 1): ",
        "INGESTER_SPAM__URL: ",
        "INGESTER_HTTP__LISTEN needs INGESTER_INBOUND_TOKEN",
        "INGESTER_MAX_BYTES_IN_FLIGHT must hold",
        "INGESTER_DATABASE_URL is not set",
        "INGESTER_REPLY_TOKEN_SECRETS is not set",
        "INGESTER_SMTP__TLS_CERT and INGESTER_SMTP__TLS_KEY: ",
        "INGESTER_DNS__NAMESERVERS must name",
        "INGESTER_BLOBS cannot be used",
        "INGESTER_LMTP__LISTEN: ",
        "INGESTER_HTTP__LISTEN: 192.0.2.77 is no address",
    ]
    assert len(said) == len(expected), said
    assert all(sentence.startswith(begin) for sentence, begin in zip(said, expected, strict=True)), said
    assert "hush" not in "".join(said)
    assert os.environ.get("INGESTER_UNKNOWN") is None
