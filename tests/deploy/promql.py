"""What an expression of PromQL names: metrics, and labels with the values that they are compared with."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ingester.telemetry.kinds import Kind, Metric
from ingester.telemetry.metrics import ALL

OURS = {one.name: one for one in ALL}
OF_PROMETHEUS = frozenset({"instance", "job", "le"})
"""Labels that Prometheus itself puts on every series, or on the buckets of a histogram."""
_SELECTOR = re.compile(r"\b(ingester_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_VARIABLE = re.compile(r"^\$\w+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """One metric as an expression names it."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


def selectors(expression: str) -> Iterator[Named]:
    """Every metric of ours (and `up`) that the expression names."""
    for name, matchers in _SELECTOR.findall(expression):
        yield Named(metric=name, matchers=tuple(_MATCHER.findall(matchers)))


def faults(expression: str) -> Iterator[str]:
    """What the expression names and the code does not know."""
    known: set[str] = set(OF_PROMETHEUS)
    for named in selectors(expression):
        if named.metric == "up":
            continue
        metric = _metric(named.metric)
        if metric is None:
            yield f"there is no metric {named.metric}"
            continue
        known |= {label.name for label in metric.labels}
        yield from _faults_of(metric, named)
    for group in _GROUPING.findall(expression):
        yield from (f"no metric here has the label {one}" for one in re.findall(r"\w+", group) if one not in known)


def _metric(name: str) -> Metric | None:
    """A histogram is asked for by its buckets, sum or count, everything else by its name."""
    plain = re.sub(r"_(?:bucket|sum|count)$", "", name)
    found = OURS.get(name) or OURS.get(plain)
    if found is None:
        return None
    return found if (found.kind is Kind.HISTOGRAM) == (name != found.name) else None


def _faults_of(metric: Metric, named: Named) -> Iterator[str]:
    labels = {label.name: label.values for label in metric.labels}
    for label, operator, value in named.matchers:
        if label in OF_PROMETHEUS:
            continue
        if label not in labels:
            yield f"{metric.name} has no label {label}"
            continue
        wanted = value.split("|") if operator in ("=~", "!~") else [value]
        for one in wanted:
            if labels[label] and one not in labels[label] and not _VARIABLE.match(one):
                yield f"{metric.name}: {label} is never {one}"
