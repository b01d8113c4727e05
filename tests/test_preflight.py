"""What keeps a daemon from starting: addresses that two doors want, held against what the kernel says."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingester import preflight
from ingester.settings import Settings, load
from ingester.transport.sockets import bind
from tests.ports import free_port


def settings_of(first: str, second: str) -> Settings:
    return load({"INGESTER_SMTP__LISTEN": first, "INGESTER_METRICS__LISTEN": second, "INGESTER_ENV": "development"})


def kernel_refuses(settings: Settings) -> bool:
    """Whether both cannot be listened on, each by a socket that shares nothing."""
    with ExitStack() as stack:
        try:
            for where in (settings.smtp.listen, settings.metrics.listen):
                for sock in bind(where, reuse_port=False):
                    stack.enter_context(sock)
                    sock.listen()
        except OSError:
            return True
    return False


PAIRS: Sequence[tuple[str, str, bool]] = (
    ("127.0.0.1:{a}", "127.0.0.1:{a}", True),
    ("127.0.0.1:{a}", "127.0.0.1:{b}", False),
    ("127.0.0.1:{a}", "127.0.0.2:{a}", False),
    ("127.0.0.1:{a}", "[::1]:{a}", False),
    ("0.0.0.0:{a}", "127.0.0.1:{a}", True),
    ("0.0.0.0:{a}", "[::1]:{a}", False),
    ("[::]:{a}", "127.0.0.1:{a}", True),
    ("[::]:{a}", "[::1]:{a}", True),
    ("127.0.0.1:0", "127.0.0.1:0", False),
)


@pytest.mark.parametrize(("first", "second", "meet"), PAIRS)
def test_two_doors_on_one_address(first: str, second: str, meet: bool) -> None:
    ports = {"a": free_port(), "b": free_port()}
    settings = settings_of(first.format(**ports), second.format(**ports))
    said = list(preflight.listeners(settings))
    assert bool(said) is meet
    assert kernel_refuses(settings) is meet
    assert all("INGESTER_SMTP__LISTEN and INGESTER_METRICS__LISTEN want the same address twice" in one for one in said)


def test_one_door_may_have_both_families() -> None:
    port = free_port()
    settings = load({"INGESTER_SMTP__LISTEN": f"[::]:{port},0.0.0.0:{port}", "INGESTER_ENV": "development"})
    assert list(preflight.listeners(settings)) == []
    twice = load({"INGESTER_SMTP__LISTEN": f"[::]:{port},[::]:{port}", "INGESTER_ENV": "development"})
    (said,) = preflight.listeners(twice)
    assert said.startswith("INGESTER_SMTP__LISTEN wants the same address twice")


def test_a_door_that_is_held_already_is_not_tried(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        where = f"127.0.0.1:{held.getsockname()[1]}"
        settings = load({"INGESTER_SMTP__LISTEN": where, "INGESTER_ENV": "development"})
        assert list(preflight.listeners(settings, held={"smtp"})) == []
        assert len(list(preflight.listeners(settings))) == 1


def test_a_sound_configuration_has_no_fault() -> None:
    environ = {
        "INGESTER_DATABASE_URL": "postgresql://u:p@h/d",
        "INGESTER_REPLY_TOKEN_SECRETS": "x" * 32,
        "INGESTER_DNS__NAMESERVERS": "127.0.0.1:5353",
        "INGESTER_SMTP__LISTEN": f"127.0.0.1:{free_port()}",
    }
    assert preflight.faults(load(environ)) == []


def test_a_directory_of_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made, but nothing above it; no object store is asked for."""

    def said(path: str) -> list[str]:
        settings = load({"INGESTER_BLOBS": f"file://{tmp_path}{path}", "INGESTER_ENV": "development"})
        assert list(preflight.objects(settings)) == []
        return [one.replace(str(tmp_path), "") for one in preflight.segments(settings)]

    (tmp_path / "file").touch()
    assert said("/new") == said("") == []
    assert not (tmp_path / "new").exists()
    assert said("/a/b") == ["INGESTER_BLOBS: /a is no directory: make it, or mount its disk"]
    assert said("/file") == ["INGESTER_BLOBS: /file is no directory: remove it, or name another"]
    monkeypatch.setattr("os.access", lambda *_: False)
    for path in ("/new", ""):
        (one,) = said(path)
        assert one.startswith("INGESTER_BLOBS: this user may not write to : change its owner or mode")
    assert list(preflight.segments(load({"INGESTER_ENV": "development"}))) == []
