"""The certificates of SNS: fetched when a message names one, and kept.

Whoever knows a topic can name certificates that do not exist, before any signature is looked at. So each is fetched
once for all who wait, a failure is remembered for a while, and few are on their way at the same time.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from ingester.auth.certificate import MAX_CERTIFICATE, Certificate, read_certificate
from ingester.web.fetch import FetchFailed, FetchRefused, Get

KEPT: Final = timedelta(days=1)
FAILURE_KEPT: Final = timedelta(minutes=1)
MAX_KEPT: Final = 16
MAX_FAILURES: Final = 64
MAX_FLIGHTS: Final = 4
FETCH_SECONDS: Final = 5.0
"""SNS waits 15 s for our answer, and the mail needs some of them."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    certificate: Certificate | None
    until: datetime


class Certificates:
    """The certificates by their URLs. Which URLs may be asked for is the caller's matter."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._good: dict[str, _Kept] = {}
        self._failed: dict[str, _Kept] = {}
        self._flights: dict[str, asyncio.Task[Certificate | None]] = {}

    async def find(self, url: str, now: datetime) -> Certificate | None:
        """The certificate, which may be out of date; None when there is no usable one to be had now."""
        for kept in (self._good.get(url), self._failed.get(url)):
            if kept is not None and now < kept.until:
                return kept.certificate
        flight = self._flights.get(url)
        if flight is None:
            # One that was good before is not kept waiting by strangers' inventions.
            if len(self._flights) >= MAX_FLIGHTS and url not in self._good:
                return None
            flight = self._flights[url] = asyncio.create_task(self._fetch(url, now))
            flight.add_done_callback(lambda _: self._flights.pop(url, None))
        await asyncio.wait((flight,))  # who waits, and is cancelled, has no say in the flight's fate
        return None if flight.cancelled() else flight.result()

    async def close(self) -> None:
        """End what is on its way; who waits for it gets none."""
        flights = tuple(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fetch(self, url: str, now: datetime) -> Certificate | None:
        certificate = await self._read(url)
        if certificate is not None and certificate.holds_at(now):
            _keep(self._good, url, _Kept(certificate=certificate, until=min(certificate.ends, now + KEPT)), MAX_KEPT)
        else:
            _keep(self._failed, url, _Kept(certificate=certificate, until=now + FAILURE_KEPT), MAX_FAILURES)
        return certificate

    async def _read(self, url: str) -> Certificate | None:
        try:
            read = read_certificate(await self._get(url, max_bytes=MAX_CERTIFICATE, seconds=FETCH_SECONDS))
        except (FetchRefused, FetchFailed) as error:
            read = str(error)
        if isinstance(read, str):
            _log.warning("sns.certificate_unavailable", reason=read)
            return None
        return read


def _keep(kept: dict[str, _Kept], url: str, one: _Kept, most: int) -> None:
    """Put it in, and the oldest out where there are too many."""
    kept.pop(url, None)
    while len(kept) >= most:
        del kept[next(iter(kept))]
    kept[url] = one
