"""Linters of other people's formats, which the extra `dev` brings along."""

import subprocess
import sys
from pathlib import Path


def tool(name: str, *words: object) -> str:
    """Run one, which must find nothing, and give what it says."""
    program = Path(sys.executable).with_name(name)
    done = subprocess.run([str(program), *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
