"""What a metric is, before it is counted: its name, its kind, what it says, its labels with their closed sets."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Final

OTHER: Final = "other"
"""What a value becomes that is not of its label's set: a stranger must not make series."""


class Kind(StrEnum):
    """How a metric moves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Over(StrEnum):
    """How the gauges of several workers become the daemon's. Those of dead workers are forgotten."""

    SUM = "livesum"
    MAX = "livemax"
    MIN = "livemin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label and all its values. Without values they are names that stand in the code, and `said` says which."""

    name: str
    values: tuple[str, ...] = ()
    said: str = ""

    def of(self, value: str) -> str:
        """The value, or OTHER."""
        return value if not self.values or value in self.values else OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric. `buckets` are the upper bounds of a histogram; `over` is a gauge's."""

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    over: Over = Over.SUM
    occurs: tuple[tuple[str, ...], ...] | None = None
    """Which values of the labels go together; None: each with each."""

    @property
    def begins(self) -> tuple[tuple[str, ...], ...]:
        """The series that a counter or histogram has from its start: what is born with its first count, Prometheus
        does not see grow. None where a label's values are not known here, and none of a gauge: it says what it knows.
        """
        if self.kind is Kind.GAUGE:
            return ()
        return tuple(product(*(label.values for label in self.labels))) if self.occurs is None else self.occurs


def counter(name: str, help_: str, *labels: Label, occurs: tuple[tuple[str, ...], ...] | None = None) -> Metric:
    """What only grows."""
    return Metric(name=name, kind=Kind.COUNTER, help=help_, labels=labels, occurs=occurs)


def gauge(name: str, help_: str, *labels: Label, over: Over = Over.SUM) -> Metric:
    """What is so now."""
    return Metric(name=name, kind=Kind.GAUGE, help=help_, labels=labels, over=over)


def histogram(name: str, help_: str, *labels: Label, buckets: tuple[float, ...]) -> Metric:
    """How values are spread."""
    return Metric(name=name, kind=Kind.HISTOGRAM, help=help_, labels=labels, buckets=buckets)
