"""Which checks there are, and in which order they are told."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from ingester.doctor import (
    blobs,
    certificate,
    configuration,
    database,
    domains,
    host,
    letters,
    listeners,
    machine,
    origins,
    resolver,
)
from ingester.doctor.examination import Check
from ingester.doctor.finding import Finding
from ingester.doctor.patient import Patient

_ROUNDS: tuple[tuple[str, Callable[[Patient], Awaitable[Sequence[Finding]]], float], ...] = (
    ("settings", configuration.look, 5),
    ("secrets", configuration.look_at_secrets, 5),
    ("database", database.look, 20),
    ("pooler", database.look_at_pooler, 20),
    ("roles", database.look_at_roles, 20),
    ("commit", database.look_at_commit, 20),
    ("clock", database.look_at_clock, 20),
    ("blobs", blobs.look, 70),
    ("dead letters", letters.look, 20),
    ("client addresses", origins.look, 20),
    ("resolver", resolver.look, 30),
    ("hostname", host.look, 30),
    ("certificate", certificate.look, 10),
    ("listeners", listeners.look, 15),
    ("disk", machine.look_at_disk, 20),
    ("limits", machine.look_at_limits, 5),
    ("system", machine.look_at_system, 5),
    ("directory", domains.look, 120),
)
"""Name, check, and the seconds it may take."""


def checks(patient: Patient) -> list[Check]:
    """All of them, for this patient."""
    return [Check(name=name, look=partial(look, patient), seconds=seconds) for name, look, seconds in _ROUNDS]
