"""Every metric of the daemon, in one list. No label that a stranger could make grow: each has a closed set of values.

The README's table and the checks of dashboard and alerts are made of this list. It says what is counted; how is
`counting`'s.
"""

from collections.abc import Sequence
from typing import Final

from prometheus_client.metrics_core import Metric as Family

from ingester.core.envelope import Door
from ingester.core.outcome import CODES, Reason
from ingester.core.resolve import Method
from ingester.telemetry.counting import Counting
from ingester.telemetry.kinds import Label, Metric, Over, counter, gauge, histogram
from ingester.telemetry.shared import RESTARTS, Shared
from ingester.telemetry.stages import Stage

DOOR: Final = Label(name="door", values=tuple(Door))
REASON: Final = Label(name="reason", values=tuple(Reason))
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BYTES: Final = tuple(float(1 << power) for power in range(10, 27, 2))
RESULTS: Final = tuple(
    "pass fail softfail neutral none temperror permerror unknown pass_via_forwarder".split()  # noqa: SIM905
)


def _ends() -> tuple[tuple[str, str, str], ...]:
    """How a mail may end, at each door. A reason of now may become one for good."""
    ends = [("accepted", Reason.ACCEPTED), ("duplicate", Reason.DUPLICATE), ("dead", Reason.ACCEPTED)]
    noes = [reason for reason in CODES if reason not in (Reason.ACCEPTED, Reason.DUPLICATE)]
    ends += [("deferred" if CODES[reason].retry else "refused", reason) for reason in noes]
    ends += [("refused", Reason.MAILBOX_SUSPENDED)]
    return tuple((door.value, outcome, reason.value) for door in Door for outcome, reason in ends)


MAILS: Final = counter(
    "ingester_mails_total",
    "Mails that were taken to their end, by what the sender was told; `dead`: kept as a dead letter and answered yes",
    DOOR,
    Label(name="outcome", values=("accepted", "duplicate", "refused", "deferred", "dead")),
    REASON,
    occurs=_ends(),
)
MESSAGES: Final = counter(
    "ingester_messages_total",
    "Rows of mail written, and on what evidence they were matched",
    Label(name="status", values=("matched", "unmatched")),
    Label(name="method", values=(*Method, "none")),
)
DUPLICATES: Final = counter("ingester_duplicates_total", "Deliveries that were there already", DOOR)
VERDICTS: Final = counter(
    "ingester_verdicts_total",
    "Verdicts on senders, four a mail",
    Label(name="check", values=("spf", "dkim", "dmarc", "arc")),
    Label(name="result", values=RESULTS),
)
REFUSALS: Final = counter("ingester_refusals_total", "Refusals noted, before and after the mail came", DOOR, REASON)
DEAD_LETTERS_BURIED: Final = counter(
    "ingester_dead_letters_total",
    "Dead letters kept, by the step that failed",
    Label(name="reason", values=("scan_failed", "decide_failed", "commit_failed", "event_failed")),
)
CONNECTIONS: Final = counter(
    "ingester_connections_total",
    "Connections that came, and whether they were taken",
    DOOR,
    Label(name="result", values=("taken", "turned_away")),
)
TLS: Final = counter(
    "ingester_tls_connections_total",
    "Connections that ended, by their TLS",
    DOOR,
    Label(name="version", values=("TLSv1.2", "TLSv1.3", "none", "other")),
)
DNS_QUESTIONS: Final = counter(
    "ingester_dns_questions_total",
    "Questions put to name servers",
    Label(name="result", values=("found", "no_data", "no_name", "unavailable", "malformed")),
)
DNS_CACHE: Final = counter(
    "ingester_dns_cache_total", "Answers sought in the cache", Label(name="result", values=("hit", "miss"))
)
STORE_TROUBLES: Final = counter(
    "ingester_store_troubles_total",
    "Commits that failed: `transient` is tried again, `lasting` is deferred, `data` becomes a dead letter",
    Label(name="kind", values=("transient", "lasting", "data")),
)
SPAM_CHECKS: Final = counter(
    "ingester_spam_checks_total",
    "Questions to the spam filter",
    Label(name="result", values=("accept", "flag", "defer", "refuse", "unknown")),
)
WORKER_RESTARTS: Final = counter(f"{RESTARTS[0]}_total", RESTARTS[1])
CHORE_FAILURES: Final = counter(
    "ingester_chore_failures_total", "Chores that failed", Label(name="chore", said="the chores' names")
)
HTTP_REQUESTS: Final = counter(
    "ingester_http_requests_total",
    "Requests over HTTP",
    Label(name="route", said="the routes of openapi.json, or none"),
    Label(name="code", said="the statuses that they answer"),
)

ACCEPTANCE_SECONDS: Final = histogram(
    "ingester_acceptance_seconds", "From the end of a mail's bytes to its answer", DOOR, buckets=SECONDS
)
STAGE_SECONDS: Final = histogram(
    "ingester_stage_seconds",
    "One stage of the journey; `find`, `upload` and `commit` are those of a batch",
    Label(name="stage", values=tuple(Stage)),
    buckets=SECONDS,
)
MAIL_BYTES: Final = histogram("ingester_mail_bytes", "Sizes of mails", DOOR, buckets=BYTES)
MAIL_PARTS: Final = histogram(
    "ingester_mail_parts", "Parts of a mail", buckets=(1, 2, 3, 5, 10, 20, 50, 100, 500, 1000)
)
COMMIT_MAILS: Final = histogram("ingester_commit_mails", "Mails that share a commit", buckets=(1, 2, 4, 8, 16, 32, 64))
LOOP_DELAY: Final = histogram(
    "ingester_loop_delay_seconds",
    "How late the event loop came to what was due",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
DATABASE_WAIT: Final = histogram(
    "ingester_database_wait_seconds", "Waiting for a connection of the pool", buckets=SECONDS
)

OPEN_CONNECTIONS: Final = gauge("ingester_connections", "Connections that are open", DOOR)
BYTES_IN_FLIGHT: Final = gauge("ingester_bytes_in_flight", "Bytes of mails being received or stored")
BYTES_LIMIT: Final = gauge("ingester_bytes_in_flight_limit", "The bound on these bytes, of all workers together")
DATABASE_CONNECTIONS: Final = gauge(
    "ingester_database_connections", "Connections to Postgres", Label(name="state", values=("used", "idle"))
)
DATABASE_LIMIT: Final = gauge("ingester_database_connections_limit", "The pools' bound, of all workers together")
DNS_ENTRIES: Final = gauge("ingester_dns_cache_entries", "Answers in the DNS caches")
DEAD_LETTERS: Final = gauge(
    "ingester_dead_letters", "Dead letters that wait for somebody, of the whole database", over=Over.MAX
)
DEAD_LETTERS_OLDEST: Final = gauge(
    "ingester_dead_letters_oldest_seconds", "Age of the oldest of them, 0 without any", over=Over.MAX
)
CERTIFICATE_EXPIRY: Final = gauge(
    "ingester_certificate_expiry_timestamp_seconds", "When the certificate in use ends", over=Over.MIN
)
BUILD_INFO: Final = gauge(
    "ingester_build_info",
    "1, with the versions",
    Label(name="version", said="ingester's"),
    Label(name="python", said="Python's"),
    over=Over.MAX,
)
WORKERS: Final = gauge("ingester_workers", "Workers that run")
READY: Final = gauge("ingester_ready", "1 when all workers are there and ready", over=Over.MIN)
RESIDENT_MEMORY: Final = gauge("ingester_resident_memory_bytes", "Memory of all workers")
OPEN_DESCRIPTORS: Final = gauge(
    "ingester_open_descriptors", "File descriptors of the worker that holds the most", over=Over.MAX
)
CHORE_SUCCESS: Final = gauge(
    "ingester_chore_last_success_timestamp_seconds",
    "When a chore last went well",
    Label(name="chore", said="the chores' names"),
    over=Over.MAX,
)
DIRECTORY_ENTRIES: Final = gauge("ingester_directory_entries", "Routes in the directories' caches")

ALL: Final[tuple[Metric, ...]] = tuple(one for one in tuple(globals().values()) if isinstance(one, Metric))
"""All that stand on this page, in its order, so that none is forgotten."""


class Metrics(Counting):
    """All of them, of one process or, with `shared`, of all workers of a daemon."""

    def __init__(self, shared: Shared | None = None) -> None:
        super().__init__(ALL, shared)
        self._wanted = 1 if shared is None else shared.workers

    def collect(self) -> Sequence[Family]:
        """All that was counted. A worker that is dead says nothing of itself: without it the daemon is not ready."""
        families = super().collect()
        running = sum(sample.value for family in families if family.name == WORKERS.name for sample in family.samples)
        for family in families:
            if family.name == READY.name and running < self._wanted:
                family.samples = [sample._replace(value=0.0) for sample in family.samples]
        return families
