"""What is counted of mails equals the rows, also where the write finds more than the judge, and for dead letters."""

import asyncio
from typing import Any

from ingester.telemetry.kinds import Metric
from ingester.telemetry.metrics import DEAD_LETTERS_BURIED, DUPLICATES, MAILS, MESSAGES, REFUSALS, SPAM_CHECKS
from tests.inbound import House, mail, receiving


def counted(house: House, metric: Metric) -> dict[tuple[str, ...], float]:
    """A counter's series that are not zero, by the values of their labels in the order of the list."""
    families = house.app.telemetry.metrics.collect()
    found: dict[tuple[str, ...], float] = {}
    for family in families:
        for sample in family.samples:
            if sample.name == metric.name and sample.value:
                found[tuple(sample.labels[label.name] for label in metric.labels)] = sample.value
    return found


async def rows(house: House, query: str) -> dict[tuple[Any, ...], float]:
    """What the database holds, the count last."""
    return {tuple(row)[:-1]: float(row[-1]) for row in await house.town.fetch(query)}


async def test_a_mail_that_finds_its_conversation_in_the_write_is_counted_as_it_was_written(database_url: str) -> None:
    """Mail and reply share a commit: the judge has not seen the one when it judges the other."""
    async with receiving(database_url, store__connections=2) as house:
        pairs = ((mail(f"first-{n}"), mail(f"second-{n}", In_Reply_To=f"<first-{n}@customer.test>")) for n in range(30))
        await asyncio.gather(*(house.post(one) for pair in pairs for one in pair))
        told = counted(house, MESSAGES)
        written = await rows(
            house,
            "SELECT reply_match_status, coalesce(reply_match_method, 'none'), count(*) FROM messages GROUP BY 1, 2",
        )
    late = written.pop(("matched", "late_join"), 0.0)  # written unmatched, and joined by the first mail
    written["unmatched", "none"] += late
    assert told == written
    assert told["matched", "in_reply_to"] + late == 30


async def test_a_mail_that_cannot_be_digested_twice_is_one_dead_letter_and_a_duplicate(database_url: str) -> None:
    async with receiving(database_url, test__faults="scan:raise") as house:
        for _ in range(2):
            assert (await house.post(mail("m"), path="/events/inbound?recipient=support@acme.test")).status == 202
        assert counted(house, DEAD_LETTERS_BURIED) == {("scan_failed",): 1}
        assert counted(house, DUPLICATES) == {("http",): 1}
        assert counted(house, MAILS) == {("http", "dead", "accepted"): 2}
        assert counted(house, MESSAGES) == {}
        assert await rows(house, "SELECT duplicate, count(*) FROM receipts GROUP BY 1") == {(False,): 1, (True,): 1}


async def test_refusals_before_and_after_the_mail_came_are_counted_as_noted(database_url: str) -> None:
    async with receiving(database_url) as house:
        await house.execute("UPDATE mailboxes SET accepts_cold_inbound = false WHERE local_part = 'sales'")
        await house.post(mail("cold"), path="/events/inbound?recipient=sales@acme.test")
        await house.post(mail("nobody"), path="/events/inbound?recipient=nobody@acme.test")
        await house.post(mail("nowhere"), path="/events/inbound?recipient=a@nowhere.test")
        await house.post(b"x" * (house.app.settings.max_message_bytes + 1))
        told = counted(house, REFUSALS)
        await house.app.refusals.flush()
        assert told == await rows(house, "SELECT door, reason, sum(count) FROM refusals GROUP BY 1, 2")
        assert {reason for _, reason in told} == {
            "cold_inbound_refused",
            "unknown_mailbox",
            "unknown_domain",
            "oversized",
        }


async def test_a_spam_filter_that_does_not_answer_is_counted(database_url: str) -> None:
    async with receiving(database_url, spam__url="http://127.0.0.1:1/checkv2") as house:
        assert (await house.post(mail("m"))).status == 202
        assert counted(house, SPAM_CHECKS) == {("unknown",): 1}
