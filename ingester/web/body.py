"""The body of a request: read within bounds, decoded strictly. Knows nothing of what it says.

What is wrong with it is a value (Problem), and names a field but never what stood in it.
"""

import asyncio
from typing import Final, TypeVar

import msgspec
from aiohttp import HttpVersion11, web

from ingester.web.problem import BAD_REQUEST, OVERSIZED, TIMED_OUT, UNSUPPORTED, Problem

Asked = TypeVar("Asked", bound=msgspec.Struct)

MAX_BODY: Final = 1 << 20
"""Bytes of a body: room for a thousand long recipients."""
PLAIN: Final = r"\A[^\x00-\x1f\x7f]*\Z"
"""Text of one line: no control character may reach a header field or Postgres, which takes no NUL."""
_SHOWN_NAME: Final = 64


async def expected(request: web.Request) -> None:
    """What a client expects who waits before it sends the body: not yet answered, for it may not be wanted at all."""
    if not _waits(request):
        raise web.HTTPExpectationFailed


async def go_on(request: web.Request) -> None:
    """Ask a client that waits for the body (RFC 9110, 10.1.1). To be said by whoever is about to read it."""
    if _waits(request) and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # nothing of the answer is out


def _waits(request: web.Request) -> bool:
    return request.headers.get("Expect", "").lower() == "100-continue"


async def read(request: web.Request, *, seconds: float) -> bytes | Problem:
    """Read the body, which must be JSON by its own word (RFC 8259, 11), within `seconds`."""
    if not _is_json(request):
        return UNSUPPORTED
    if (request.content_length or 0) > MAX_BODY:
        return OVERSIZED
    await go_on(request)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY:
                    return OVERSIZED
    except TimeoutError:
        return TIMED_OUT
    except web.RequestPayloadError:
        return BAD_REQUEST
    return bytes(body)


def _is_json(request: web.Request) -> bool:
    plain = request.headers.get("Content-Encoding", "identity").lower() == "identity"
    return plain and request.content_type == "application/json" and (request.charset or "utf-8").lower() == "utf-8"


def decode(body: bytes, decoder: msgspec.json.Decoder[Asked]) -> Asked | Problem:
    """Decode a body: 400 where it is not JSON, 422 and the field where it is not what the decoder wants."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return _unprocessable(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return BAD_REQUEST


def unprocessable(field: str | None, message: str) -> Problem:
    """A value that is not what it should be."""
    return Problem(status=422, reason="unprocessable", message=message, field=field)


def _unprocessable(said: str) -> Problem:
    """msgspec says what it wanted and where, and of the request no more than the name of a field that is too much."""
    what, at, path = said.rpartition(" - at `$")
    if not at:
        what, path = said, "`"
    field = path.removesuffix("`").removeprefix(".")
    for words, message in (
        ("Object contains unknown field `", "There is no such field."),
        ("Object missing required field `", "This field is missing."),
    ):
        if what.startswith(words):
            name = _shown(what.removeprefix(words).removesuffix("`"))
            return unprocessable(f"{field}.{name}" if field else name, message)
    message = "Control characters are not taken." if "matching regex" in what else f"{what}."
    return unprocessable(field or None, message)


def _shown(name: str) -> str:
    """The name of a field that we do not know, bounded."""
    return "".join(char if char.isprintable() else "\ufffd" for char in name[:_SHOWN_NAME])
