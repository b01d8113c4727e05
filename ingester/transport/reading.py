"""The body of a request that holds a mail: read within its size, its time and the bytes in flight."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from aiohttp import web

from ingester.core.outcome import Reason
from ingester.transport.http.fields import Fault
from ingester.transport.load import Load
from ingester.web.body import go_on
from ingester.web.problem import NOT_HTTP, TIMED_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one body: bytes on the wire, and seconds until its end."""

    bytes: int
    seconds: float


async def read_body(request: web.Request, limits: Limits, load: Load) -> bytes | Fault:
    """The whole body."""
    if request.content.is_eof():
        return _arrived(request, limits, load)
    body = BytesIO()
    fault = await pour(request, limits, load, lambda chunk: _write(body, chunk))
    return fault or body.getvalue()


def _write(body: BytesIO, chunk: bytes) -> None:
    body.write(chunk)


async def pour(request: web.Request, limits: Limits, load: Load, take: Callable[[bytes], Fault | None]) -> Fault | None:
    """Give the body piece by piece to `take`, which may refuse it."""
    if (request.content_length or 0) > limits.bytes:
        return Reason.OVERSIZED
    if request.content.is_eof():
        body = _arrived(request, limits, load)
        return (take(body) if body else None) if isinstance(body, bytes) else body
    poured = _Poured(limits, load, take)
    try:
        await go_on(request)
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.content.iter_any():
                fault = poured.add(chunk)
                if fault is not None:
                    return fault
    except TimeoutError:
        return TIMED_OUT
    except web.RequestPayloadError:
        return NOT_HTTP
    return None


def _arrived(request: web.Request, limits: Limits, load: Load) -> bytes | Fault:
    """A body that has come with its header, as small ones do: nothing is waited for, and nothing put together."""
    try:
        body = request.content.read_nowait()
    except web.RequestPayloadError:
        return NOT_HTTP
    if len(body) > limits.bytes:
        return Reason.OVERSIZED
    return body if load.hold(len(body)) else Reason.OVERLOADED


class _Poured:
    """A body on its way, within its bounds."""

    __slots__ = ("_limits", "_load", "_seen", "_take")

    def __init__(self, limits: Limits, load: Load, take: Callable[[bytes], Fault | None]) -> None:
        self._limits = limits
        self._load = load
        self._take = take
        self._seen = 0

    def add(self, chunk: bytes) -> Fault | None:
        """Give a piece on, unless it is too much."""
        self._seen += len(chunk)
        if self._seen > self._limits.bytes:
            return Reason.OVERSIZED
        if not self._load.hold(self._seen):
            return Reason.OVERLOADED
        return self._take(chunk)


def is_plain(request: web.Request) -> bool:
    """Whether the body is as it is, not compressed: a small one must not become a large one."""
    return request.headers.get("Content-Encoding", "identity").lower() == "identity"
