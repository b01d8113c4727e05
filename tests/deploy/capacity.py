"""What a number of mails a day needs, computed from measured costs: the tables of deploy/capacity.md.

`python -m tests.deploy.capacity` writes the tables anew; test_capacity.py holds the page against this file.
"""

from dataclasses import dataclass
from enum import Enum
from math import ceil
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "deploy" / "capacity.md"
BEGIN = "<!-- {}: made by `python -m tests.deploy.capacity` -->"
END = "<!-- /{} -->"
DAY_SECONDS = 86_400
VOLUMES = {"1 M": 10**6, "100 M": 10**8, "1 G": 10**9}


class Blobs(Enum):
    """Where the bytes lie."""

    POSTGRES = "postgres"
    SEGMENTS = "segments"
    S3 = "S3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a mean mail: CPU milliseconds, and bytes of write-ahead log and of rows with their indexes, raws apart."""

    daemon_ms: float
    postgres_ms: float
    wal_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What is not measured but chosen. Shares are of 1; `peak` is the busiest minute over the mean of a day."""

    mail_bytes: int
    peak: float = 3.0
    busy: float = 0.5
    """How much of its cores a host may use at the peak."""
    row_days: int = 365
    raw_days: int = 90
    node_cores: int = 16
    """Of a Postgres server."""
    host_cores: int = 8
    """Of a daemon's host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one volume needs. Rates per second."""

    mean_rate: float
    peak_rate: float
    daemon_cores: float
    daemon_hosts: int
    postgres_cores: float
    postgres_nodes: int
    wal_bytes_rate: float
    network_bits_rate: float
    row_bytes: float
    raw_bytes: float


def need(mails_a_day: int, cost: Cost, row_bytes: int, assumed: Assumptions) -> Need:
    """Cores at the peak, and bytes after the days that each kind is kept."""
    mean = mails_a_day / DAY_SECONDS
    peak = mean * assumed.peak
    daemon = peak * cost.daemon_ms / 1000 / assumed.busy
    postgres = peak * cost.postgres_ms / 1000 / assumed.busy
    return Need(
        mean_rate=mean,
        peak_rate=peak,
        daemon_cores=daemon,
        daemon_hosts=max(2, ceil(daemon / assumed.host_cores)),
        postgres_cores=postgres,
        postgres_nodes=max(1, ceil(postgres / assumed.node_cores)),
        wal_bytes_rate=peak * cost.wal_bytes,
        network_bits_rate=peak * assumed.mail_bytes * 8,
        row_bytes=mails_a_day * assumed.row_days * row_bytes,
        raw_bytes=mails_a_day * assumed.raw_days * assumed.mail_bytes,
    )
