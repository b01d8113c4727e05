"""The watch over one process: what the rooms tell of their work, in the words of the metrics and the spans."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import UUID

from ingester.telemetry.journey import Journey, Step
from ingester.telemetry.metrics import STAGE_SECONDS, Metrics
from ingester.telemetry.stages import Stage

if TYPE_CHECKING:
    from ingester.telemetry.spans import Spans


class Telemetry:
    """One per process, the `worker` of this number. `spans` are there while it serves, where they are wanted."""

    def __init__(self, metrics: Metrics, *, worker: int = 0) -> None:
        self.metrics = metrics
        self.worker = worker
        self.spans: Spans | None = None
        self._journeys: dict[UUID, Journey] = {}

    @contextmanager
    def journey(self, arrival_id: UUID) -> Iterator[Journey]:
        """Keep the times of one mail, for as long as it is under way."""
        journey = self._journeys[arrival_id] = Journey(arrival_id)
        try:
            yield journey
        finally:
            del self._journeys[arrival_id]
            journey.steps.clear()  # a step knows its mails: without the garbage collector neither would go away

    def stage(self, stage: Stage, *mails: UUID) -> "Timing":
        """Time a stage of the journey of these mails (their arrival ids), whatever way it ends."""
        journeys = self._journeys
        under_way = tuple([journey for one in mails if (journey := journeys.get(one)) is not None])
        return Timing(self.metrics, stage, under_way)

    def spent(self, stage: Stage, arrival_id: UUID, begun: float, seconds: float) -> None:
        """Note a stage of one mail whose seconds somebody else has added up. `begun` is by `perf_counter`."""
        self.metrics.observe(STAGE_SECONDS, seconds, stage)
        journey = self._journeys.get(arrival_id)
        if journey is not None:
            journey.steps.append(Step(stage, begun, begun + seconds, (journey,)))


class Timing:
    """A stage that has begun. It ends with its `with` block, or where `end` is called."""

    __slots__ = ("_begun", "_metrics", "_stage", "_under_way")

    def __init__(self, metrics: Metrics, stage: Stage, under_way: tuple[Journey, ...]) -> None:
        self._metrics = metrics
        self._stage = stage
        self._under_way = under_way
        self._begun = perf_counter()

    def __enter__(self) -> None:
        """It has begun already."""

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """It is over."""
        ended = perf_counter()
        self._metrics.observe(STAGE_SECONDS, ended - self._begun, self._stage)
        if self._under_way:
            step = Step(self._stage, self._begun, ended, self._under_way)
            for journey in self._under_way:
                journey.steps.append(step)
