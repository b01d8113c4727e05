"""The secrets of a development directory: made once, so that what they sign or open outlives `ingester dev`."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from ingester.settings import Settings

FILE = "reply-token-secret"
INBOUND_FILE = "inbound-token"
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def with_secret(settings: Settings) -> Settings:
    """The settings with a secret: those that are set, else the one of the development directory."""
    if settings.reply_token_secrets:
        return settings
    return settings.model_copy(update={"reply_token_secrets": (SecretStr(_secret_of(settings.dev_dir, FILE)),)})


def with_known_secret(settings: Settings) -> Settings:
    """The same, but none is made: without `ingester dev` there is nothing that it could have signed."""
    return with_secret(settings) if (settings.dev_dir / FILE).exists() else settings


def with_inbound_token(settings: Settings) -> Settings:
    """The settings with what providers show over HTTP: what is set, else the one of the development directory."""
    if settings.inbound_token is not None:
        return settings
    return settings.model_copy(update={"inbound_token": SecretStr(_secret_of(settings.dev_dir, INBOUND_FILE))})


def _secret_of(directory: Path, name: str) -> str:
    path = directory / name
    directory.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), os.fdopen(os.open(path, _MAKE, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return path.read_text(encoding="ascii").strip()
