"""The stages that need a database: judging, building the rows, telling of it, and the write round trip.

The mails are taken up to the judgement by a real App, as a command that only looks would do; from there on each step is
measured alone (`trips` has the writes). All of it runs in a process of its own: logging is set up as the daemon's, and
the CPU is its own.
"""

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any
from uuid import UUID

import structlog
from rich.console import Console

from ingester.app import App
from ingester.arrival import Arrival, correspondents, summary
from ingester.case import Case
from ingester.clock import new_id, now
from ingester.core.envelope import Client, Door, Envelope, Recipient
from ingester.judge import Judgement, judge, outcome, queries
from ingester.settings import load
from ingester.store.finding import Finding, find
from ingester.store.mail import Mail, Written
from ingester.store.messages import write
from ingester.telemetry import configure
from ingester.telemetry.journey import Journey, Step
from ingester.telemetry.stages import Stage
from ingester.transport.recipients import parse_recipient
from tests.bench.corpus import Corpus
from tests.bench.driver import CLIENTS
from tests.bench.e2e import zone_of
from tests.bench.sheet import Figure
from tests.bench.subject import Server, fresh_database, postgres
from tests.bench.trips import Trip, insert_all, write_all, written_rows
from tests.nameserver import NameServer, in_thread

MOST_MAILS = 240
"""So many of the corpus are written, in each way."""
BATCHES = (1, 12)
_UNIT = "CPU-ms a mail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A mail as far as it goes without a write."""

    case: Case
    findings: Sequence[Finding]
    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """CPU-milliseconds per mail."""

    judging: float
    rows: float
    telling: float
    plain_structlog: float
    plain_logging: float
    trips: dict[int, Trip]
    inserts: Trip


def measure(corpus: Corpus, directory: Path | None, runs: int, console: Console) -> list[Figure]:
    """The figures, made in another process. Raises what a Postgres that does not start raises."""
    console.print("judging, building, telling, writing ...", style="dim")
    some = replace(corpus, mails=corpus.mails[:MOST_MAILS])
    with postgres(directory) as server, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(_measure, server, some, runs).result()
    return figures(found)


def figures(found: Found) -> list[Figure]:
    """As the table shows them. Under load, one statement for several mails must not cost more than the many, though
    they do less; alone it is the other checks that one pays for.
    """
    out = [
        Figure(group="judging", name="ours", value=found.judging, unit=_UNIT),
        Figure(group="building the rows", name="ours", value=found.rows, unit=_UNIT),
        Figure(group="log line and metrics", name="ours", value=found.telling, unit=_UNIT),
        Figure(group="log line and metrics", name="structlog, plain JSON", value=found.plain_structlog, unit=_UNIT),
        Figure(group="log line and metrics", name="logging, plain", value=found.plain_logging, unit=_UNIT),
    ]
    theirs = "an INSERT for each table and mail"
    for batch, trip in found.trips.items():
        group = f"write round trip, {batch} mail{'s' * (batch > 1)} a commit"
        out += [
            Figure(group=group, name="ours, client", value=trip.client, unit=_UNIT),
            Figure(group=group, name="ours, Postgres", value=trip.postgres, unit=_UNIT),
            Figure(group=group, name=f"{theirs}, client", value=found.inserts.client, unit=_UNIT),
            Figure(group=group, name=f"{theirs}, Postgres", value=found.inserts.postgres, unit=_UNIT),
            Figure(
                group=group,
                name="over ours",
                value=found.inserts.both / trip.both,
                unit="times",
                least=1.0 if batch > 1 else None,
                of="which looks for duplicates and joins conversations",
            ),
        ]
    return out


def _measure(server: Server, corpus: Corpus, runs: int) -> Found:
    configure(load({}, env="production", database_url=server.url), stream=StringIO())
    with fresh_database(server) as url, in_thread(NameServer(zone=zone_of(corpus))) as names:
        nameserver = "{}:{}".format(*names.address)
        judged = asyncio.run(_judge_all(url, nameserver, corpus))
    telling, plain, library = _tell_all(judged, runs)
    trips: dict[int, Trip] = {}
    inserts = Trip(client=0.0, postgres=0.0)
    for batch in BATCHES:
        with fresh_database(server) as url:
            trips[batch] = asyncio.run(write_all(url, server, list(_mails(judged)), batch))
            rows = asyncio.run(written_rows(url))
    with fresh_database(server) as url:
        inserts = asyncio.run(insert_all(url, server, rows))
    return Found(
        judging=_best(runs, lambda: _judging(judged)),
        rows=_best(runs, lambda: asyncio.run(_building(judged))),
        telling=telling,
        plain_structlog=plain,
        plain_logging=library,
        trips=trips,
        inserts=inserts,
    )


def _best(runs: int, work: Any) -> float:
    return float(sorted(work() for _ in range(runs))[runs // 2])


# Up to the judgement


async def _judge_all(url: str, nameserver: str, corpus: Corpus) -> list[Judged]:
    app = App(load({}, env="development", database_url=url, dns__nameservers=nameserver))
    await app.open()
    try:
        out = []
        for number, mail in enumerate(corpus.mails):
            envelope = _envelope(corpus, number)
            targets, unrouted = await app.pipeline.targets(envelope)
            deadline = asyncio.get_running_loop().time() + 3600
            case = await app.pipeline.examine(envelope, targets, unrouted, deadline)
            async with app.database.connection() as connection:
                findings = await find(connection, queries(case))
            out.append(Judged(case=case, findings=findings, judgement=judge(case, findings, app.pipeline.limits)))
            if not out[-1].judgement.mails:
                raise ValueError(f"nothing would be stored of {mail.message_id}")
        return out
    finally:
        await app.close()


def _envelope(corpus: Corpus, number: int) -> Envelope:
    mail = corpus.mails[number]
    address = parse_recipient(mail.recipient)
    assert address is not None
    return Envelope(
        door=Door.SMTP,
        raw=corpus.raw(mail),
        mail_from=mail.sender,
        recipients=(Recipient(address=address),),
        client=Client(ip=CLIENTS[number % len(CLIENTS)], helo="driver.bench.test"),
        arrival_id=new_id(),
        received_at=now(),
    )


def _judging(judged: Sequence[Judged]) -> float:
    """With cases that have not been looked at: what they find out once, they find out here."""
    settings = load({}, env="development", database_url="postgresql:///")
    limits = App(settings).pipeline.limits
    fresh = [(replace(one.case), one.findings) for one in judged]
    begun = process_time()
    for case, findings in fresh:
        queries(case)
        judge(case, findings, limits)
    return 1000 * (process_time() - begun) / len(judged)


class _Silent:
    """A connection that sends nothing: what is left is what we do before."""

    async def fetch(self, *_: object) -> list[object]:
        return []

    async def fetchval(self, *_: object) -> bool:
        return True  # the rows are guarded, so that the bytes of large mails go as those of others

    async def execute(self, *_: object) -> str:
        return ""

    async def executemany(self, *_: object) -> None:
        return None


async def _building(judged: Sequence[Judged]) -> float:
    silent: Any = _Silent()
    begun = process_time()
    for mail in _mails(judged):
        await write(silent, mail.tenant_id, [mail])
    return 1000 * (process_time() - begun) / len(judged)


def _mails(judged: Sequence[Judged]) -> Iterator[Mail]:
    return (mail for one in judged for mail in one.judgement.mails)


# Telling of it


def _tell_all(judged: Sequence[Judged], runs: int) -> tuple[float, float, float]:
    """Ours with its counts, its hashes of addresses and its guard against floods; theirs are a line and no more."""
    app = App(load({}, env="production", database_url="postgresql:///"))
    ended = [(_arrival(one), _journey(one)) for one in judged]

    def ours() -> float:
        begun = process_time()
        for arrival, journey in ended:
            app.pipeline._tell(arrival, journey)
        return 1000 * (process_time() - begun) / len(ended)

    told = _best(runs, ours)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        plain = structlog.wrap_logger(
            structlog.PrintLogger(nowhere),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
        )
        library = logging.getLogger("bench")
        library.propagate = False
        library.addHandler(logging.StreamHandler(nowhere))
        library.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

        def by_structlog() -> float:
            begun = process_time()
            for arrival, journey in ended:
                plain.info("mail", **_fields(arrival, journey))
            return 1000 * (process_time() - begun) / len(ended)

        def by_logging() -> float:
            begun = process_time()
            for arrival, journey in ended:
                library.info("mail %s", _fields(arrival, journey))
            return 1000 * (process_time() - begun) / len(ended)

        return told, _best(runs, by_structlog), _best(runs, by_logging)


def _arrival(one: Judged) -> Arrival:
    case = one.case
    return Arrival(
        envelope=case.envelope,
        message=case.message,
        report=case.checked.report,
        outcome=outcome(case, one.judgement, _as_if_written(one.judgement)),
        seconds=0.01,
    )


def _as_if_written(judgement: Judgement) -> list[tuple[UUID, Written]]:
    return [
        (
            mail.tenant_id,
            Written(
                mail=0,
                mailbox_id=delivery.mailbox_id,
                message_id=delivery.message_id,
                duplicate=False,
                matched=False,
                method=None,
                dead=False,
            ),
        )
        for mail in judgement.mails
        for delivery in mail.deliveries
    ]


def _journey(one: Judged) -> Journey:
    journey = Journey(one.case.envelope.arrival_id)
    journey.steps += [Step(stage, journey.begun, journey.begun + 0.001, (journey,)) for stage in Stage]
    return journey


def _fields(arrival: Arrival, journey: Journey) -> dict[str, Any]:
    return {
        "arrival_id": str(arrival.outcome.arrival_id),
        **{name: str(value) for name, value in summary(arrival).items()},
        **{name: repr(value) for name, value in correspondents(arrival.envelope).items()},
        "ms": arrival.seconds,
        "stage_ms": journey.stage_ms(),
    }
