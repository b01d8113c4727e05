"""The watch over one process: what the rooms tell of their work, in the words of the metrics and the spans."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from ingester.telemetry.metrics import Metrics
from ingester.telemetry.stages import Stage


class Telemetry:
    """One per process."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Time a stage of the journey, whatever way it ends."""
        begun = perf_counter()
        try:
            yield
        finally:
            self.metrics.stage_seconds.labels(stage).observe(perf_counter() - begun)
