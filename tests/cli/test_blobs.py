"""ingester delete and ingester blobs: what is shown, what is only tried, and what goes."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from ingester.store import objects
from tests.blobs import Bucket
from tests.cli.conftest import Cli

MAIL = b"From: ada@customer.test\r\nSubject: Order\r\nMessage-ID: <one@customer.test>\r\n\r\nText.\r\n"


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


@pytest.fixture
def in_bucket(town: Cli, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    return bucket


def store(town: Cli) -> str:
    return str(town.accept(MAIL).stored[0].message_id)


def test_a_message_is_erased_when_told_so(town: Cli) -> None:
    message_id = store(town)
    said = town.ok("delete", message_id)
    assert "answers to it  0" in said
    assert "Nothing was erased: add --apply to do it." in said
    assert town.json("show", message_id)["message"]["subject"] == "Order"
    done = town.json("delete", message_id, "--apply")
    assert (done["applied"], done["object_deleted"], done["erased"]["parts"]) == (True, True, 1)
    assert town.fails("delete", message_id, "--apply")
    assert "erased" in town.fails("raw", message_id) or "No message" in town.fails("raw", message_id)


def test_by_its_arrival_it_is_known_and_gone(town: Cli) -> None:
    """The receipt stays."""
    outcome = town.accept(MAIL)
    town.ok("delete", outcome.arrival_id, "--apply")
    assert town.fails("delete", outcome.arrival_id) == f"The message {outcome.stored[0].message_id} has been erased"


def test_what_cannot_be_erased(town: Cli) -> None:
    missing = uuid4()
    assert town.fails("delete", missing) == f"No message has the id {missing}"
    town.accept(MAIL, faults="scan:raise")
    letter = town.json("dead", "list")[0]["id"]
    assert town.fails("delete", letter) == f"{letter} is a dead letter: only messages are erased"
    town.usage("delete", "x")


def test_the_object_goes_with_the_message(town: Cli, in_bucket: Bucket) -> None:
    message_id = store(town)
    assert len(in_bucket.urls()) == 1
    assert next(iter(in_bucket.urls())) in town.ok("delete", message_id)
    assert town.run("raw", message_id).stdout_bytes == MAIL
    assert town.run("raw", message_id, "--part", 1).stdout_bytes == b"Text.\r\n"
    town.ok("delete", message_id, "--apply")
    assert in_bucket.urls() == set()


def test_a_message_of_ours_has_no_raw_bytes(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTER_REPLY_TOKEN_SECRETS", "a secret of the tests and long enough to sign")
    one = town.json("outbound", "register", "support@acme.test", "--to", "ada@customer.test")
    assert "raw bytes" not in town.ok("delete", one["message_id"], "--apply")


def test_another_object_that_cannot_go_is_not_this_one(town: Cli, in_bucket: Bucket) -> None:
    message_id = store(town)

    async def leave() -> None:
        connection = await asyncpg.connect(town.url)
        await connection.execute(
            "INSERT INTO blob_trash (tenant_id, raw_id, blob_key) VALUES ($1, $1, 's3://no-such-bucket/x')", uuid4()
        )
        await connection.close()

    asyncio.run(leave())
    assert town.json("delete", message_id, "--apply")["object_deleted"] is True
    assert in_bucket.urls() == set()


def test_a_sweep_is_only_tried_unless_applied(town: Cli, in_bucket: Bucket) -> None:
    """A duplicate's object is in the trash; what is young is not looked at."""
    store(town)
    store(town)
    found: Any = town.json("blobs", "sweep")
    assert found == {
        "applied": False,
        "trash": {"deleted": 0, "left": 1},
        "swept": {"objects": 2, "orphans": 0, "bytes": 0},
    }
    said = town.ok("blobs", "sweep")
    assert "of deleted mails  1 objects" in said
    assert "add --apply" in said
    assert len(in_bucket.urls()) == 2
    assert town.json("blobs", "sweep", "--apply")["trash"] == {"deleted": 1, "left": 0}
    assert len(in_bucket.urls()) == 1


def test_without_an_object_store_there_is_nothing_to_sweep(town: Cli) -> None:
    assert town.json("blobs", "sweep", "--apply") == {
        "applied": True,
        "trash": {"deleted": 0, "left": 0},
        "swept": None,
    }


def test_an_object_store_that_refuses_is_a_sentence(
    town: Cli, in_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = store(town)
    monkeypatch.setenv("INGESTER_S3__SECRET_ACCESS_KEY", "wrong")
    for words in (("raw", message_id), ("raw", message_id, "--part", 1), ("blobs", "sweep")):
        assert town.fails(*words).startswith("The object store did not do it (HTTP status 403)")
    assert "is deleted when it is back" in town.ok("delete", message_id, "--apply")
    assert town.fails("blobs", "sweep", "--apply")
    monkeypatch.setenv("INGESTER_S3__SECRET_ACCESS_KEY", in_bucket.server.s3.secret_access_key.get_secret_value())
    town.ok("blobs", "sweep", "--apply")
    assert in_bucket.urls() == set()


def test_without_the_extra_every_command_says_so(town: Cli, in_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    message_id = store(town)
    monkeypatch.setattr(objects, "find_spec", lambda _: None)
    assert town.fails("raw", message_id) == "Object stores need an extra: pip install 'ingester[s3]'"
    assert "INGESTER_BLOBS and INGESTER_SES__BUCKETS: Object stores need an extra: pip install" in town.fails("serve")


def test_serve_without_an_account_ends_with_a_sentence(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    monkeypatch.setenv("INGESTER_BLOBS", "az://container/mails")
    assert "INGESTER_BLOBS cannot be used: it lacks an account or a key" in town.fails("serve")
