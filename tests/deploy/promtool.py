"""Debian's promtool, installed or fetched: the judge of everything that Prometheus reads."""

import shutil
import subprocess
from pathlib import Path

from tests.clients import unpack

SECONDS = 120


def promtool(*words: object) -> "subprocess.CompletedProcess[str]":
    """Run it and give what it says; the caller looks at the status. Skips the test where it cannot be had."""
    program = shutil.which("promtool") or str(unpack(("prometheus",)) / "usr/bin/promtool")
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=SECONDS)


def check(*words: object) -> str:
    """The same where nothing less than a yes will do."""
    done = promtool(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules_of(expressions: "list[str]", place: Path) -> Path:
    """A file of recording rules out of these expressions: promtool of Debian has no other way to parse one."""
    lines = ["groups:", "- name: expressions", "  rules:"]
    for number, one in enumerate(expressions):
        lines += [f"  - record: expression_{number}", "    expr: |", f"      {one}"]
    place.write_text("\n".join(lines) + "\n")
    return place
