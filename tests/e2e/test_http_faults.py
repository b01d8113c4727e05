"""Mail over HTTP while things break: kill -9 between claim and commit and during the reply, Postgres gone, hang-ups."""

import threading
from contextlib import ExitStack

import pytest

from tests.daemon import Town, serving
from tests.e2e.ledger import audit
from tests.e2e.provider import Handed, hand_in, insist
from tests.inbound import TOKEN
from tests.mta import letters
from tests.ports import free_port
from tests.postgres import Cluster

pytestmark = pytest.mark.thorough

BOTH = ("support@acme.test", "sales@globex.test")


def settings(port: int, **more: str) -> dict[str, str]:
    return {"INGESTER_HTTP__LISTEN": f"127.0.0.1:{port}", "INGESTER_INBOUND_TOKEN": TOKEN, **more}


@pytest.mark.parametrize(
    ("point", "stored", "as_json"),
    [("commit", 0, False), ("before_commit", 0, True), ("during_commit", 1, False), ("after_commit", 1, True)],
)
def test_kill_and_retry_of_the_same_event(acme: Town, point: str, stored: int, as_json: bool) -> None:
    """The event is claimed with the rows or not at all: an unfinished claim is never an answer, a finished one is."""
    port, (mail,) = free_port(), letters(1, *BOTH)
    attempts: list[Handed] = []

    def bring() -> None:
        attempts.extend(insist(port, mail.content, *BOTH, as_json=as_json, event_id="evt-1"))

    with ExitStack() as stack:
        first = stack.enter_context(serving(acme.url, settings=settings(port, INGESTER_TEST_FAULTS=f"{point}:kill")))
        provider = threading.Thread(target=bring)
        provider.start()
        first.wait_killed()
        stack.enter_context(serving(acme.url, settings=settings(port)))
        provider.join(60)
    assert attempts[0].status == 0
    last = attempts[-1]
    assert (last.status, last.body["status"]) == ((200, "duplicate") if stored else (202, "accepted"))
    assert len(last.body["message_ids"]) == len(BOTH)
    audit(acme.url, [mail], [])
    (row,) = acme.ask("SELECT count(*) FILTER (WHERE duplicate) AS retries FROM receipts")
    assert row["retries"] == stored * len(BOTH)
    assert {row["provider_event_id"] for row in acme.ask("SELECT provider_event_id FROM receipts")} == {"evt-1"}


def test_postgres_away_is_503_and_the_retry_is_stored_once(own_town: Town, own_server: Cluster) -> None:
    port, (mail,) = free_port(), letters(1, *BOTH)
    with serving(own_town.url, settings=settings(port, INGESTER_STORE__COMMIT_SECONDS="2")):
        own_server.server.stop()
        assert hand_in(port, mail.content, *BOTH, event_id="e").status == 503
        own_server.server.start()
        attempts = insist(port, mail.content, *BOTH, event_id="e")
    assert attempts[-1].status in (200, 202)
    audit(own_town.url, [mail], [])
