"""Mode `big`: mails of 25 MB, several at once, into committed rows, and what becomes of small ones meanwhile.

Memory is the daemon's, above idle, as a multiple of the bytes in flight: what all big connections together have sent
at most. Small mails come at a steady rate over connections of their own and are timed from when they are due. The lag
is that of a heartbeat on each worker's loop (see `probe`).
"""

import hashlib
import statistics
import tempfile
from base64 import encodebytes
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import asyncpg
from rich.console import Console

from tests.bench import corpus as corpora
from tests.bench.clients import SENDERS, START, stamp
from tests.bench.compose import stuff_dots
from tests.bench.corpus import DOMAIN, Corpus, Mail
from tests.bench.driver import Plan, Result, run_apart
from tests.bench.e2e import MEMORY_FILESYSTEMS, percentile, zone_of
from tests.bench.measure import describe_machine, tree_cpu, watch_memory
from tests.bench.probe import read as read_beats
from tests.bench.raws import place
from tests.bench.shapes import Shape
from tests.bench.sheet import FORMAT, Figure, Sheet
from tests.bench.subject import PROXIED, BenchError, Daemon, Server, daemon, fresh_database, postgres, query
from tests.nameserver import NameServer, in_thread

LEAST_MB_PER_SECOND = {"postgres": 60.0, "segments": 120.0}
MOST_MEMORY = 4.0
MOST_SMALL_P99_MS = 250.0
MOST_LAG_MS = 25.0
SIZE = 25_165_824
"""Bytes of a big mail: a little below what the daemon takes by default."""
SMALL_RATE = 20.0
"""Small mails per second: far below what the daemon can do."""
SMALL_CONNECTIONS = 8
SLOWEST = 30e6
"""Bytes per second below which small mails might not last to the end of the big ones."""
_LINE = 57
_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says. `blobs`: postgres or segments; `size` in bytes."""

    seed: int
    mails: int
    size: int
    connections: int
    workers: int
    runs: int
    blobs: str
    cache: Path
    directory: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run: memory in MiB, CPU in seconds, times in milliseconds."""

    mb_per_second: float
    memory: float
    idle_mib: float
    peak_mib: float
    small_p50_ms: float
    small_p99_ms: float
    small_mails: int
    lag_p50_ms: float
    lag_p999_ms: float
    lag_most_ms: float
    held_p999_ms: float
    daemon_ms_per_mb: float
    postgres_ms_per_mb: float
    problems: tuple[str, ...]


def run(options: Options, console: Console) -> Sheet:
    """Measure. Raises BenchError where there is nothing to measure; loss is in the sheet."""
    console.print("composing ...", style="dim")
    replies = _replies(options)
    measured: list[Measured] = []
    with ExitStack() as stack:
        server = stack.enter_context(postgres(options.directory))
        machine = describe_machine(server.directory)
        if machine["filesystem"] in MEMORY_FILESYSTEMS:
            raise BenchError(f"{server.directory} is in memory, where fsync means nothing: give --data a disk")
        corpus = stack.enter_context(_composed(options))
        for number in range(1, options.runs + 1):
            one = _measure(server, corpus, replies, options)
            measured.append(one)
            console.print(
                f"run {number}: {one.mb_per_second:.0f} MB/s, {one.memory:.1f} times the bytes in flight, "
                f"small mails' p99 {one.small_p99_ms:.0f} ms, lag {one.lag_p999_ms:.1f} ms",
                style="dim",
                highlight=False,
            )
    return Sheet(
        mode="big",
        format=FORMAT,
        setting={
            "seed": options.seed,
            "mails": options.mails,
            "bytes": options.size,
            "connections": options.connections,
            "workers": options.workers,
            "runs": options.runs,
            "blobs": options.blobs,
            "postgres": server.version,
        },
        machine=machine,
        figures=figures(measured, options.blobs),
        lost=tuple(dict.fromkeys(problem for one in measured for problem in one.problems)),
    )


def figures(runs: Sequence[Measured], blobs: str) -> tuple[Figure, ...]:
    """Medians of the runs, with the bounds that are promised."""

    def middle(name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in runs))

    least = LEAST_MB_PER_SECOND[blobs]
    return (
        Figure(name="through the door into rows", value=middle("mb_per_second"), unit="MB/s", least=least),
        Figure(name="daemon", value=middle("daemon_ms_per_mb"), unit="CPU-ms/MB"),
        Figure(name="Postgres", value=middle("postgres_ms_per_mb"), unit="CPU-ms/MB"),
        Figure(
            name="memory", value=middle("memory"), unit="times", most=MOST_MEMORY, of="the bytes in flight, above idle"
        ),
        Figure(name="idle", value=middle("idle_mib"), unit="MiB PSS"),
        Figure(name="peak", value=middle("peak_mib"), unit="MiB PSS"),
        Figure(name="small mails, p50", value=middle("small_p50_ms"), unit="ms"),
        Figure(name="small mails, p99", value=middle("small_p99_ms"), unit="ms", most=MOST_SMALL_P99_MS),
        Figure(name="loop lag, p50", value=middle("lag_p50_ms"), unit="ms"),
        Figure(name="loop lag, p99.9", value=middle("lag_p999_ms"), unit="ms", most=MOST_LAG_MS),
        Figure(name="loop lag, most", value=middle("lag_most_ms"), unit="ms"),
        Figure(
            name="loop held, p99.9",
            value=middle("held_p999_ms"),
            unit="ms",
            of="what its own thread computed of the lag",
        ),
    )


# The mails


def _replies(options: Options) -> Corpus:
    """Small mails enough for the time that the big ones may take at most."""
    wanted = int(SMALL_RATE * max(3.0, options.mails * options.size / SLOWEST)) + 1
    corpus = corpora.load(seed=options.seed, count=2 * wanted, cache=options.cache)
    replies = tuple(mail for mail in corpus.mails if mail.shape is Shape.REPLY)[:wanted]
    return replace(corpus, mails=replies)


@contextmanager
def _composed(options: Options) -> Iterator[Corpus]:
    """The big mails in a file for the time of the run: too large to be kept."""
    with tempfile.TemporaryDirectory(prefix="ingester-bench-", dir=options.directory or "/var/tmp") as scratch:
        wire = Path(scratch) / "wire"
        mails: list[Mail] = []
        with wire.open("wb") as file:
            for number in range(options.mails):
                raw, mail = _big_mail(options, number, file.tell())
                payload = stuff_dots(raw)
                file.write(payload)
                mails.append(replace(mail, length=len(payload)))
        yield Corpus(seed=options.seed, mails=tuple(mails), wire=wire, zone={})


def _big_mail(options: Options, number: int, offset: int) -> tuple[bytes, Mail]:
    """Three files as base64 under a line of text, signed by one of the corpus' senders."""
    rng = Random(f"big {options.seed} {number}")
    sender = SENDERS[number % len(SENDERS)]
    address, message_id = f"big{number}@{sender.domain}", f"big{number:06d}@{sender.domain}"
    recipient = f"support@{DOMAIN}"
    fields = [
        f"From: <{address}>\r\n",
        f"To: <{recipient}>\r\n",
        f"Subject: files {number}\r\n",
        f"Date: {stamp(START)}\r\n",
        f"Message-ID: <{message_id}>\r\n",
        "MIME-Version: 1.0\r\n",
        'Content-Type: multipart/mixed; boundary="=_big"\r\n',
    ]
    header = [field.encode("ascii") for field in fields]
    body = _files(rng, options.size - 2000)
    signer = corpora.signers(options.seed)[sender.domain]
    raw = b"".join((signer.sign(header, body, unix_time=int(START.timestamp())), *header, b"\r\n", body))
    mail = Mail(
        message_id=message_id,
        sender=address,
        recipient=recipient,
        shape=Shape.BIG,
        parts=4,
        thread=number,
        answers=False,
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        offset=offset,
        length=0,
        eight_bit=False,
    )
    return raw, mail


def _files(rng: Random, size: int) -> bytes:
    part = (
        b"--=_big\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="file.pdf"\r\n\r\n'
    )
    each = size // 3 // (_LINE // 3 * 4 + 2) * _LINE
    files = (part + encodebytes(rng.randbytes(each)).replace(b"\n", b"\r\n") for _ in range(3))
    return b"--=_big\r\nContent-Type: text/plain\r\n\r\nThe files.\r\n" + b"".join(files) + b"--=_big--\r\n"


# The run


def _measure(server: Server, corpus: Corpus, replies: Corpus, options: Options) -> Measured:
    """One run: fresh database, fresh daemon, some small mails as warm-up, then big and small ones side by side."""
    with tempfile.TemporaryDirectory(dir=server.directory) as scratch, fresh_database(server) as url:
        probe = Path(scratch) / "beats"
        probe.mkdir()
        with (
            place(options.blobs, server.directory) as raws,
            in_thread(NameServer(zone=zone_of(replies))) as names,
            daemon(
                url,
                workers=options.workers,
                log=Path(scratch) / "daemon.log",
                nameserver=names.address,
                settings={**PROXIED, **raws.settings},
                probe=probe,
            ) as subject,
        ):
            measured = _load(subject, server, corpus, replies, options, probe)
        lost = query(url, lambda connection: _look(connection, corpus, measured))
    return replace(measured, problems=measured.problems + lost)


def _load(subject: Daemon, server: Server, corpus: Corpus, replies: Corpus, options: Options, probe: Path) -> Measured:
    warm = len(replies.mails) // 10
    plan = Plan(host="127.0.0.1", port=subject.port, corpus=replies, first=0, count=warm, connections=4, proxied=True)
    big = replace(plan, corpus=corpus, count=options.mails, connections=options.connections)
    small = replace(
        plan, first=warm, count=len(replies.mails), connections=SMALL_CONNECTIONS, rate=SMALL_RATE, stall_seconds=20
    )
    warmed = run_apart(plan)
    with ThreadPoolExecutor(1) as beside, watch_memory(subject.pid, every=_SAMPLE_SECONDS) as memory:
        before = tree_cpu(subject.pid), tree_cpu(server.pid)
        trickle = beside.submit(run_apart, small)
        result = run_apart(big)
        after = tree_cpu(subject.pid), tree_cpu(server.pid)
        trickled = trickle.result()
    begun = min((one.started for one in result.answers), default=0.0)
    ended = max((one.ended for one in result.answers), default=0.0)
    meanwhile = sorted(
        1000 * (one.ended - one.started) for one in trickled.answers if one.accepted and begun <= one.started <= ended
    )
    beats = read_beats(probe, begun, ended)
    lags = sorted(1000 * lag for lag in beats.lags)
    megabytes = result.bytes_accepted / 1e6 or float("inf")
    in_flight = options.connections * options.size / (1 << 20)
    return Measured(
        mb_per_second=result.bytes_accepted / 1e6 / result.seconds if result.seconds else 0.0,
        memory=(memory.peak_pss - memory.idle_pss) / in_flight,
        idle_mib=memory.idle_pss,
        peak_mib=memory.peak_pss,
        small_p50_ms=percentile(meanwhile, 50),
        small_p99_ms=percentile(meanwhile, 99),
        small_mails=len(meanwhile),
        lag_p50_ms=percentile(lags, 50),
        lag_p999_ms=percentile(lags, 99.9),
        lag_most_ms=max(lags, default=float("inf")),
        held_p999_ms=percentile(sorted(1000 * held for held in beats.held), 99.9),
        daemon_ms_per_mb=1000 * (after[0] - before[0]) / megabytes,
        postgres_ms_per_mb=1000 * (after[1] - before[1]) / megabytes,
        problems=(*_unanswered("big", result), *_unanswered("small", trickled), *_unanswered("warm-up", warmed)),
    )


def _unanswered(what: str, result: Result) -> list[str]:
    codes = sorted({answer.code for answer in result.answers if not answer.accepted})
    stalled = ["the daemon stalled"] if result.stalled else []
    return [f"{what} mails: {text}" for text in [*(f"answered {code}" for code in codes), *stalled]]


async def _look(connection: asyncpg.Connection, corpus: Corpus, measured: Measured) -> tuple[str, ...]:
    """Every big mail is a row with its bytes' hash and length, and four parts."""
    rows = await connection.fetch(
        """
        SELECT m.rfc_message_id AS name, r.sha256, r.size, octet_length(r.data) AS stored,
               (SELECT count(*) FROM parts p WHERE p.tenant_id = m.tenant_id AND p.message_id = m.id) AS parts
        FROM messages m JOIN raws r ON r.tenant_id = m.tenant_id AND r.id = m.raw_id
        """
    )
    found = {row["name"]: row for row in rows}
    out = []
    for mail in corpus.mails:
        row = found.get(mail.message_id)
        if row is None:
            out.append(f"lost: {mail.message_id}")
        elif (row["sha256"].hex(), row["size"], row["parts"]) != (mail.sha256, mail.size, mail.parts):
            out.append(f"stored otherwise: {mail.message_id}")
        elif row["stored"] not in (None, mail.size):
            out.append(f"stored in another length: {mail.message_id}")
    return tuple(out)
