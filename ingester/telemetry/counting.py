"""Counting: the metrics of a list, registered with prometheus_client, and told in its text format.

Called for each mail some thirty times: a series is looked up by its labels and added to, with nothing between that the
library would check each time. What counts the same series again and again asks once for a function that does it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.metrics_core import Metric as Family

from ingester.telemetry.kinds import Kind, Metric
from ingester.telemetry.shared import Shared

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Counting:
    """The metrics of one process, or with `shared` of all workers of a daemon. Any thread may use it."""

    def __init__(self, metrics: Iterable[Metric], shared: Shared | None = None) -> None:
        """Who has not entered `shared` can only read there. Raises KeyError later for a metric that is not listed."""
        disable_created_metrics()  # several workers have none either
        self._shared = shared
        # A registry takes the counter x_total and the gauge x for one, as Prometheus itself does not.
        self._registries = {kind: CollectorRegistry() for kind in Kind}
        self._values = values.MutexValue if shared is None or shared.seat is None else shared.seat.value
        self._making = Lock()
        listed = tuple(metrics)
        self._parents: dict[str, Any] = {}
        self._series: dict[str, dict[tuple[str, ...], Any]] = {one.name: {} for one in listed}
        for one in listed:
            for labels in one.begins:
                self._find(one, labels)

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        series = self._series[metric.name].get(labels) or self._make(metric, labels)
        series.inc(by)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Put a value into a histogram."""
        series = self._series[metric.name].get(labels) or self._make(metric, labels)
        series.observe(value)

    def observer(self, metric: Metric, *labels: str) -> Callable[[float], None]:
        """What puts values into one series of a histogram."""
        return self._find(metric, labels).observe  # type: ignore[no-any-return]

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Say what a gauge is now."""
        self._find(metric, labels).set(value)

    def collect(self) -> Sequence[Family]:
        """All that was counted, by name. Of several workers it reads files: not for the event loop."""
        if self._shared is not None:
            families = self._shared.collect()
        else:
            families = [family for registry in self._registries.values() for family in registry.collect()]
        return sorted(families, key=lambda family: (family.name, family.type))

    def exposition(self) -> bytes:
        """The same in Prometheus's text format. Not for the event loop."""
        return generate_latest(_Collected(self.collect()))

    def _find(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        return self._series[metric.name].get(labels) or self._make(metric, labels)

    def _make(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        """The series of these labels, as far as they are of the closed sets; what is not shares one."""
        known = tuple(label.of(value) for label, value in zip(metric.labels, labels, strict=True))
        series = self._series[metric.name]
        with self._making:
            if known not in series:
                with self._own_values():
                    parent = self._parents.get(metric.name)
                    if parent is None:  # not before it is used: a gauge that nobody has set would say 0
                        parent = self._parents[metric.name] = _registered(metric, self._registries[metric.kind])
                    series[known] = (parent.labels(*known) if known else parent).written
        return series[known]

    @contextmanager
    def _own_values(self) -> Iterator[None]:
        """The library has one class of values for the whole process, and asks for it when a series is made. But what
        nobody reads must not write into the files of what everybody does.
        """
        before, values.ValueClass = values.ValueClass, self._values
        try:
            yield
        finally:
            values.ValueClass = before


class _Counter(Counter):
    @property
    def written(self) -> Any:
        """The number itself, past the library's checks."""
        return self._value


class _Histogram(Histogram):
    @property
    def written(self) -> "_Spread":
        """Its numbers: the library looks for the bucket one by one, and ten values a mail are observed."""
        return _Spread(self._upper_bounds, [bucket.inc for bucket in self._buckets], self._sum.inc)


class _Gauge(Gauge):
    @property
    def written(self) -> Gauge:
        """Itself: gauges are set now and then."""
        return self


class _Spread:
    """The numbers of a histogram."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(
        self, bounds: Sequence[float], buckets: Sequence[Callable[[float], None]], sum_: Callable[[float], None]
    ) -> None:
        self._bounds = bounds
        self._buckets = buckets
        self._sum = sum_

    def observe(self, amount: float) -> None:
        """Put a value into it."""
        self._sum(amount)
        self._buckets[bisect_left(self._bounds, amount)](1)


class _Collected(CollectorRegistry):
    """What was collected, for the library's writer."""

    def __init__(self, families: Sequence[Family]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _registered(metric: Metric, registry: CollectorRegistry) -> Any:
    names = tuple(label.name for label in metric.labels)
    if metric.kind is Kind.COUNTER:
        return _Counter(metric.name, metric.help, names, registry=registry)
    if metric.kind is Kind.HISTOGRAM:
        return _Histogram(metric.name, metric.help, names, registry=registry, buckets=metric.buckets)
    return _Gauge(metric.name, metric.help, names, registry=registry, multiprocess_mode=metric.over.value)
