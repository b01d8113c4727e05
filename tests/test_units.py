"""The units of systemd: sound, hardened, and in agreement with the settings and the supervisor."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ingester.settings import Settings
from ingester.supervisor import DOORS
from ingester.supervisor.supervising import GRACE_SECONDS
from tests.confined import analyze, options
from tests.daemon import ROOT

UNITS = ROOT / "systemd"
SERVICES = ("ingester.service", "ingester-migrate.service")
SOCKETS = {"ingester.socket": "smtp", "ingester-http.socket": "http", "ingester-lmtp.socket": "lmtp"}
EXPOSURE = 20
"""Tenths: what the issue allows at most."""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command, _ = analyze()
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)


def test_they_are_sound(tmp_path: Path) -> None:
    """`systemd-analyze verify` of a system that has nothing but them and what they need."""
    _, own = analyze()
    shutil.copytree(own, tmp_path / "usr/lib/systemd/system", symlinks=True)
    shutil.copytree(UNITS, tmp_path / "etc/systemd/system")
    (tmp_path / "lib").symlink_to("usr/lib")
    for name in ("opt/ingester/current/bin/ingester", "bin/kill"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    done = run("verify", "--man=no", f"--root={tmp_path}", *SERVICES, *SOCKETS)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", SERVICES)
def test_they_are_hardened(unit: str) -> None:
    done = run("security", "--offline=yes", f"--threshold={EXPOSURE}", "--no-pager", str(UNITS / unit))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


@pytest.mark.parametrize(("unit", "door"), SOCKETS.items())
def test_sockets_are_named_like_doors(unit: str, door: str) -> None:
    assert options(UNITS / unit)["FileDescriptorName"] == [door]
    assert door in DOORS
    named = options(UNITS / "ingester.service")["Sockets"][0].split()
    assert unit in named or options(UNITS / unit)["Service"] == ["ingester.service"]


@pytest.mark.parametrize("unit", SERVICES)
def test_credentials_are_settings(unit: str) -> None:
    names = [value.partition(":")[0] for value in options(UNITS / unit)["LoadCredential"]]
    assert names
    assert set(names) <= set(Settings.model_fields)


def test_times_agree_with_the_settings() -> None:
    """systemd must not kill a daemon that still drains, nor one whose supervisor is just about to help itself."""
    service = options(UNITS / "ingester.service")
    said = dict(value.split("=") for value in service["Environment"])
    assert float(service["TimeoutStopSec"][0]) > float(said["INGESTER_DRAIN_SECONDS"]) + GRACE_SECONDS
    assert float(service["WatchdogSec"][0]) > float(Settings.model_fields["watchdog_seconds"].default)


def test_the_page_names_units_that_exist() -> None:
    named = set(re.findall(r"ingester[a-z-]*\.(?:service|socket)", (ROOT / "deploy/systemd.md").read_text()))
    assert named == {path.name for path in UNITS.iterdir()}
