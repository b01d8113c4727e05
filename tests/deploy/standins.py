"""Small stand-ins for what rules machines: docker, kubectl, systemctl, apt-get and the like. Nothing is ruled.

Each looks at its arguments as the real one would, against the files of the project: files, services, profiles, objects
and units that are named must be there, options must be known here. A command that a container would run is run.
What is not understood ends with 2, and the test fails.

`python -m tests.deploy.standins docker compose -f deploy/compose.yaml up -d`
"""

import os
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

DEPLOY = Path("deploy")
UNITS = Path("systemd")
TAG = re.compile(r"[a-z0-9./-]+(?::[\w.-]+)?")


class Wrong(Exception):
    """What the real program would not take, or what is not understood here."""


def need(holds: object, why: str) -> None:
    if not holds:
        raise Wrong(why)


def take(words: list[str], *options: str, flags: Sequence[str] = ()) -> dict[str, str]:
    """Take leading options away from `words`: those with a value, those without, `--name=value` too."""
    found: dict[str, str] = {}
    while words and words[0].startswith("-") and words[0] != "--":
        name, equals, value = words.pop(0).partition("=")
        if name in flags:
            found[name] = ""
        elif name in options:
            found[name] = value if equals else words.pop(0)
        else:
            raise Wrong(f"the option {name} is not known here")
    return found


def become(words: list[str]) -> NoReturn:
    """Run what a container would."""
    need(words, "nothing to run")
    os.execvp(words[0], words)


def docker(words: list[str]) -> None:
    verb = words.pop(0)
    if verb == "compose":
        compose(words)
    elif verb == "build":
        given = take(words, "-f", "-t")
        need(Path(given["-f"]).is_file(), f"{given['-f']} is no file")
        need(TAG.fullmatch(given["-t"]), "no name for an image")
        need(len(words) == 1 and Path(words[0]).is_dir(), "one context, a directory")
    elif verb == "run":
        take(words, flags=("--rm", "-it"))
        need(words.pop(0) == "ingester", "not our image")
        become(["ingester", *words])
    else:
        raise Wrong(f"docker {verb}")


def compose(words: list[str]) -> None:
    given = take(words, "-f", "--profile")
    read = yaml.safe_load(Path(given["-f"]).read_text())
    services: dict[str, Any] = read["services"]
    profiles = {one for service in services.values() for one in service.get("profiles", ())}
    need("--profile" not in given or given["--profile"] in profiles, "no such profile")
    verb = words.pop(0)
    if verb in ("up", "logs", "ps", "down", "pull", "restart", "stop"):
        take(words, flags=("-d", "--build", "-f", "--no-deps"))
        need(set(words) <= set(services), f"services: {words}")
    elif verb in ("exec", "run"):
        take(words, flags=("-T", "--rm"))
        service = words.pop(0)
        need(service in services, f"no service {service}")
        become(words if verb == "exec" else ["ingester", *words])
    else:
        raise Wrong(f"docker compose {verb}")


def kubernetes_objects() -> dict[str, set[str]]:
    """Names by kind, in lower case, of all manifests; secrets are made by hand and have an example."""
    found: dict[str, set[str]] = {}
    for file in (DEPLOY / "kubernetes").glob("*.yaml"):
        for one in yaml.safe_load_all(file.read_text()):
            if "metadata" in one:
                found.setdefault(one["kind"].lower(), set()).add(one["metadata"]["name"])
    return found


def kubectl(words: list[str]) -> None:
    objects = kubernetes_objects()
    given = take(words, "-n")
    need(given.get("-n", "ingester") in objects["namespace"], "no such namespace")
    verb = words.pop(0)
    if verb == "apply":
        place = take(words, "-f", "-k")
        need("-f" not in place or Path(place["-f"]).is_file(), "no such file")
        need("-k" not in place or Path(place["-k"], "kustomization.yaml").is_file(), "no kustomization there")
        need(place and not words, "apply -f FILE or -k DIRECTORY")
        return
    need("-n" in given, "without -n it speaks of another namespace")
    if verb == "get":
        need(words in (["pods"], ["service"], ["jobs"]), f"get {words}")
    elif verb == "create":
        kubectl_create(words, objects)
    elif verb == "rollout":
        need(words.pop(0) in ("status", "undo", "restart"), "rollout status, undo or restart")
        named(words[0], objects)
    elif verb == "logs":
        named(words[0], objects)
    elif verb == "delete":
        need([words[0], words[1] in objects[words[0]]] == [words[0], True], f"no {words[:2]}")
        need(set(words[2:]) <= {"--ignore-not-found"}, f"delete {words}")
    elif verb == "exec":
        named(words.pop(0), objects)
        need(words.pop(0) == "--", "-- before the command")
        become(words)
    else:
        raise Wrong(f"kubectl {verb}")


def named(text: str, objects: dict[str, set[str]]) -> None:
    kind, _, name = text.partition("/")
    need(name in objects.get(kind, ()), f"there is no {text}")


def kubectl_create(words: list[str], objects: dict[str, set[str]]) -> None:
    """Only secrets, with the keys of the example."""
    need(words.pop(0) == "secret", "only secrets are made by hand")
    kind, name, *options = words
    need(name in objects["secret"], f"no example of a secret {name}")
    if kind == "generic":
        example = (DEPLOY / "kubernetes" / "secret.example.yaml").read_text()
        (secret,) = (one for one in yaml.safe_load_all(example) if one["metadata"]["name"] == name)
        pairs = [one.removeprefix("--from-literal=").partition("=") for one in options]
        need({key for key, _, _ in pairs} == set(secret["stringData"]), "not the keys of the example")
        need(all(value for _, _, value in pairs), "an empty value")
    else:
        need([one.partition("=")[0] for one in options] == ["--cert", "--key"], "tls takes --cert and --key")


def units(words: list[str]) -> None:
    for name in words:
        file = UNITS / (name if "." in name else f"{name}.service")
        need(file.is_file(), f"there is no unit {file}")


def systemctl(words: list[str]) -> None:
    verb = words.pop(0)
    if verb == "daemon-reload":
        need(not words, "daemon-reload takes nothing")
        return
    known = ("start", "stop", "restart", "reload", "status", "enable", "disable", "try-restart", "is-active", "edit")
    need(verb in known, f"systemctl {verb}")
    take(words, flags=("--now", "--no-block"))
    need(words, "no unit")
    units(words)


def journalctl(words: list[str]) -> None:
    given = take(words, "-u", "--since", "-n", "-o", flags=("-f", "-e"))
    units([given["-u"]])


def pip(words: list[str]) -> None:
    """Only ourselves, with extras that exist."""
    need(words.pop(0) == "install", "pip install")
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    for word in words:
        found = re.fullmatch(r"(?:ingester|\.)(?:\[([a-z0-9,]+)\])?", word)
        need(found, f"what is {word}?")
        extras = (found[1] or "").split(",") if found else []
        need({one for one in extras if one} <= set(project["optional-dependencies"]), f"no extra {word}")


def python3(words: list[str]) -> None:
    """Of `-m venv` only the directory, with a pip in it that is the one above, and what it would install."""
    if words[:2] != ["-m", "venv"]:
        os.execv(sys.executable, [sys.executable, *words])
    (place,) = words[2:]
    programs = Path(place, "bin")
    programs.mkdir(parents=True)
    for name in ("pip", "ingester"):
        (programs / name).write_text(f'#!/bin/sh\nexec {name} "$@"\n')
        (programs / name).chmod(0o755)


def apt_get(words: list[str]) -> None:
    take(words, flags=("-y", "--yes"))
    need(words.pop(0) in ("install", "update"), "apt-get install or update")
    take(words, flags=("-y", "--yes", "--no-install-recommends"))
    need(all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", word) for word in words), f"packages: {words}")


def aws(words: list[str]) -> None:
    """One command of one page, whose shape is Amazon's documentation."""
    need(words[:2] == ["sns", "set-topic-attributes"], f"aws {words[:2]}")
    given = take(words[2:], "--topic-arn", "--attribute-name", "--attribute-value")
    need(given["--topic-arn"].startswith("arn:aws:sns:"), "no topic")
    need((given["--attribute-name"], given["--attribute-value"]) == ("SignatureVersion", "2"), "another attribute")


def useradd(words: list[str]) -> None:
    take(words, "--home-dir", "--home", "--shell", flags=("--system", "--user-group", "--no-create-home", "-r"))
    need(words == ["ingester"], "another user")


def install(words: list[str]) -> None:
    """The real one, without the owners: they are none here."""
    kept: list[str] = []
    while words:
        word = words.pop(0)
        if word in ("-o", "-g"):
            need(words.pop(0) in ("ingester", "root"), "another owner")
        elif not word.startswith(("--owner=", "--group=")):
            kept.append(word)
    os.execv("/usr/bin/install", ["install", *kept])


def chown(words: list[str]) -> None:
    take(words, flags=("-R",))
    need(set(words.pop(0).split(":")) <= {"ingester", "root", "10001", ""}, "another owner")
    need(words and all(Path(word).exists() for word in words), f"no such files: {words}")


def systemd_analyze(words: list[str]) -> None:
    """That the units pass is shown elsewhere, with the real one; here the files must be there."""
    need(words.pop(0) in ("verify", "security"), "verify or security")
    take(words, flags=("--offline", "--threshold", "--no-pager"))
    need(words, "no unit")
    for word in words:
        need(Path(word).is_file() or (UNITS / word).is_file(), f"there is no {word}")


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "apt-get": apt_get,
    "aws": aws,
    "chown": chown,
    "docker": docker,
    "install": install,
    "journalctl": journalctl,
    "kubectl": kubectl,
    "pip": pip,
    "python3": python3,
    "sudo": become,
    "systemctl": systemctl,
    "systemd-analyze": systemd_analyze,
    "useradd": useradd,
}


def main(name: str, words: list[str]) -> int:
    try:
        PROGRAMS[name](words)
    except (Wrong, IndexError, KeyError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
