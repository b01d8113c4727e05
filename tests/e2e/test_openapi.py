"""The description against the running door: nothing that schemathesis thinks of gets a 500 or an answer not described.

A file of its own: it takes its minute beside the others.
"""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as bounded
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ingester.clock import new_id, now
from ingester.settings import load
from ingester.store.db import Database
from ingester.store.keys import add_key, key_text
from tests.daemon import Town, serving
from tests.inbound import TOKEN, mail
from tests.ports import free_port

pytestmark = pytest.mark.thorough

KEY = key_text(b"k" * 32)
CHECKS = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
EXAMPLES = 25
SECONDS = 10.0
"""How long an answer may take at most."""
KNOWN = ["support@acme.test", "sales@globex.test", "nobody@acme.test"]


def test_every_answer_is_described(acme: Town) -> None:
    explore(acme, seconds=60)


@pytest.mark.long
def test_every_answer_is_described_for_long(acme: Town) -> None:
    explore(acme, seconds=600)


def explore(town: Town, *, seconds: float) -> None:
    """Ask all operations in turn, with data that fits the description and with data that does not."""
    port = free_port()
    mailbox = town.ask("SELECT id FROM mailboxes WHERE local_part = 'support' ORDER BY id LIMIT 1")[0]["id"]
    told: Counter[tuple[str, int]] = Counter()
    settings = {
        "INGESTER_HTTP__LISTEN": f"127.0.0.1:{port}",
        "INGESTER_INBOUND_TOKEN": TOKEN,
        "INGESTER_REPLY_TOKEN_SECRETS": "r" * 32,
    }
    with serving(town.url, settings=settings):
        make_key(town)
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
        assert len(operations) >= 5
        end, turn = time.monotonic() + seconds, 0
        with requests.Session() as session:
            while time.monotonic() < end:
                for operation in operations:
                    fuzz(operation, turn, str(mailbox), session, told)
                turn += 1
    statuses = {status for _, status in told}
    assert {200, 201, 202, 401, 404, 415, 422} <= statuses, told
    assert sum(told.values()) > 5 * seconds, told


def fuzz(operation: Any, turn: int, mailbox: str, session: requests.Session, told: Counter[tuple[str, int]]) -> None:
    """Some examples of one operation."""
    asks_for_nothing = not operation.definition.raw.keys() & {"parameters", "requestBody"}
    mode = GenerationMode.NEGATIVE if turn % 2 and not asks_for_nothing else GenerationMode.POSITIVE

    @seed(turn)
    @bounded(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), chance=st.integers(0, 19), to=st.sampled_from(KNOWN))
    def ask(case: Any, chance: int, to: str) -> None:
        if chance % 2 and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = mailbox
        if chance % 3 and isinstance(case.body, dict) and "event_id" in case.body and mode is GenerationMode.POSITIVE:
            case.body = {"event_id": case.body["event_id"], "raw_mime": mail("m").decode(), "recipients": [to]}
        response = case.call(session=session, headers=authorised(operation.path, chance), timeout=SECONDS)
        told[operation.path, response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    ask()


def authorised(path: str, chance: int) -> dict[str, str]:
    """The right token; now and then none at all, or another type of body than there is."""
    if chance == 0 or path in ("/openapi.json", "/healthz", "/readyz"):
        return {}
    token = {"Authorization": f"Bearer {KEY if path.startswith('/v1') else TOKEN}"}
    return token | ({"Content-Type": "text/plain"} if chance == 1 else {})


def make_key(town: Town) -> None:
    """A key of acme's."""

    async def make() -> None:
        connection = await Database(load({}, env="development", database_url=town.url)).connect()
        try:
            tenant_id = await connection.fetchval("SELECT id FROM tenants WHERE slug = 'acme'")
            await add_key(connection, key_id=new_id(), tenant_id=tenant_id, name="app", text=KEY, at=now())
        finally:
            await connection.close()

    asyncio.run(make())


@schemathesis.serializer("message/rfc822")
def _as_it_is(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


schemathesis.openapi.media_type("message/rfc822", st.binary(max_size=300) | st.sampled_from([mail("m"), mail("n")]))
