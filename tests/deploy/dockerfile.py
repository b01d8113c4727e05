"""A Dockerfile, read and carried out in a plain directory: what can be known of an image where no Docker runs.

Of `FROM` nothing is fetched: this machine and a fresh environment stand for the base image. Absolute paths of the image
lie below a directory of the test. What adds users is not run.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 600
_PATHS = ("/src", "/opt/ingester")


@dataclass(slots=True, kw_only=True)
class Stage:
    """One `FROM` and what follows it, comments and continued lines resolved."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, verb: str) -> list[str]:
        return [words for found, words in self.steps if found == verb]

    def one(self, verb: str) -> str:
        (words,) = self.all(verb)
        return words

    @property
    def environment(self) -> dict[str, str]:
        pairs = re.findall(r"(\w+)=(\S+)", " ".join(self.all("ENV")))
        return dict(pairs)


def stages(file: Path) -> list[Stage]:
    """The stages of a file, in order."""
    text = "\n".join(line for line in file.read_text().split("\n") if not line.startswith("#"))
    found: list[Stage] = []
    for line in text.replace("\\\n", " ").split("\n"):
        verb, _, words = line.strip().partition(" ")
        if verb == "FROM":
            base, _, name = words.partition(" AS ")
            found.append(Stage(base=base, name=name))
        elif verb:
            found[-1].steps.append((verb, " ".join(words.split())))
    return found


def context(project: Path, ignore: Path, into: Path) -> Path:
    """What Docker would be sent: `.dockerignore` begins with `*` and lets some names in again."""
    lines = [line for line in ignore.read_text().split("\n") if line and not line.startswith("#")]
    assert lines[0] == "*", "everything is left out, but for what is named"
    left_out = [line.removeprefix("**/") for line in lines[1:] if not line.startswith("!")]
    into.mkdir()
    for line in lines:
        if line.startswith("!"):
            source = project / line[1:]
            if source.is_dir():
                shutil.copytree(source, into / source.name, ignore=shutil.ignore_patterns(*left_out))
            else:
                shutil.copy(source, into)
    return into


def carry_out(stage: Stage, *, sent: Path, root: Path) -> Path:
    """Do what a stage says: WORKDIR, ENV, COPY from the context, RUN. Gives the directory that stands for `/`."""
    subprocess.run([base_python(), "-m", "venv", root / "base"], check=True, timeout=SECONDS)
    here = root
    for verb, words in stage.steps:
        if verb == "WORKDIR":
            here = root / words.lstrip("/")
            here.mkdir(parents=True)
        elif verb == "COPY":
            *sources, target = words.split()
            for source in sources:
                _copy(sent / source, here / target)
        elif verb == "RUN":
            _run(below(words, root), here, stage.environment, root)
        else:
            assert verb == "ENV", f"{verb} is not understood here"
    return root


def base_python() -> str:
    """The system's own Python where it will do: every account may run it. Else this one."""
    probe = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    done = subprocess.run(["/usr/bin/env", "-i", "/usr/bin/python3", "-c", probe], capture_output=True)
    return "/usr/bin/python3" if done.returncode == 0 else sys.executable


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def _run(command: str, cwd: Path, settings: Mapping[str, str], root: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("INGESTER_", "UV_"))}
    kept = {name: value for name, value in os.environ.items() if name in ("UV_CACHE_DIR", "UV_DEFAULT_INDEX")}
    environment |= kept | {name: below(value, root) for name, value in settings.items()}
    environment |= {"PATH": f"{root / 'base/bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": ""}
    environment["UV_PYTHON"] = str(root / "base/bin/python")
    done = subprocess.run(["sh", "-ec", command], cwd=cwd, env=environment, capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, f"{command}\n{done.stderr.decode(errors='replace')[-2000:]}"


def below(text: str, root: Path) -> str:
    """The image's paths as those of the directory that stands for it."""
    for path in _PATHS:
        text = re.sub(rf"(?<![\w/]){path}\b", str(root) + path, text)
    return text


def words_of(exec_form: str) -> list[str]:
    """`["a", "b"]` of ENTRYPOINT, CMD and HEALTHCHECK."""
    return list(_strings(exec_form))


def _strings(text: str) -> Iterator[str]:
    yield from re.findall(r'"([^"]*)"', text)
