"""Verdicts that are remembered: as long as DNS says the same, for those who are alike, charged as if found anew."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from ingester.auth import dmarc, peer, spf
from ingester.auth.check import Authenticator, Rules
from ingester.auth.dns import Resolver
from ingester.auth.dns_message import UNAVAILABLE_SECONDS
from ingester.auth.lookup import Answer, Status
from ingester.auth.remembered import MOST_ANSWERS, Remembered, Watched
from ingester.auth.report import AuthReport, Result
from ingester.core.envelope import Client, Door, Envelope
from ingester.core.message import digest
from ingester.core.mime import Bounds
from tests.nameserver import NameServer
from tests.zones import Fault, Zone

IP, HELO, DOMAIN = "192.0.2.1", "mx.a.test", "a.test"
NOW = datetime(2026, 7, 1, tzinfo=UTC)
RAW = b"From: ann@a.test\r\n\r\nhello\r\n"
SIGNED = b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=slow.test; s=key; h=from; bh=QUJD; b=QUJD\r\n" + RAW
SECONDS, ABSENT = 300, 60
"""How long the server's answers hold, and its absences."""
ZONE: dict[str, list[Any]] = {
    DOMAIN: [("TXT", "v=spf1 include:_spf.a.test -all")],
    "_spf.a.test": [("TXT", "v=spf1 ip4:192.0.2.0/24 -all")],
    HELO: [("A", IP), ("TXT", "v=spf1 a -all")],
    "_dmarc.a.test": [("TXT", "v=DMARC1; p=reject")],
    "_dmarc.test": [("TXT", "v=DMARC1; p=none; psd=y")],
    "1.2.0.192.in-addr.arpa": [("PTR", HELO)],
}
RULES = Rules(
    authserv_id="mx.test",
    relays=(),
    block_zones=(),
    allow_zones=(),
    reverse_dns=True,
    max_signatures=5,
    max_arc_sets=10,
)
QUESTIONS = 8
"""What a mail costs here: two for SPF, two for HELO, two for the client, two for DMARC."""
ONCE = {"check_mail_from": 1, "check_helo": 1, "observe": 1, "evaluate": 1}
TWICE = dict.fromkeys(ONCE, 2)


@dataclass(slots=True)
class Office:
    """An authenticator with a name server and a clock to set, and how often each check was made."""

    server: NameServer
    resolver: Resolver
    authenticator: Authenticator
    clock: list[float]
    made: Counter[str] = field(default_factory=Counter)

    async def report(self, mail_from: str = "ann@a.test", **how: Any) -> AuthReport:
        """What is found of a mail, From and envelope the same."""
        client = Client(ip=how.get("ip", IP), helo=how.get("helo", HELO))
        envelope = Envelope(
            door=Door.SMTP,
            raw=how.get("raw", RAW),
            mail_from=mail_from,
            recipients=(),
            client=client,
            arrival_id=UUID(int=1),
            received_at=how.get("now", NOW),
        )
        author = how.get("author", mail_from or "ann@a.test")
        return (await self.authenticator.check(envelope, authors=(author,), from_fields=1)).report

    def hits(self) -> float:
        """How many answers were had from the cache, as the metrics say."""
        samples = [sample for family in self.resolver._metrics.collect() for sample in family.samples]
        return sum(
            one.value for one in samples if one.name == "ingester_dns_cache_total" and one.labels["result"] == "hit"
        )

    def publish(self, **how: list[Any]) -> None:
        """Change the zone; what is asked before its time is over does not show it."""
        self.server.zone = Zone({**ZONE, **how})


@pytest.fixture
async def office(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    with ThreadPoolExecutor(1) as threads:
        async with NameServer(zone=Zone(ZONE), seconds=SECONDS, minimum=ABSENT) as server:
            clock = [1000.0]
            resolver = Resolver([server.address], try_seconds=30, clock=lambda: clock[0])
            office = Office(server, resolver, Authenticator(resolver, RULES, threads=threads), clock)
            for module, name in ((spf, "check_mail_from"), (spf, "check_helo"), (peer, "observe"), (dmarc, "evaluate")):
                monkeypatch.setattr(module, name, counted(module, name, office.made))
            yield office
            await resolver.close()


def counted(module: ModuleType, name: str, made: Counter[str]) -> Callable[..., Any]:
    check = getattr(module, name)

    @wraps(check)
    async def counting(*args: Any, **how: Any) -> Any:
        made[name] += 1
        return await check(*args, **how)

    return counting


async def test_the_second_mail_of_a_host_is_not_judged_anew(office: Office) -> None:
    first = await office.report()
    assert (first.spf.result, first.dmarc.result) == (Result.PASS, Result.PASS)
    assert first.peer is not None
    assert first.peer.reverse is Result.PASS
    assert first.queries == QUESTIONS
    assert await office.report() == first
    assert office.made == ONCE


async def test_another_sender_of_the_domain_is_shown_as_himself(office: Office) -> None:
    first = await office.report()
    second = await office.report("bob\u00e9\x07@a.test")
    assert office.made["check_mail_from"] == 1
    assert second == replace(first, spf=replace(first.spf, envelope_from="bob\u00e9?@a.test"))


async def test_nothing_outlives_the_first_answer_whose_time_is_over(office: Office) -> None:
    await office.resolver.lookup().txt("_spf.a.test")
    office.clock[0] += 100
    await office.report()
    office.publish(**{"_spf.a.test": [("TXT", "v=spf1 -all")]})
    office.clock[0] += SECONDS - 100 - 0.01
    assert (await office.report()).spf.result is Result.PASS
    office.clock[0] += 0.01
    assert (await office.report()).spf.result is Result.FAIL
    assert office.made["check_mail_from"] == 2
    assert office.made["evaluate"] == 2, "its evidence is another"
    assert office.made["observe"] == 1, "it rests on other answers"


async def test_an_absence_is_an_answer_with_its_time(office: Office) -> None:
    office.server.zone = Zone({name: held for name, held in ZONE.items() if not name.startswith("_dmarc")})
    assert (await office.report()).dmarc.result is Result.NONE
    office.publish()
    office.clock[0] += ABSENT - 0.01
    assert (await office.report()).dmarc.result is Result.NONE
    office.clock[0] += 0.01
    assert (await office.report()).dmarc.result is Result.PASS


async def test_what_the_cache_dropped_is_judged_anew(office: Office) -> None:
    await office.report()
    office.publish(**{"_spf.a.test": [("TXT", "v=spf1 -all")]})
    for key in list(office.resolver._cache._entries):
        office.resolver._cache._drop(key)
    assert (await office.report()).spf.result is Result.FAIL
    assert office.made == TWICE


async def test_another_answer_in_the_place_of_the_first_counts_as_gone(office: Office) -> None:
    await office.report()
    cache = office.resolver._cache
    key, held = next((key, held) for key, held in cache._entries.items() if key[0] == "_spf.a.test")
    assert held.entry is not None
    changed = replace(held.entry, answer=Answer(Status.FOUND, (b"v=spf1 -all",)))
    cache.put(key, changed, office.clock[0])
    assert (await office.report()).spf.result is Result.FAIL


async def test_what_was_replaced_while_a_check_went_on_is_not_taken_for_its_answer(office: Office) -> None:
    memory: Remembered[int] = Remembered(office.resolver)
    watched = Watched(office.resolver.lookup())
    await watched.txt("a.test")
    key, entry = watched.questions[0]
    office.resolver._cache.put(key, replace(entry), office.clock[0])
    memory.keep("key", 1, watched)
    assert memory.find("key", office.resolver.lookup()) is None


async def test_answers_that_are_known_are_counted_like_those_that_are_sought(office: Office) -> None:
    await office.report()
    before = office.hits()
    await office.report()
    assert office.hits() - before == QUESTIONS


async def test_answers_without_time_are_not_remembered(office: Office) -> None:
    office.server.seconds = 0
    assert (await office.report()).spf.result is Result.PASS
    await office.report()
    assert office.made == TWICE


@pytest.mark.parametrize(
    "faulty", ["_spf.a.test", HELO, "1.2.0.192.in-addr.arpa", "_dmarc.a.test"], ids=["spf", "helo", "peer", "dmarc"]
)
async def test_no_answer_is_never_remembered(office: Office, faulty: str) -> None:
    office.publish(**{faulty: [Fault.SERVFAIL]})
    await office.report()
    office.publish()
    await office.report()
    unsure = {name for name, times in office.made.items() if times == 2}
    assert (
        unsure
        == {
            "_spf.a.test": {"check_mail_from", "check_helo", "evaluate"},
            HELO: {"check_mail_from", "check_helo", "observe"},
            "1.2.0.192.in-addr.arpa": {"observe"},
            "_dmarc.a.test": {"evaluate"},
        }[faulty]
    )
    office.clock[0] += UNAVAILABLE_SECONDS
    assert (await office.report()).queries == QUESTIONS


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        ("v=spf1 exists:%{l}._users.a.test -all", False),
        ("v=spf1 exists:%{s}._users.a.test -all", False),
        ("v=spf1 -all exp=_why.a.test", False),
        ("v=spf1 exists:%{ir}._hosts.a.test -all", True),
        ("v=spf1 exists:%{h}.%{o}._hosts.a.test -all", True),
        ("v=spf1 ip4:192.0.2.1 exists:%{l}._users.a.test -all", True),
    ],
    ids=["local part", "sender", "time", "address", "helo", "never expanded"],
)
async def test_what_a_macro_says_of_the_sender_or_the_time_is_not_remembered(
    office: Office, record: str, kept: bool
) -> None:
    zone = {"a.test": [("TXT", record)], "ann._users.a.test": [("A", "127.0.0.2")], "_why.a.test": [("TXT", "%{t}")]}
    office.publish(**zone)
    ann = await office.report("ann@a.test")
    bob = await office.report("bob@a.test", now=NOW + timedelta(seconds=5))
    assert (office.made["check_mail_from"] == 1) is kept
    if "%{l}" in record and not kept:
        assert (ann.spf.result, bob.spf.result) == (Result.PASS, Result.FAIL)
    if "exp=" in record:
        assert ann.spf.explanation == str(int(NOW.timestamp()))
        assert bob.spf.explanation == str(int(NOW.timestamp()) + 5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"ip": "192.0.2.1"}, {"ip": "198.51.100.1"}),
        ({"helo": "mx.a.test"}, {"helo": "mx.b.test"}),
        ({"helo": "mx.a.test", "mail_from": "x@a.test"}, {"helo": "mx.a.tes", "mail_from": "x@ta.test"}),
        ({"helo": "mx.a.test,a.test", "mail_from": ""}, {"helo": "mx.a.test", "mail_from": "x@a.test"}),
        ({"helo": "a.test", "mail_from": "x@"}, {"helo": "a.test", "mail_from": ""}),
        ({"helo": "None", "mail_from": "x@None"}, {"helo": "None", "mail_from": ""}),
        ({"helo": "a\0b", "mail_from": "x@c"}, {"helo": "a", "mail_from": "x@b\0c"}),
        ({"author": "x@a.test"}, {"author": "x@sub.a.test"}),
        ({"author": "x@a.test"}, {"author": "a.test"}),
        ({"author": "x@a.test"}, {"author": "x@a.test@b.test"}),
    ],
)
async def test_what_is_not_alike_is_told_apart(office: Office, first: Any, second: Any) -> None:
    """Whoever came before, the report is the one that an authenticator without memory makes."""
    alone = await office.report(**second)
    office.authenticator = Authenticator(office.resolver, RULES, threads=office.authenticator._threads)
    other = await office.report(**first)
    assert await office.report(**second) == alone
    assert other != alone


@pytest.mark.parametrize("how", [{"helo": "h" * 256}, {"mail_from": "x" * 506 + "@a.test"}])
async def test_what_is_too_long_to_be_a_name_is_not_remembered(office: Office, how: Any) -> None:
    assert await office.report(**how) == await office.report(**how)
    assert office.made["check_mail_from"] == 2
    assert len(office.authenticator._spfs) == 0


async def test_a_budget_that_would_not_have_done_does_not_do(office: Office) -> None:
    """A mail that has spent its questions gets what it would have got, whatever is known."""
    await office.report()
    office.resolver._mail_queries = 3  # two of which are for what comes before DMARC
    short = await office.report()
    assert (short.spf.result, short.queries) == (Result.PASS, 3)
    assert short.helo is not None
    assert short.helo.result is Result.TEMPERROR
    assert office.made["check_mail_from"] == 2


async def test_beyond_the_deadline_nothing_is_known(office: Office) -> None:
    await office.report()
    office.resolver._mail_seconds = 0
    assert (await office.report()).spf.result is Result.TEMPERROR


async def test_a_signer_without_servers_takes_nothing_from_what_is_known(office: Office) -> None:
    """What was known when the mail came is its own, however long its key is waited for."""
    first = await office.report()
    assert (await office.report(raw=SIGNED)).peer == first.peer
    office.publish(**{"key._domainkey.slow.test": [Fault.SLOW]})
    office.clock[0] += ABSENT
    await office.report()
    waiting = asyncio.create_task(office.report(raw=SIGNED))
    await office.server.wait_for(1)
    office.clock[0] += 14
    office.server.let_go()
    late = await waiting
    assert (late.spf, late.peer) == (first.spf, first.peer)
    assert late.queries == QUESTIONS + 1


async def test_it_is_bounded_and_the_least_used_goes(office: Office) -> None:
    memory: Remembered[int] = Remembered(office.resolver, most=3)
    lookup = office.resolver.lookup()
    watched = Watched(lookup)
    await watched.txt("a.test")
    for n in range(3):
        memory.keep(("key", n), n, watched)
    assert memory.find(("key", 0), lookup) is not None
    memory.keep(("key", 3), 3, watched)
    assert len(memory) == 3
    assert [n for n in range(4) if memory.find(("key", n), lookup)] == [0, 2, 3]


async def test_a_verdict_on_many_answers_is_not_remembered(office: Office) -> None:
    memory: Remembered[int] = Remembered(office.resolver)
    watched = Watched(office.resolver.lookup())
    for _ in range(MOST_ANSWERS):
        await watched.txt("a.test")
    memory.keep("key", 1, watched)
    assert len(memory) == 1
    await watched.txt("a.test")
    memory.keep("other", 1, watched)
    assert len(memory) == 1


async def test_dropped_answers_are_not_held_alive(office: Office) -> None:
    """The bound of the DNS cache in bytes holds for what is remembered, too."""
    await office.report()
    answers = [held for one in office.authenticator._spfs._known.values() for held in one.answers]
    assert len(answers) == 4
    for key in list(office.resolver._cache._entries):
        office.resolver._cache._drop(key)
    assert all(held.entry is None for held in answers)


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(max_header_bytes=64), Bounds(max_header_fields=1)])
async def test_the_header_is_the_one_that_was_read(office: Office, bounds: Bounds) -> None:
    """Signatures are judged over what the scan let be seen: beyond its bounds all is unknown."""
    raw = b"DKIM-Signature: v=2\r\nX: " + b"y" * 100 + b"\r\n" + RAW
    envelope = Envelope(
        door=Door.HTTP,
        raw=raw,
        mail_from="",
        recipients=(),
        client=Client(ip=IP, helo=None),
        arrival_id=UUID(int=1),
        received_at=NOW,
    )
    block = digest(raw, bounds).header
    found = await office.authenticator.check(envelope, authors=(), from_fields=0, block=block)
    cut = bounds != Bounds()
    assert found.report.arc.result is (Result.UNKNOWN if cut else Result.NONE)
