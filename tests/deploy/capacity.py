"""What a number of mails a day needs, computed from measured costs: the tables of deploy/capacity.md.

`python -m tests.deploy.capacity` writes them anew; test_capacity.py holds the page against this file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "deploy" / "capacity.md"
NAMES = ("measured", "chosen", "needed", "kept", "limits")
DAY_SECONDS = 86_400
VOLUMES = {"1 M": 10**6, "100 M": 10**8, "1 G": 10**9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a mean mail: CPU milliseconds, and bytes of write-ahead log."""

    daemon_ms: float
    postgres_ms: float
    wal_bytes: int

    @property
    def total_ms(self) -> float:
        return self.daemon_ms + self.postgres_ms


MAIL_BYTES = 161_000
"""Of the benchmark's mean mail."""
ROW_BYTES = 8_500
"""Of a mean mail's rows with their indexes, the raw bytes apart."""
MEASURED = {
    "postgres": Cost(daemon_ms=2.23, postgres_ms=1.26, wal_bytes=182_000),
    "segments": Cost(daemon_ms=2.18, postgres_ms=0.55, wal_bytes=10_200),
    "S3": Cost(daemon_ms=2.44, postgres_ms=0.57, wal_bytes=10_000),
}
"""`python -m tests.bench scale --blobs ...`, one daemon, medians of three runs, by where the raw bytes lie. What the
server of S3 needs (there on the same machine, over HTTP without TLS) is not among it."""
FOUR_TO_ONE = 1.21
"""CPU of a mail with four daemons on one Postgres over that with one, raw bytes in Postgres: the same command."""

PEAK = 3.0
"""The busiest hour over the mean of the day."""
BUSY = 0.5
"""How much of its cores a machine may use in that hour: the other half is for retries, chores and a lost machine."""
HOST_CORES = 8
NODE_CORES = 16
NODE_BYTES = 10e12
"""Of rows that one Postgres server should hold: to back it up and to restore it must end within a night."""
ROW_DAYS = 365
RAW_DAYS = 90
PUTS_PER_PREFIX = 3_500
"""Writes a second that S3 promises for one prefix. Our keys begin with the tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one volume needs. Rates are per second in the busiest hour, bytes are those kept at any time."""

    mean_rate: float
    rate: float
    daemon_cores: float
    postgres_cores: float
    wal_rate: float
    bits_rate: float
    row_bytes: float
    raw_bytes: float
    in_rows: bool
    """Whether the raw bytes lie on the same disks as the rows."""

    @property
    def hosts(self) -> int:
        """Two at least: one may be lost."""
        return max(2, ceil(self.daemon_cores / HOST_CORES))

    @property
    def nodes(self) -> int:
        """Postgres servers, their standbys apart: for their cores, or for what lies on their disks."""
        return max(ceil(self.postgres_cores / NODE_CORES), ceil(self.on_servers / NODE_BYTES))

    @property
    def on_servers(self) -> float:
        """Bytes on the disks of Postgres."""
        return self.row_bytes + self.raw_bytes * self.in_rows


def need(mails_a_day: int, cost: Cost, *, in_rows: bool = False) -> Need:
    """Cores in the busiest hour, and what lies on disks after the time that each kind is kept."""
    mean = mails_a_day / DAY_SECONDS
    rate = mean * PEAK
    return Need(
        mean_rate=mean,
        rate=rate,
        daemon_cores=rate * cost.daemon_ms / 1000 / BUSY,
        postgres_cores=rate * cost.postgres_ms / 1000 / BUSY,
        wal_rate=rate * cost.wal_bytes,
        bits_rate=rate * MAIL_BYTES * 8,
        row_bytes=mails_a_day * ROW_DAYS * ROW_BYTES,
        raw_bytes=mails_a_day * RAW_DAYS * MAIL_BYTES,
        in_rows=in_rows,
    )


def tables() -> dict[str, str]:
    """The tables of the page by name."""
    return dict(zip(NAMES, (_measured(), _chosen(), _needed(), _kept(), _limits()), strict=True))


def _measured() -> str:
    rows = [
        (where, f"{one.daemon_ms:.2f} ms", f"{one.postgres_ms:.2f} ms", size(one.wal_bytes))
        for where, one in MEASURED.items()
    ]
    return table(("raw bytes in", "daemon, CPU", "Postgres, CPU", "write-ahead log"), rows)


def _chosen() -> str:
    rows = [
        ("a mail", size(MAIL_BYTES)),
        ("busiest hour over the mean of a day", f"{PEAK:.0f} times"),
        ("share of its cores that a machine uses then", f"{BUSY:.0%}"),
        ("rows are kept", f"{ROW_DAYS} days"),
        ("raw bytes are kept", f"{RAW_DAYS} days"),
        ("a host of daemons, a Postgres server", f"{HOST_CORES} and {NODE_CORES} cores"),
        ("rows on one Postgres server", f"at most {size(NODE_BYTES)}"),
    ]
    return table(("", "here"), rows)


def _needed() -> str:
    rows = []
    for volume, mails in VOLUMES.items():
        for where, cost in MEASURED.items():
            one = need(mails, cost, in_rows=where == "postgres")
            if where == "segments" and one.daemon_cores > HOST_CORES:
                continue  # they are files of one host
            hosts = "1 host" if where == "segments" else f"{one.hosts} hosts"
            rows.append(
                (
                    volume,
                    where,
                    f"{one.rate:,.0f}",
                    f"{amount(one.daemon_cores)}, {hosts}",
                    f"{amount(one.postgres_cores)}, {one.nodes} server{'s' if one.nodes > 1 else ''}",
                    f"{size(one.wal_rate)}/s",
                    f"{amount(one.bits_rate / 1e9)} Gbit/s",
                )
            )
    heads = ("mails a day", "raw bytes in", "mails/s", "daemon cores", "Postgres cores", "log", "network in")
    return table(heads, rows)


def _kept() -> str:
    cost = MEASURED["S3"]
    rows = []
    for volume, mails in VOLUMES.items():
        one = need(mails, cost)
        prefixes = ceil(one.rate / PUTS_PER_PREFIX)
        rows.append((volume, size(one.row_bytes), size(one.raw_bytes), f"{one.rate:,.0f}", str(prefixes)))
    heads = ("mails a day", f"rows, {ROW_DAYS} days", f"raw bytes, {RAW_DAYS} days", "objects/s", "prefixes at least")
    return table(heads, rows)


def _limits() -> str:
    rows = []
    for where, cost in MEASURED.items():
        daemon, postgres = 1000 / cost.daemon_ms, 1000 / cost.postgres_ms
        rate = postgres * NODE_CORES * BUSY
        rows.append(
            (
                where,
                f"{daemon:,.0f}",
                f"{daemon * HOST_CORES * BUSY:,.0f}",
                f"{rate:,.0f}",
                f"{size(rate * cost.wal_bytes)}/s",
            )
        )
    heads = ("raw bytes in", "a worker, all its core", "a host", "a Postgres server", "log of that server")
    return table(heads, rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def size(count: float) -> str:
    """Bytes in the unit that a person would say."""
    for unit in ("bytes", "KB", "MB", "GB", "TB", "PB"):
        if count < 1000 or unit == "PB":
            return f"{amount(count)} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def amount(value: float) -> str:
    """Two digits that say something."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def begin(name: str) -> str:
    return f"<!-- {name}: made by `python -m tests.deploy.capacity` -->"


def end(name: str) -> str:
    return f"<!-- /{name} -->"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, made in tables().items():
        before, _, rest = text.partition(begin(name))
        _, _, after = rest.partition(end(name))
        text = f"{before}{begin(name)}\n{made}\n{end(name)}{after}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
