"""What a reload can change and what it cannot. Pure."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

from ingester.settings import Settings

FIXED: Final = (
    "workers",
    "smtp.listen",
    "lmtp.listen",
    "lmtp.socket_mode",
    "lmtp.socket_group",
    "http.listen",
    "metrics.listen",
)
"""What the sockets are made of. They are bound once: with rights that may be gone by now."""


class Unusable(Exception):
    """Settings that cannot be used; each fault is a sentence that names what to change."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def changed_in_vain(before: Settings, after: Settings) -> list[str]:
    """The names of settings that were changed and take a restart."""
    changed = [name for name in FIXED if attrgetter(name)(before) != attrgetter(name)(after)]
    return [f"INGESTER_{name.replace('.', '__').upper()}" for name in changed]


def keep_fixed(before: Settings, after: Settings) -> Settings:
    """The new settings, but for what stays as it was."""
    update: dict[str, Any] = {}
    for name in FIXED:
        group, _, inner = name.rpartition(".")
        value = attrgetter(name)(before)
        if group:
            update[group] = update.get(group, getattr(after, group)).model_copy(update={inner: value})
        else:
            update[inner] = value
    return after.model_copy(update=update)
