"""How it goes: what `ingester top` tells, gathered from the database and the daemons that answer. No screen here."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from ingester.cli.arrivals import One, moment, outcome
from ingester.following import LAST_ID, SKEW, Following, Refused, pages
from ingester.settings import Settings
from ingester.store import watching
from ingester.store.db import Connection
from ingester.store.letters import Which, piles
from ingester.store.refused import named
from ingester.store.watching import Arrived
from ingester.telemetry import metrics
from ingester.telemetry.scraping import Buckets, Scrape, joined, quantile, scrape, since

SLOTS: Final = 30
NOW: Final = timedelta(seconds=10)
_MINUTE: Final = timedelta(minutes=1)
LAST: Final = 100
_EVERYWHERE: Final = ("::", "0.0.0.0", "")  # noqa: S104  (to be replaced, not to be bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds; None where nothing was measured. `source` says by what: `metrics`, or `database` (to the write)."""

    source: str
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The dead letters that wait."""

    count: int
    oldest_seconds: float
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemons:
    """What the daemons tell of themselves, all together."""

    answering: int
    asked: int
    workers: float | None
    connections: dict[str, float]
    bytes_in_flight: float | None
    bytes_in_flight_limit: float | None
    loop_delay_p99: float | None
    database_used: float | None
    database_limit: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All of one moment; the shape of `--json`. A mail for several mailboxes is one mail and several outcomes."""

    time: datetime
    window_seconds: float
    mails: int
    rate: float
    """Mails a second, over the window."""
    rate_now: float
    """The same over the last ten seconds."""
    outcomes: dict[str, int]
    match_rate: float | None
    methods: dict[str, int]
    doors: dict[str, int]
    refusals: dict[str, int]
    latency: Latency
    dead_letters: Waiting
    daemons: Daemons | None
    history: list[int]
    """Mails in each of the window's slots, oldest first."""
    last: list[One] = field(default_factory=list)
    """Newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is kept of an arrival, or of a refusal, for as long as the window is."""

    at: datetime
    arrival_id: UUID | None
    """None of a refusal."""
    outcome: str
    door: str
    method: str | None
    seconds: float | None
    count: int


def marked(one: One, at: datetime) -> Mark:
    """The mark of one."""
    if isinstance(one, Refused):
        row = one.row
        return Mark(
            at=at, arrival_id=None, outcome=row.reason, door=row.door, method=None, seconds=None, count=one.more
        )
    return Mark(
        at=at,
        arrival_id=one.arrival_id,
        outcome=outcome(one),
        door=one.door,
        method=None if one.duplicate else one.method,
        seconds=one.seconds,
        count=1,
    )


class Watch:
    """One run of the command: what has come within the window, and what the daemons said."""

    def __init__(self, settings: Settings, window: timedelta, urls: Sequence[str]) -> None:
        self._settings = settings
        self._window = window
        self._recent: deque[Mark] = deque()
        self._last: deque[One] = deque(maxlen=LAST)
        self._following: Following | None = None
        self._metrics = Asked(urls or addresses(settings), window)

    async def look(self, connection: Connection) -> Overview:
        """Look, and tell how it goes now."""
        if self._following is None:
            self._following = await self._begin(connection)
        async for page in self._following.look(connection):
            self._take(page, await watching.now(connection))
        now = await watching.now(connection)
        while self._recent and self._recent[0].at < now - self._window:
            self._recent.popleft()
        waiting = await _waiting(connection, now)
        await self._metrics.ask()
        return self._overview(now, waiting)

    async def _begin(self, connection: Connection) -> Following:
        """Take what has come within the window already."""
        begin = await watching.now(connection)
        late = timedelta(seconds=self._settings.store.commit_seconds) + SKEW
        following = Following(tenant_ids=None, late=late, begin=begin, refusals=True)
        await following.skip_arrivals(connection)
        await following.skip_refusals(connection)
        self._last.extend(await self._earlier(connection))
        async for keys in pages(connection, None, after=begin - self._window, now=begin):
            rows = await watching.told(connection, keys)
            following.tell(rows)
            self._recent.extend(marked(one, one.received_at) for one in rows)
        counted = await watching.counts(connection, None, since=begin - self._window)
        refused = following.tell_refused(await named(connection, [key[:2] for key in counted]))
        # Counted within a minute, they may have been at its end.
        self._recent.extend(marked(one, min(one.row.minute + _MINUTE, begin)) for one in refused)
        self._recent = deque(sorted(self._recent, key=lambda mark: mark.at))
        return following

    async def _earlier(self, connection: Connection) -> list[Arrived]:
        """The last mails, of whatever day."""
        keys = await watching.newest(connection, None, before=LAST_ID, limit=LAST)
        return await watching.told(connection, keys)

    def _take(self, page: Sequence[One], now: datetime) -> None:
        # What is noticed late counts from then on: nobody has seen it before.
        self._recent.extend(marked(one, now) for one in page)
        self._last.extend(page)

    def _overview(self, now: datetime, waiting: Waiting) -> Overview:
        arrived = [mark for mark in self._recent if mark.arrival_id is not None]
        refused: Counter[str] = Counter()
        for mark in self._recent:
            if mark.arrival_id is None:
                refused[mark.outcome] += mark.count
        outcomes = Counter(mark.outcome for mark in arrived) + Counter(refused=refused.total())
        judged = outcomes["matched"] + outcomes["unmatched"]
        mails = {mark.arrival_id: mark.at for mark in arrived}
        return Overview(
            time=now,
            window_seconds=self._window.total_seconds(),
            mails=len(mails),
            rate=len(mails) / self._window.total_seconds(),
            rate_now=sum(at >= now - NOW for at in mails.values()) / NOW.total_seconds(),
            outcomes=dict(outcomes.most_common()),
            match_rate=outcomes["matched"] / judged if judged else None,
            methods=dict(Counter(mark.method for mark in arrived if mark.method).most_common()),
            doors=dict(Counter(mark.door for mark in arrived).most_common()),
            refusals=dict(refused.most_common()),
            latency=self._metrics.latency() or _measured(arrived),
            dead_letters=waiting,
            daemons=self._metrics.daemons(),
            history=_history(list(mails.values()), now, self._window),
            last=sorted(self._last, key=moment, reverse=True),
        )


class Asked:
    """The operators' listeners that are asked, and what they have said within the window."""

    def __init__(self, urls: Sequence[str], window: timedelta) -> None:
        self._urls = urls
        self._window = window.total_seconds()
        self._answering = 0
        self._now: Scrape | None = None
        self._before: deque[tuple[float, Scrape]] = deque()

    async def ask(self) -> None:
        """Ask them all at once, each with patience for a second."""
        answers = await asyncio.gather(*(asyncio.to_thread(scrape, url) for url in self._urls))
        found = [one for one in answers if one is not None]
        self._answering = len(found)
        self._now = joined(found) if found else None
        if self._now is None:
            self._before.clear()
            return
        self._before.append((time.monotonic(), self._now))
        while len(self._before) > 1 and self._before[1][0] < time.monotonic() - self._window:
            self._before.popleft()

    def _gained(self, name: str) -> Buckets:
        """What a histogram has gained within the window; all since the start where it was asked only once."""
        if self._now is None:
            return ()
        later, earlier = self._now.buckets(name), self._before[0][1]
        return later if earlier is self._now else since(later, earlier.buckets(name))

    def latency(self) -> Latency | None:
        """How long mails took, by the daemons' own watch."""
        gained = self._gained(metrics.ACCEPTANCE_SECONDS.name)
        p50, p95, p99 = (quantile(gained, part) for part in (0.5, 0.95, 0.99))
        return None if p50 is None else Latency(source="metrics", p50=p50, p95=p95, p99=p99)

    def daemons(self) -> Daemons | None:
        """None where nobody answers."""
        now = self._now
        if now is None:
            return None
        return Daemons(
            answering=self._answering,
            asked=len(self._urls),
            workers=now.total(metrics.WORKERS.name),
            connections=now.by(metrics.OPEN_CONNECTIONS.name, "door"),
            bytes_in_flight=now.total(metrics.BYTES_IN_FLIGHT.name),
            bytes_in_flight_limit=now.total(metrics.BYTES_LIMIT.name),
            loop_delay_p99=quantile(self._gained(metrics.LOOP_DELAY.name), 0.99),
            database_used=now.total(metrics.DATABASE_CONNECTIONS.name, state="used"),
            database_limit=now.total(metrics.DATABASE_LIMIT.name),
        )


def addresses(settings: Settings) -> list[str]:
    """Where the daemon of this machine would answer, by its own settings."""
    found = []
    for one in settings.metrics.listen:
        host = "localhost" if one.host in _EVERYWHERE else f"[{one.host}]" if ":" in one.host else one.host
        found.append(f"http://{host}:{one.port}/metrics")
    return found


async def _waiting(connection: Connection, now: datetime) -> Waiting:
    heap = await piles(connection, Which())
    reasons: Counter[str] = Counter()
    for pile in heap:
        reasons[pile.reason] += pile.count
    oldest = min((pile.oldest for pile in heap), default=now)
    return Waiting(count=reasons.total(), oldest_seconds=(now - oldest).total_seconds(), reasons=dict(reasons))


def _measured(arrived: Sequence[Mark]) -> Latency:
    """From the arrival to the write, as far as two clocks can tell: the commit itself is not in it."""
    took = sorted(max(mark.seconds, 0.0) for mark in arrived if mark.seconds is not None)
    p50, p95, p99 = (took[min(int(part * len(took)), len(took) - 1)] if took else None for part in (0.5, 0.95, 0.99))
    return Latency(source="database", p50=p50, p95=p95, p99=p99)


def _history(moments: Sequence[datetime], now: datetime, window: timedelta) -> list[int]:
    slots = [0] * SLOTS
    for at in moments:
        slots[min(SLOTS - 1, max(0, SLOTS - 1 - int((now - at) / window * SLOTS)))] += 1
    return slots
