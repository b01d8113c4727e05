"""Where settings come from: the command line, the environment (`INGESTER_*`, nested with `__`), the TOML file
(`INGESTER_CONFIG`), the defaults, in this order. The only module that reads the environment.

All faults are reported at once, each naming the setting to change and never the value, which may be a secret.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from ingester.settings.kinds import Group
from ingester.settings.model import PREFIX, Settings

TEST_PREFIX: Final = "INGESTER_TEST_"
CONFIG: Final = "INGESTER_CONFIG"
LEGACY_TOKEN_SECRET: Final = "OPENSEND_REPLY_TOKEN_SECRET"  # noqa: S105  (the name of a variable)


class SettingsError(Exception):
    """The settings are not usable; the text lists every fault, one a line."""


class _Environment(EnvSettingsSource):
    """The environment as an argument instead of the process's own."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items()}


def load(environ: Mapping[str, str] | None = None, *, file: Path | None = None, **override: Any) -> Settings:
    """Read the settings. `override` (from the command line) wins over the environment, dotted names with `__`.

    An empty variable counts as unset. Raises SettingsError with every fault.
    """
    env = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
    faults: list[str] = []
    values = _file(file or (Path(env[CONFIG]) if CONFIG in env else None), faults)
    ours = {_canonical(name): value for name, value in env.items() if name.startswith(PREFIX)}
    known = set(_names(Settings, PREFIX))
    unknown = ours.keys() - known - {CONFIG, "INGESTER_CORPORA"}
    faults += [_unknown(name, known) for name in sorted(unknown) if not name.startswith(TEST_PREFIX)]
    _merge(values, _Environment({name: ours[name] for name in ours.keys() & known})())
    if LEGACY_TOKEN_SECRET in env:
        values.setdefault("reply_token_secrets", [env[LEGACY_TOKEN_SECRET]])
    for name, value in override.items():
        if value is not None:
            _merge(values, _nest(name.split("__"), value))
    if values.get("env", "production") == "production":
        armed = {TEST_PREFIX + name.upper() for name in values.get("test", {})}
        armed |= {name for name in env if name.startswith(TEST_PREFIX)}
        faults += [f"{name} is refused in production: INGESTER_ENV=development allows it" for name in sorted(armed)]
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError("\n".join([*faults, *_sentences(error)])) from None
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _file(path: Path | None, faults: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb"):  # the source takes a file that is not there for an empty one
            return dict(TomlConfigSettingsSource(Settings, path)())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        faults.append(f"{path} cannot be read as a TOML file: {reason}")
        return {}


def _canonical(name: str) -> str:
    """`INGESTER_TEST_FAULTS` is `test.faults`, as if it had two underscores."""
    return name if not name.startswith(TEST_PREFIX) else f"{PREFIX}TEST__{name.removeprefix(TEST_PREFIX).lstrip('_')}"


def _names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Every name that the environment may set."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            yield from _names(kind, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper()


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"{name} is not a setting: " + (f"did you mean {near[0]}?" if near else "remove it")


def _nest(path: list[str], value: object) -> dict[str, Any]:
    return {path[0]: _nest(path[1:], value) if path[1:] else value}


def _merge(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        if isinstance(value, Mapping) and isinstance(under.get(name), dict):
            _merge(under[name], value)
        else:
            under[name] = value


def _sentences(error: ValidationError) -> Iterator[str]:
    """One sentence a fault. The value given is never printed: it may be a secret."""
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        message = fault["msg"].removeprefix("Value error, ")
        if message.startswith(PREFIX):
            yield from message.split("\n")
            continue
        steps = [step.upper() for step in fault["loc"] if isinstance(step, str)]
        entry = next((f" (entry {step + 1})" for step in fault["loc"] if isinstance(step, int)), "")
        name = PREFIX + "__".join(steps).replace("TEST__", "TEST_", 1)
        if fault["type"] == "extra_forbidden":
            yield f"{name} is not a setting: remove it from the file"
        else:
            yield f"{name}{entry}: {message}"
