"""The image: hadolint takes the Dockerfile, its steps are carried out, and what comes out serves as it says."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingester import __version__
from ingester.settings import load
from tests import mta
from tests.daemon import Daemon, Town, _running, clean_environment
from tests.deploy.dockerfile import base_python, below, carry_out, context, stages, words_of
from tests.deploy.tools import tool
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
BUILD, IMAGE = stages(DOCKERFILE)
USER = 10001
LOOK = """
import errno, os, sys
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FREE = ("/tmp/ingester-", "/dev/")
def _look(event, arguments):
    if event == "open":
        path, _, flags = arguments
        writes = bool(flags & _WRITING)
    else:
        path, writes = arguments[0] if arguments else None, event in _CHANGES
    if writes and isinstance(path, str) and not os.path.abspath(path).startswith(_FREE):
        raise OSError(errno.EROFS, "the root file system is read-only", path)
_CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "os.truncate")
sys.addaudithook(_look)
"""
"""A read-only root file system, as far as Python writes. `/tmp` is the image's tmpfs, `/dev/shm` is one everywhere."""


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The first stage, carried out in a directory that every account may enter; the second takes nothing else."""
    root = Path(tempfile.mkdtemp(prefix="ingester-image-"))
    root.chmod(0o755)
    try:
        sent = context(ROOT, ROOT / ".dockerignore", root / "context")
        yield carry_out(BUILD, sent=sent, root=root)
    finally:
        shutil.rmtree(root)


def environment(image: Path, **more: str) -> dict[str, str]:
    """What a process of the image sees, with read-only files."""
    (image / "look").mkdir(exist_ok=True)
    (image / "look" / "sitecustomize.py").write_text(LOOK)
    kept = {name: value for name, value in clean_environment().items() if name == "INGESTER_DNS__NAMESERVERS"}
    given = {name: below(value, image) for name, value in IMAGE.environment.items()}
    given["PATH"] = given["PATH"].replace("$PATH", "/usr/bin:/bin")
    return kept | given | {"PYTHONPATH": str(image / "look")} | more


def as_its_user() -> list[str]:
    """What becomes the image's user, where this process may."""
    if os.geteuid() != 0 or base_python() == sys.executable:
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]


def run(image: Path, words: list[str], settings: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [*as_its_user(), program(words[0], settings), *words[1:]]
    return subprocess.run(command, env=settings, cwd="/", capture_output=True, text=True, timeout=60)


def program(name: str, settings: dict[str, str]) -> str:
    found = shutil.which(name, path=settings["PATH"])
    assert found is not None, f"{name} is not in the image"
    return found


def test_hadolint_takes_the_dockerfile() -> None:
    tool("hadolint", DOCKERFILE)


def test_what_is_sent_is_small(tmp_path: Path) -> None:
    """No test, no history, no environment, no secret of deploy/."""
    sent = context(ROOT, ROOT / ".dockerignore", tmp_path / "context")
    assert {one.name for one in sent.iterdir()} == {"pyproject.toml", "uv.lock", "README.md", "LICENSE", "ingester"}
    assert not list(sent.rglob("__pycache__"))
    assert sum(one.stat().st_size for one in sent.rglob("*")) < 8 << 20


def test_the_image_says_who_and_where_it_is() -> None:
    """A number as user, so that Kubernetes sees that it is not root; ports, labels, and a shell nowhere."""
    assert BUILD.base == IMAGE.base
    assert IMAGE.one("USER") == f"{USER}:{USER}"
    assert set(re.findall(r"--[ug]id (\d+)", IMAGE.one("RUN"))) == {str(USER)}
    assert IMAGE.one("COPY") == f"--from={BUILD.name} /opt/ingester /opt/ingester"
    assert IMAGE.one("STOPSIGNAL") == "SIGTERM"
    settings = load({name: value for name, value in IMAGE.environment.items() if name.startswith("INGESTER_")})
    ports = {one.port for one in (*settings.smtp.listen, *settings.metrics.listen)}
    assert ports <= set(map(int, IMAGE.one("EXPOSE").split()))
    assert min(ports) > 1024
    for label in ("title", "description", "licenses"):
        assert f"org.opencontainers.image.{label}=" in IMAGE.one("LABEL")
    description = re.search(r'image\.description="([^"]*)"', IMAGE.one("LABEL"))
    assert description is not None
    assert f'description = "{description[1]}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.long
def test_the_program_is_there(image: Path) -> None:
    """Of the version of this tree, with object stores and traces, and nothing that only tests need."""
    done = run(image, [*words_of(IMAGE.one("ENTRYPOINT")), "--version"], environment(image))
    assert done.stdout.split()[-1] == __version__, done.stderr
    probe = "import obstore, opentelemetry.sdk, ingester; print(ingester.__file__)"
    done = run(image, ["python", "-c", probe], environment(image))
    assert done.stdout.startswith(str(image / "opt/ingester")), done.stderr
    assert run(image, ["python", "-c", "import pytest"], environment(image)).returncode == 1


@pytest.mark.long
def test_it_serves_from_a_read_only_file_system_and_drains(image: Path, acme: Town, tmp_path: Path) -> None:
    """With the settings of production, as the image's user: mail is taken, the health check knows, SIGTERM ends it."""
    smtp, operators = free_port(), free_port()
    secret = "of the tests and long enough to be taken for one"
    settings = environment(
        image,
        INGESTER_DATABASE_URL=acme.url,
        INGESTER_REPLY_TOKEN_SECRETS=secret,
        INGESTER_WORKERS="2",
        INGESTER_SMTP__LISTEN=f"[::]:{smtp}",
        INGESTER_METRICS__LISTEN=f"[::]:{operators}",
    )
    words = [*words_of(IMAGE.one("ENTRYPOINT")), *words_of(IMAGE.one("CMD"))]
    command = [*as_its_user(), program(words[0], settings), *words[1:]]
    check = words_of(IMAGE.one("HEALTHCHECK").partition("CMD")[2])
    assert run(image, check, settings).returncode == 1
    with _running(command, settings, smtp) as daemon:
        daemon.wait_event("serving", times=2)
        assert run(image, check, settings).returncode == 0, run(image, check, settings).stderr
        assert run(image, [*check, "--ready"], settings).returncode == 0
        mails = mta.letters(10)
        assert mta.send(daemon.port, mails).count("2") == len(mails)
        assert acme.count("messages") == len(mails)
        _assert_its_user(daemon)
        assert daemon.terminate() == 0
        assert not [line for line in daemon.raw if "read-only" in line]
    assert run(image, check, settings).returncode == 1


def _assert_its_user(daemon: Daemon) -> None:
    if as_its_user():
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        assert re.search(rf"^Uid:\t{USER}\t", status, re.MULTILINE)


@pytest.mark.long
def test_the_look_is_a_read_only_file_system(image: Path, tmp_path: Path) -> None:
    """What the test above relies on."""
    probe = f"open({str(tmp_path / 'x')!r}, 'w')"
    done = run(image, ["python", "-c", probe], environment(image))
    assert "read-only" in done.stderr
