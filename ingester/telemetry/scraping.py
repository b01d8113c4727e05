"""What a daemon tells to whoever scrapes it: the text of Prometheus, read back. Never trusted, never fatal."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

SECONDS: Final = 1.0
MOST_BYTES: Final = 4 << 20
Labels: TypeAlias = frozenset[tuple[str, str]]
Buckets: TypeAlias = tuple[tuple[float, float], ...]
"""Of a histogram: upper bound and how many up to it, ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """The samples of one moment, by name and labels."""

    samples: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of the samples that bear these labels; None without any."""
        wanted = frozenset(labels.items())
        found = [value for has, value in self.samples.get(name, {}).items() if wanted <= has]
        return sum(found) if found else None

    def by(self, name: str, label: str) -> dict[str, float]:
        """The samples added up by the values of one label."""
        found: dict[str, float] = {}
        for labels, value in self.samples.get(name, {}).items():
            key = dict(labels).get(label, "")
            found[key] = found.get(key, 0.0) + value
        return found

    def buckets(self, name: str) -> Buckets:
        """A histogram, whatever other labels it has."""
        found = self.by(f"{name}_bucket", "le")
        return tuple(sorted((float(bound), count) for bound, count in found.items()))


def scrape(url: str) -> Scrape | None:
    """Ask a listener; None where it does not answer, or not like one."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310  (the operator's own URL)
            return read(answer.read(MOST_BYTES).decode())
    except (OSError, ValueError, KeyError):
        return None


def read(text: str) -> Scrape:
    """Read the text format. Raises ValueError on another."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return Scrape(samples=samples)


def joined(scrapes: "list[Scrape]") -> Scrape:
    """Several daemons as one: everything added up."""
    samples: dict[str, dict[Labels, float]] = {}
    for one in scrapes:
        for name, values in one.samples.items():
            into = samples.setdefault(name, {})
            for labels, value in values.items():
                into[labels] = into.get(labels, 0.0) + value
    return Scrape(samples=samples)


def since(later: Buckets, earlier: Buckets) -> Buckets:
    """What a histogram has gained. A daemon that was restarted meanwhile began anew: then all it has."""
    before = dict(earlier)
    gained = tuple((bound, count - before.get(bound, 0.0)) for bound, count in later)
    return later if any(count < 0 for _, count in gained) else gained


def quantile(buckets: Buckets, part: float) -> float | None:
    """As Prometheus does it: linear within the bucket, and never beyond the last finite bound. None without any."""
    if not buckets or not buckets[-1][1]:
        return None
    rank = part * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            return lower if bound == float("inf") else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound if bound != float("inf") else lower, count
    return lower
