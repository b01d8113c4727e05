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
    body = BytesIO()
    fault = await pour(request, limits, load, lambda chunk: _write(body, chunk))
    return fault or body.getvalue()


def _write(body: BytesIO, chunk: bytes) -> None:
    body.write(chunk)


async def pour(request: web.Request, limits: Limits, load: Load, take: Callable[[bytes], Fault | None]) -> Fault | None:
    """Give the body piece by piece to `take`, which may refuse it."""
    if (request.content_length or 0) > limits.bytes:
        return Reason.OVERSIZED
    await go_on(request)
    seen = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.content.iter_any():
                seen += len(chunk)
                if seen > limits.bytes:
                    return Reason.OVERSIZED
                if not load.hold(seen):
                    return Reason.OVERLOADED
                fault = take(chunk)
                if fault is not None:
                    return fault
    except TimeoutError:
        return TIMED_OUT
    except web.RequestPayloadError:
        return NOT_HTTP
    return None


def is_plain(request: web.Request) -> bool:
    """Whether the body is as it is, not compressed: a small one must not become a large one."""
    return request.headers.get("Content-Encoding", "identity").lower() == "identity"
