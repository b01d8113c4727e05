"""Runs the checks side by side, each within its own time. One that fails or hangs hides none of the others."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from ingester.auth.dns_servers import NoNameserver
from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import NoDatabase
from ingester.store.db import Unavailable, classify


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check. `seconds` is how long it may take in all."""

    name: str
    look: Callable[[], Awaitable[Sequence[Finding]]]
    seconds: float = 30


async def examine(checks: Sequence[Check], done: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """All findings, in the order of the checks. `done` is told the name of each check that has ended."""
    found = await asyncio.gather(*(_one(check, done) for check in checks))
    return [finding for findings in found for finding in findings]


async def _one(check: Check, done: Callable[[str], None]) -> Iterable[Finding]:
    pen = Pen(check.name)
    try:
        async with asyncio.timeout(check.seconds):
            return await check.look()
    except (NoDatabase, NoNameserver):
        return [pen.warning("not looked at: it needs what the other checks miss", "Mend the other faults first.")]
    except Exception as error:  # noqa: BLE001  (one check must not hide the others)
        return [_failed(pen, check, error)]
    finally:
        done(check.name)


def _failed(pen: Pen, check: Check, error: Exception) -> Finding:
    if isinstance(error, TimeoutError):
        return pen.fault(
            f"no answer within {check.seconds:.0f} s",
            "Look whether what it asks is overloaded or cut off by a firewall.",
        )
    if classify(error) is not None or isinstance(error, Unavailable):
        return pen.warning(
            f"not looked at: the database did not answer ({type(error).__name__})", "See the check of the database."
        )
    return pen.fault(
        f"the check itself failed ({type(error).__name__})", "This is a fault of ingester: please report it."
    )
