"""The times of one mail on its way through the stages: what its log line and its spans are made of. Nothing of the mail
is in it but its arrival id, which is the trace id.
"""

from dataclasses import dataclass, field
from time import perf_counter, time_ns
from uuid import UUID

from ingester.telemetry.stages import Stage


@dataclass(eq=False, slots=True)
class Step:
    """One stage, done for one mail or for the several of a batch. Seconds by `perf_counter`."""

    stage: Stage
    begun: float
    ended: float
    mails: "tuple[Journey, ...]"
    batch_id: UUID | None = None
    """Of the span that the mails of a batch share, once one of them has spans."""


@dataclass(eq=False, slots=True)
class Journey:
    """One mail under way."""

    arrival_id: UUID
    begun: float = field(default_factory=perf_counter)
    begun_ns: int = field(default_factory=time_ns)
    """The same moment by the wall clock, in nanoseconds since 1970."""
    steps: list[Step] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it has been under way."""
        return perf_counter() - self.begun

    def stage_ms(self) -> dict[str, float]:
        """Milliseconds by stage. What was done again counts again; what is done side by side adds up to more."""
        spent: dict[str, float] = {}
        for step in self.steps:
            stage = step.stage
            spent[stage] = spent.get(stage, 0.0) + step.ended - step.begun
        return {stage: round(seconds * 1000, 1) for stage, seconds in spent.items()}

    def at_ns(self, moment: float) -> int:
        """A moment by `perf_counter` as nanoseconds since 1970."""
        return self.begun_ns + round((moment - self.begun) * 1e9)
