"""Times of keeping by the commands: set, shown, and what is said of bytes that went earlier than their message."""

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.cli.conftest import Cli

MAIL = b"From: ada@customer.test\r\nSubject: Order\r\nMessage-ID: <one@customer.test>\r\n\r\nText.\r\n"


@pytest.fixture
def town(cli: Cli) -> Cli:
    cli.town()
    return cli


def age(town: Cli, days: int) -> None:
    """As if all mail had come so many days earlier."""

    async def work() -> None:
        connection = await asyncpg.connect(town.url)
        ago = timedelta(days=days)
        await connection.execute("UPDATE messages SET received_at = received_at - $1::interval", ago)
        await connection.execute("UPDATE raws SET created_at = created_at - $1::interval, id = $2", ago, UUID(int=1))
        await connection.execute("UPDATE messages SET raw_id = $1", UUID(int=1))
        await connection.close()

    asyncio.run(work())


def test_times_are_set_and_shown(town: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTER_RETENTION__DAYS", "700")
    assert "mail kept         default (700d)" in town.ok("tenant", "show", "acme")
    done = town.json("tenant", "set", "acme", "--retention", "365d", "--attachments", "90")
    assert (done["retention_days"], done["attachment_days"]) == (365, 90)
    assert "365d       90d" in town.ok("tenant", "list")
    town.ok("tenant", "set", "acme", "--attachments", "default")
    said = town.ok("tenant", "show", "acme")
    assert "mail kept         365d" in said
    assert "attachments kept  default (365d)" in said, "they go with their messages at the latest"
    town.ok("tenant", "set", "acme", "--retention", "forever")
    assert town.json("tenant", "show", "acme")["tenant"]["retention_days"] == 0
    assert "mail kept         forever" in town.ok("tenant", "show", "acme")


@pytest.mark.parametrize("days", ["0d", "-1", "1y", "d", "365dd", "100000", "\u0663d"])
def test_nonsense_is_refused(town: Cli, days: str) -> None:
    assert "days are wanted, like 365d" in town.usage("tenant", "set", "acme", "--retention", days)
    town.usage("tenant", "set", "acme")


def test_what_is_over_its_time_is_counted_and_removed(town: Cli) -> None:
    town.accept(MAIL)
    town.ok("tenant", "set", "acme", "--retention", "30d")
    assert town.json("retention") == {"applied": False, "due": []}
    assert town.ok("retention") == "Nothing is over its time.\n"
    age(town, 31)
    assert town.json("retention")["due"] == [{"tenant": "acme", "messages": 1, "others": ["raws"]}]
    assert "over their time   1 messages" in town.ok("tenant", "show", "acme")
    removed = town.json("retention", "--apply")["removed"]
    assert removed == dict.fromkeys(("messages", "parts", "raws", "threads", "thread_ids"), 1)
    assert town.json("retention", "--apply")["removed"] == {}


def test_bytes_that_went_are_told_of(town: Cli) -> None:
    outcome = town.accept(MAIL)
    message_id = outcome.stored[0].message_id
    town.ok("tenant", "set", "acme", "--attachments", "90d")
    age(town, 91)
    assert town.json("show", message_id)["message"]["raw_kept"] is True
    assert town.json("retention")["due"] == [{"tenant": "acme", "messages": 0, "others": ["raws"]}]
    assert "raw bytes" in town.ok("retention")
    assert town.json("retention", "--apply")["removed"] == {"raws": 1}
    gone = f"The raw mail of {message_id} is gone: the tenant acme keeps attachments for 90 days"
    assert town.fails("raw", message_id) == gone
    assert town.fails("raw", message_id, "--part", 1) == gone
    shown = town.ok("show", message_id)
    assert f"{len(MAIL)} bytes, which are gone: no part can be read any more" in shown
    assert "Text." in shown
    assert town.json("show", message_id)["message"]["raw_kept"] is False
    assert "it cites no message" in town.ok("explain", message_id), "the decision is in the row"
    judged = town.run("rematch", "--since", "100d")
    assert (judged.exit_code, judged.stderr) == (0, f"The raw mail of {message_id} is gone: not judged\n")
