"""A real Prometheus scrapes a daemon with two workers under load: what it counts is what the database holds.

After kill -9 of a worker the difference is that of one moment: what the worker had committed and not yet counted. A
commit is counted in the step after it, and a worker has at most half of its connections committing, each a batch.
"""

import os
import signal
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import pytest
import requests

from ingester.settings import load
from ingester.telemetry.kinds import Kind
from ingester.telemetry.metrics import ALL
from tests.daemon import DIED, Daemon, Town, serving
from tests.inbound import TOKEN
from tests.mta import Letter, Mta, letters, sending
from tests.ports import free_port
from tests.prometheus import Prometheus, scraping

pytestmark = pytest.mark.thorough

MOST_UNCOUNTED = load({}).store.connections // 2 * load({}).store.batch
"""Mails that a worker may be committing in one moment."""
GROWING = [one.name for one in ALL if one.kind is Kind.COUNTER] + [
    f"{one.name}_{part}" for one in ALL if one.kind is Kind.HISTOGRAM for part in ("count", "sum", "bucket")
]
Counts = dict[tuple[str, ...], float]


@contextmanager
def observed(town: Town, operators: int = 0, **settings: str) -> Iterator[tuple[Daemon, Prometheus, int]]:
    """Two workers, a Prometheus that scrapes them, and the port of HTTP."""
    operators, http = operators or free_port(), free_port()
    given = {
        "INGESTER_WORKERS": "2",
        "INGESTER_METRICS__LISTEN": f"127.0.0.1:{operators}",
        "INGESTER_HTTP__LISTEN": f"127.0.0.1:{http}",
        "INGESTER_INBOUND_TOKEN": TOKEN,
        "INGESTER_REPLY_TOKEN_SECRETS": "r" * 32,
    }
    with serving(town.url, settings={**given, **settings}, wait=False) as daemon, scraping(operators) as prometheus:
        daemon.wait_event("serving", times=2)
        yield daemon, prometheus, http


@contextmanager
def rereading(port: int) -> Iterator[list[float]]:
    """Scrape without a pause; gives the mails counted, as each answer has them. Who serves it may die of it."""
    seen: list[float] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            with suppress(requests.ConnectionError):
                seen.append(mails_counted(port))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            yield seen
        finally:
            over.set()
        reading.result()


def mails_counted(port: int) -> float:
    """The rows of mail that one scrape counts."""
    answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=20)
    assert answer.status_code == 200
    lines = [line for line in answer.text.splitlines() if line.startswith("ingester_messages_total")]
    return sum(float(line.split()[-1]) for line in lines)


def counted(prometheus: Prometheus, name: str, *labels: str) -> Counts:
    """A counter's series that are not zero."""
    return prometheus.ask(f"sum by ({', '.join(labels)}) ({name}) > 0")


def stored(town: Town, query: str) -> Counts:
    """Rows as a counter has them: the last column is the count."""
    return {tuple(str(value) for value in row[:-1]): float(row[-1]) for row in map(tuple, town.ask(query))}


def load_of_all_kinds(daemon: Daemon, http: int) -> Counter[int]:
    """Mails by both doors at once; gives HTTP's answers by status."""
    first = letters(150, "support@acme.test", name="first", size=3000)
    replies = [
        replace(one, content=b"In-Reply-To: <first-%d@customer.test>\r\n" % number + one.content)
        for number, one in enumerate(letters(100, "support@acme.test", name="reply"))
    ]
    both = letters(50, "sales@acme.test", "support@globex.test", name="both")
    unknown = letters(40, "nobody@acme.test", name="unknown")
    partly = letters(20, "support@acme.test", "nobody@acme.test", name="partly")
    hops = b"Received: by a; Mon, 20 Jul 2026 10:00:00 +0000\r\n" * 101
    looping = [replace(one, content=hops + one.content) for one in letters(15, name="loop")]
    by_http = letters(120, "support@globex.test", name="http")
    with sending(daemon.port, [*first, *both, *looping], connections=10) as mta, ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(lambda one: post(http, one), [*by_http, *by_http[:30]]))
        answers += Counter(pool.map(lambda _: post(http, by_http[0], token="x" * 32), range(7)))
        mta.finish()
    with sending(daemon.port, [*replies, *first[:60], *unknown, *partly], connections=10) as mta:
        mta.finish()
    return answers


def enough(mta: Mta, mails: int) -> bool:
    """Whether so many were answered yes."""
    return mta.count("2") > mails


def post(port: int, one: Letter, token: str = TOKEN) -> int:
    """Hand in a mail over HTTP."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "message/rfc822"}
    url = f"http://127.0.0.1:{port}/events/inbound?recipient={one.recipients[0]}"
    return requests.post(url, data=one.content, headers=headers, timeout=60).status_code


def test_prometheus_counts_what_the_database_holds_to_the_mail(acme: Town) -> None:
    """Two workers, both doors, every kind of end; one mail of each worker is a dead letter."""
    with observed(acme, INGESTER_TEST_FAULTS="scan:raise@7") as (daemon, prometheus, http):
        answers = load_of_all_kinds(daemon, http)
        prometheus.wait_scrape()
        told = {
            "messages": counted(prometheus, "ingester_messages_total", "status", "method"),
            "duplicates": counted(prometheus, "ingester_duplicates_total", "door"),
            "refusals": counted(prometheus, "ingester_refusals_total", "door", "reason"),
            "dead": counted(prometheus, "ingester_dead_letters_total", "reason"),
            "spf": counted(prometheus, "ingester_verdicts_total{check='spf'}", "result"),
            "dmarc": counted(prometheus, "ingester_verdicts_total{check='dmarc'}", "result"),
            "ends": counted(prometheus, "ingester_mails_total", "door", "outcome"),
        }
        measured = counted(prometheus, "ingester_acceptance_seconds_count", "door")
        sizes = prometheus.number("sum(ingester_mail_bytes_sum)")
        requested = counted(prometheus, "ingester_http_requests_total{route='/events/inbound'}", "code")
        workers, ready = prometheus.number("ingester_workers"), prometheus.number("ingester_ready")
        assert daemon.terminate() == 0  # the refusals of the last seconds are written
    assert told["messages"] == stored(acme, MESSAGES)
    assert {"matched", "unmatched"} == {status for _, status in told["messages"]}
    assert told["duplicates"] == stored(acme, "SELECT door, count(*) FROM receipts WHERE duplicate GROUP BY door")
    assert told["refusals"] == stored(acme, "SELECT door, reason, sum(count) FROM refusals GROUP BY door, reason")
    assert (
        told["dead"]
        == stored(acme, "SELECT reason, count(*) FROM dead_letters GROUP BY reason")
        == {("scan_failed",): 2.0}
    )
    for check in ("spf", "dmarc"):
        assert told[check] == stored(acme, VERDICTS.format(check=check))
    arrivals = stored(acme, ARRIVALS)
    assert {ends: count for ends, count in told["ends"].items() if ends[1] != "refused"} == arrivals
    assert told["ends"]["smtp", "refused"] == 15  # the loops; those that were refused before DATA were no mails yet
    assert sum(told["ends"].values()) == sum(measured.values())
    assert answers == {202: 120, 200: 30, 401: 7}
    assert requested == {(str(status),): float(count) for status, count in answers.items()}
    assert sizes >= stored(acme, "SELECT sum(size) FROM raws")[()]
    assert (workers, ready) == (2, 1)


def test_a_worker_that_is_killed_costs_the_counts_of_one_moment(acme: Town) -> None:
    """kill -9 of one of two workers, twice, in the midst of mail: no mail is lost, no counter goes down, and what is
    not counted is within the bound.
    """
    mails = letters(800, "support@acme.test", "sales@globex.test", size=2000)
    operators = free_port()
    with observed(acme, operators) as (daemon, prometheus, _):
        with (
            sending(daemon.port, mails, connections=30) as mta,
            rereading(operators) as one,
            rereading(operators) as two,
        ):
            for deaths in (1, 2):
                mta.wait_for(partial(enough, mta, deaths * len(mails) // 4))
                prometheus.wait_scrape()
                os.kill(daemon.worker, signal.SIGKILL)
                daemon.wait_event(DIED, times=deaths)
                daemon.wait_event("serving", times=2 + deaths)
            mta.finish()
        prometheus.wait_scrape()
        written = prometheus.number("sum(ingester_messages_total)")
        ended = prometheus.number("sum(ingester_mails_total{outcome='accepted'})")
        restarts = prometheus.number("ingester_worker_restarts_total")
        went_down = [name for name in GROWING if prometheus.number(f"sum(resets({name}[10m]))")]
        scrapes, missed = prometheus.number("count_over_time(up[10m])"), prometheus.number("sum_over_time(up[10m])")
        workers = prometheus.number("ingester_workers")
    rows = acme.count("messages")
    assert rows == 2 * len(mails)
    uncounted = rows - written
    print(f"uncounted after two kills: {uncounted:.0f} rows of {rows}, {len(mails) - ended:.0f} mails")
    assert 0 <= uncounted <= 2 * 2 * MOST_UNCOUNTED
    assert 0 <= len(mails) - ended <= 2 * MOST_UNCOUNTED + acme.count("receipts")
    assert went_down == []
    for seen in (one, two):
        assert len(seen) > 10
        assert seen == sorted(seen)
    assert (restarts, workers) == (2, 2)
    assert scrapes - missed <= 2  # one that was being answered by the worker that died


def test_a_reload_loses_no_count(acme: Town) -> None:
    """While the old workers drain, the new ones count beside them, and the daemon is ready all the time."""
    mails = letters(400, "support@acme.test", size=2000)
    with observed(acme) as (daemon, prometheus, _), sending(daemon.port, mails, connections=20) as mta:
        mta.wait_for(partial(enough, mta, 100))
        prometheus.wait_for("ingester_ready == 1")
        since = time.monotonic()
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("stopped", times=2)
        mta.finish()
        prometheus.wait_scrape()
        written = prometheus.number("sum(ingester_messages_total)")
        ends = prometheus.number("sum(ingester_mails_total{outcome=~'accepted|duplicate'})")
        went_down = [name for name in GROWING if prometheus.number(f"sum(resets({name}[10m]))")]
        restarts = prometheus.number("ingester_worker_restarts_total")
        prometheus.wait_for("ingester_workers == 2")
        ready = prometheus.number(f"min_over_time(ingester_ready[{int(time.monotonic() - since)}s])")
    assert written == acme.count("messages") == len(mails)
    assert ends == acme.count("receipts")
    assert went_down == []
    assert (restarts, ready) == (0, 1)


@pytest.mark.parametrize(("point", "uncounted"), [("during_commit", 1), ("after_commit", 0)])
def test_what_is_committed_is_counted_in_the_next_step(acme: Town, point: str, uncounted: int) -> None:
    """The moment itself: between COMMIT and the count a mail can be missed, right behind it no more."""
    operators = free_port()
    settings = {"INGESTER_METRICS__LISTEN": f"127.0.0.1:{operators}", "INGESTER_TEST_FAULTS": f"{point}:kill@3"}
    with serving(acme.url, settings=settings) as daemon:
        with smtplib.SMTP("127.0.0.1", daemon.port) as client:
            for one in letters(2):
                client.sendmail(one.mail_from, one.recipients, one.content)
            with pytest.raises(smtplib.SMTPServerDisconnected):
                client.sendmail("ada@customer.test", ["support@acme.test"], b"Subject: the last\r\n\r\n")
        daemon.wait_event("serving", times=2)
        assert mails_counted(operators) == acme.count("messages") - uncounted == 3 - uncounted


MESSAGES = """
    SELECT coalesce(reply_match_method, 'none'), reply_match_status, count(*) FROM messages
    WHERE direction = 'inbound' GROUP BY 1, 2
"""
VERDICTS = """
    SELECT report->'{check}'->>'result', count(DISTINCT arrival_id) FROM (
        SELECT arrival_id, auth_report AS report FROM receipts
        UNION ALL SELECT arrival_id, envelope->'auth_report' FROM refusals WHERE arrival_id IS NOT NULL
    ) x WHERE report->'{check}' IS NOT NULL GROUP BY 1
"""
ARRIVALS = """
    SELECT door, ending, count(*) FROM (
        SELECT door, arrival_id, CASE WHEN bool_and(duplicate) THEN 'duplicate'
                                      WHEN bool_or(dead_letter_id IS NOT NULL) THEN 'dead' ELSE 'accepted' END AS ending
        FROM receipts GROUP BY door, arrival_id
    ) x GROUP BY door, ending
"""
