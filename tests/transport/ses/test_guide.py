"""The examples of `deploy/providers/ses.md` are what the door takes."""

import json
import re
from pathlib import Path

from ingester.settings import load
from tests.swift import Swift
from tests.transport.ses.house import EVENTS, House, mail, running
from tests.transport.ses.test_events import tell_sent

GUIDE = (Path(__file__).parents[3] / "deploy" / "providers" / "ses.md").read_text()
RECEIVED, BOUNCE = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL))


def ours(text: str, house: House) -> str:
    """The example with the names of this house."""
    return text.replace("acme-inbound", house.bucket).replace("acme.example", "acme.test")


async def test_the_examples_are_taken(database_url: str, swift: Swift) -> None:
    async with running(database_url, swift, reply_token_secrets="a secret of at least 32 characters!!") as house:
        house.put(mail(), key=RECEIVED["mail"]["messageId"])
        assert (await house.tell(ours(json.dumps(RECEIVED), house))).status == 202
        made = await house.register()
        await tell_sent(house, made.message_id, BOUNCE["mail"]["messageId"])
        assert (await house.tell(ours(json.dumps(BOUNCE), house), EVENTS)).status == 202
        assert await house.status(made.message_id) == "bounced"


def test_the_settings_are_settings() -> None:
    said = dict(re.findall(r"^ *(INGESTER_[A-Z0-9_]+)=(\S+)$", GUIDE, re.MULTILINE))
    ses = load({"INGESTER_ENV": "development", **said}).ses
    assert [one.owner.tenant or one.owner.domain for one in ses.buckets] == ["acme", "globex.example"]
    assert f"`INGESTER_SES__RECONCILE_DAYS` ({ses.reconcile_days:g})" in GUIDE
    assert f"`INGESTER_SES__RECONCILE_SECONDS` ({ses.reconcile_seconds:g})" in " ".join(GUIDE.split())
    assert f"`INGESTER_SES__TIMESTAMP_SECONDS` ({ses.timestamp_seconds:g})" in GUIDE
