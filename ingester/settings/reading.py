"""Where settings come from: the command line, the environment (`INGESTER_*`, nested with `__`), the credentials
(`INGESTER_CREDENTIALS`, or where systemd puts them), the TOML file (`INGESTER_CONFIG`), the defaults, in this order.
The only module that reads the environment.

All faults are reported at once, each naming the setting to change and never the value, which may be a secret.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from ingester.settings import credentials
from ingester.settings.faulty import make, unknown_names
from ingester.settings.kinds import Group
from ingester.settings.model import PREFIX, Settings
from ingester.settings.service import Service

TEST_PREFIX: Final = "INGESTER_TEST_"
CONFIG: Final = "INGESTER_CONFIG"
CREDENTIALS: Final = "INGESTER_CREDENTIALS"
SYSTEMD_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
LEGACY_TOKEN_SECRET: Final = "OPENSEND_REPLY_TOKEN_SECRET"  # noqa: S105  (the name of a variable)


class SettingsError(Exception):
    """The settings are not usable; the text lists every fault, one a line."""

    def __init__(self, faults: Sequence[str], rest: Settings | None, aside: Collection[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)
        self.rest = rest
        """What is left when the faulty values are put aside, to look for more; None when that says nothing."""
        self.aside = frozenset(aside)
        """The names of those values."""


def service() -> Service:
    """What a service manager has said to this process."""
    return Service.of(os.environ, pid=os.getpid())


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
    unread = bool(faults)
    ours = {_canonical(name): value for name, value in env.items() if name.startswith(PREFIX)}
    known = set(_names(Settings, PREFIX))
    unknown = ours.keys() - known - {CONFIG, CREDENTIALS, "INGESTER_CORPORA"}
    faults += unknown_names({name: ours[name] for name in unknown if not name.startswith(TEST_PREFIX)}, known)
    secrets = _credentials(env, known, faults)
    _merge(values, _Environment(secrets | {name: ours[name] for name in ours.keys() & known})())
    if LEGACY_TOKEN_SECRET in env:
        values.setdefault("reply_token_secrets", [env[LEGACY_TOKEN_SECRET]])
    for name, value in override.items():
        if value is not None:
            _merge(values, _nest(name.split("__"), value))
    if values.get("env", "production") == "production":
        armed = {TEST_PREFIX + name.upper() for name in values.get("test", {})}
        armed |= {name for name in env if name.startswith(TEST_PREFIX)}
        faults += [f"{name} is refused in production: INGESTER_ENV=development allows it" for name in sorted(armed)]
    made = make(values)
    faults += made.faults
    if faults or made.settings is None:
        raise SettingsError(faults, None if unread else made.settings, made.aside)
    return made.settings


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


def _credentials(env: Mapping[str, str], known: set[str], faults: list[str]) -> dict[str, str]:
    directory = env.get(CREDENTIALS) or env.get(SYSTEMD_CREDENTIALS)
    if directory is None:
        return {}
    values, wrong = credentials.read(Path(directory), known)
    faults += wrong
    return values


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


def _nest(path: list[str], value: object) -> dict[str, Any]:
    return {path[0]: _nest(path[1:], value) if path[1:] else value}


def _merge(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        if isinstance(value, Mapping) and isinstance(under.get(name), dict):
            _merge(under[name], value)
        else:
            under[name] = value
