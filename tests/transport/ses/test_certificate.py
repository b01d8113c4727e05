"""The certificates of SNS: fetched once, kept for a while, failures too; and strangers' inventions are bounded."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ingester.auth.certificate import Certificate
from ingester.transport.ses.certificate import (
    FAILURE_KEPT,
    KEPT,
    MAX_FAILURES,
    MAX_FLIGHTS,
    MAX_KEPT,
    Certificates,
)
from ingester.web.fetch import FetchFailed, FetchRefused
from tests.sns import pem_of, rsa_key

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem"
GOOD = pem_of(rsa_key(), begins=NOW - timedelta(days=1), ends=NOW + timedelta(days=30))


class Source:
    """Where certificates come from. While `held` it answers nobody."""

    def __init__(self, answer: bytes | Exception = GOOD) -> None:
        self.answer = answer
        self.fetched: list[str] = []
        self._free = asyncio.Event()
        self._free.set()
        self._news = asyncio.Condition()

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()

    async def asked(self, times: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: len(self.fetched) >= times)

    async def get(self, url: str, *, max_bytes: int, seconds: float) -> bytes:
        del max_bytes, seconds
        async with self._news:
            self.fetched.append(url)
            self._news.notify_all()
        await self._free.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_certificate_is_fetched_once_a_day() -> None:
    source = Source()
    certificates = Certificates(source.get)
    first = await certificates.find(URL, NOW)
    assert isinstance(first, Certificate)
    assert await certificates.find(URL, NOW + KEPT - SECOND) is first
    assert len(source.fetched) == 1
    assert await certificates.find(URL, NOW + KEPT) is not first
    assert len(source.fetched) == 2


async def test_a_certificate_is_not_kept_beyond_its_end() -> None:
    source = Source(pem_of(rsa_key(), begins=NOW - timedelta(days=1), ends=NOW + timedelta(hours=1)))
    certificates = Certificates(source.get)
    await certificates.find(URL, NOW)
    await certificates.find(URL, NOW + timedelta(minutes=59))
    assert len(source.fetched) == 1
    late = await certificates.find(URL, NOW + timedelta(hours=1))
    assert len(source.fetched) == 2
    assert late is not None


async def test_who_asks_at_the_same_time_waits_for_one_fetch() -> None:
    source = Source()
    source.hold()
    certificates = Certificates(source.get)
    waiting = [asyncio.create_task(certificates.find(URL, NOW)) for _ in range(20)]
    await source.asked(1)
    source.let_go()
    found = await asyncio.gather(*waiting)
    assert len(source.fetched) == 1
    assert found[0] is not None
    assert set(map(id, found)) == {id(found[0])}


async def test_who_gives_up_takes_nothing_from_the_others() -> None:
    source = Source()
    source.hold()
    certificates = Certificates(source.get)
    first = asyncio.create_task(certificates.find(URL, NOW))
    await source.asked(1)
    second = asyncio.create_task(certificates.find(URL, NOW))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.let_go()
    assert await second is not None
    assert len(source.fetched) == 1


EXPIRED = pem_of(rsa_key(), begins=NOW - timedelta(days=2), ends=NOW - timedelta(days=1))


@pytest.mark.parametrize(
    "answer",
    [FetchFailed("the answer is 404"), FetchRefused("not public"), b"<html>", b"", EXPIRED],
    ids=["failed", "refused", "html", "empty", "expired"],
)
async def test_a_failure_is_remembered_for_a_minute(answer: bytes | Exception) -> None:
    source = Source(answer)
    certificates = Certificates(source.get)
    for later in (timedelta(0), FAILURE_KEPT - SECOND):
        found = await certificates.find(URL, NOW + later)
        assert found is None or not found.holds_at(NOW)
    assert len(source.fetched) == 1
    source.answer = GOOD
    found = await certificates.find(URL, NOW + FAILURE_KEPT)
    assert found is not None
    assert found.holds_at(NOW)
    assert len(source.fetched) == 2


async def test_an_old_failure_does_not_hide_a_certificate_that_came_later() -> None:
    source = Source(FetchFailed("no"))
    certificates = Certificates(source.get)
    assert await certificates.find(URL, NOW) is None
    source.answer = GOOD
    assert await certificates.find(URL, NOW + FAILURE_KEPT) is not None
    assert await certificates.find(URL, NOW + FAILURE_KEPT) is not None
    assert len(source.fetched) == 2


async def test_what_is_kept_is_bounded() -> None:
    source = Source()
    certificates = Certificates(source.get)
    for number in range(3 * MAX_KEPT):
        assert await certificates.find(f"{URL}{number}", NOW) is not None
    source.answer = FetchFailed("no")
    for number in range(3 * MAX_FAILURES):
        assert await certificates.find(f"{URL}failed{number}", NOW) is None
    assert len(certificates._good) == MAX_KEPT
    assert len(certificates._failed) == MAX_FAILURES
    source.fetched.clear()
    assert await certificates.find(f"{URL}{3 * MAX_KEPT - 1}", NOW) is not None
    assert source.fetched == []


async def test_few_are_on_their_way_at_the_same_time() -> None:
    """What a stranger invents takes no place from a certificate that was good before."""
    source = Source()
    certificates = Certificates(source.get)
    assert await certificates.find(URL, NOW) is not None
    source.hold()
    waiting = [asyncio.create_task(certificates.find(f"{URL}{number}", NOW)) for number in range(MAX_FLIGHTS)]
    await source.asked(1 + MAX_FLIGHTS)
    assert await asyncio.wait_for(certificates.find(f"{URL}another", NOW), 10) is None
    assert len(source.fetched) == 1 + MAX_FLIGHTS
    again = asyncio.create_task(certificates.find(URL, NOW + KEPT))
    await source.asked(2 + MAX_FLIGHTS)
    source.let_go()
    assert await again is not None
    assert None not in await asyncio.gather(*waiting)
    assert await certificates.find(f"{URL}another", NOW) is not None


async def test_closing_ends_what_is_on_its_way() -> None:
    source = Source()
    source.hold()
    certificates = Certificates(source.get)
    waiting = asyncio.create_task(certificates.find(URL, NOW))
    await source.asked(1)
    await certificates.close()
    assert await waiting is None


async def test_a_surprise_is_told_to_all_who_wait_and_not_kept() -> None:
    source = Source(RuntimeError("a fault of ours"))
    certificates = Certificates(source.get)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await certificates.find(URL, NOW)
    assert len(source.fetched) == 2
