"""Dead letters that wait: mail that was taken and that nobody has seen."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from ingester import __version__
from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import Patient
from ingester.store.letters import Pile, Which, piles

_pen = Pen("dead letters")


async def look(patient: Patient) -> Sequence[Finding]:
    """How many there are, of which reason and version, and since when."""
    async with patient.connection() as connection:
        heap = await piles(connection, Which())
    return [judge(pile, patient.now) for pile in heap] or [_pen.ok("there are none")]


def judge(pile: Pile, now: datetime) -> Finding:
    """What another version could not digest, this one may."""
    waiting = "one waits" if pile.count == 1 else f"{pile.count:,} wait"
    told = f"{waiting} with the reason {pile.reason}, for up to {_age(now - pile.oldest)}"
    if pile.buried_by != __version__:
        return _pen.warning(
            f"{told}; buried by version {pile.buried_by}, and this is {__version__}, which may digest them",
            f"Try: `ingester dead redrive --buried-by {pile.buried_by}`, then the same with --apply.",
        )
    return _pen.warning(
        told, f"Look: `ingester dead list --reason {pile.reason}`; redrive them once what they died of is mended."
    )


def _age(age: timedelta) -> str:
    return f"{age.days} days" if age.days > 1 else f"{age.total_seconds() / 3600:.1f} hours"
