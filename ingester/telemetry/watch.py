"""The watch over one process: what the rooms tell of their work, in the words of the metrics and the spans."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import UUID

from ingester.telemetry import logs
from ingester.telemetry.journey import Journey, Step
from ingester.telemetry.metrics import STAGE_SECONDS, Metrics
from ingester.telemetry.stages import Stage

if TYPE_CHECKING:
    from ingester.telemetry.spans import Spans


class Telemetry:
    """One per process, the `worker` of this number. `spans` are there while it serves, where they are wanted."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        worker: int = 0,
        log_mail: Callable[[Mapping[str, object]], None] = logs.log_mail,
    ) -> None:
        """`log_mail` writes the line of a mail."""
        self.metrics = metrics
        self.worker = worker
        self.log_mail = log_mail
        self.spans: Spans | None = None
        self._journeys: dict[UUID, Journey] = {}
        self._spent = {stage: metrics.observer(STAGE_SECONDS, stage) for stage in Stage}

    def journey(self, arrival_id: UUID) -> "UnderWay":
        """Keep the times of one mail, for as long as it is under way."""
        return UnderWay(self._journeys, arrival_id)

    def stage(self, stage: Stage, *mails: UUID) -> "Timing":
        """Time a stage of the journey of these mails (their arrival ids), whatever way it ends."""
        under_way = tuple(filter(None, map(self._journeys.get, mails)))
        return Timing(self._spent[stage], stage, under_way)

    def spent(self, stage: Stage, arrival_id: UUID, begun: float, seconds: float) -> None:
        """Note a stage of one mail whose seconds somebody else has added up. `begun` is by `perf_counter`."""
        self._spent[stage](seconds)
        journey = self._journeys.get(arrival_id)
        if journey is not None:
            journey.steps.append(Step(stage, begun, begun + seconds, (journey,)))


class UnderWay:
    """The journey of a mail, known by its arrival id within the `with` block."""

    __slots__ = ("_journey", "_journeys")

    def __init__(self, journeys: dict[UUID, Journey], arrival_id: UUID) -> None:
        self._journeys = journeys
        self._journey = Journey(arrival_id)

    def __enter__(self) -> Journey:
        journey = self._journeys[self._journey.arrival_id] = self._journey
        return journey

    def __exit__(self, *_: object) -> None:
        del self._journeys[self._journey.arrival_id]
        self._journey.steps.clear()  # a step knows its mails: without the garbage collector neither would go away


class Timing:
    """A stage that has begun. It ends with its `with` block, or where `end` is called."""

    __slots__ = ("_begun", "_spent", "_stage", "_under_way")

    def __init__(self, spent: Callable[[float], None], stage: Stage, under_way: tuple[Journey, ...]) -> None:
        self._spent = spent
        self._stage = stage
        self._under_way = under_way
        self._begun = perf_counter()

    def __enter__(self) -> None:
        """It has begun already."""

    def end(self, *_: object) -> None:
        """It is over."""
        ended = perf_counter()
        self._spent(ended - self._begun)
        if self._under_way:
            step = Step(self._stage, self._begun, ended, self._under_way)
            for journey in self._under_way:
                journey.steps.append(step)

    __exit__ = end
