"""Bodies as providers send them, made here, and the reading of one as the HTTP door does it."""

from collections.abc import Iterable, Sequence
from urllib.parse import quote_plus

from ingester.transport.forms import Form, FormReader
from ingester.web.problem import Problem

BOUNDARY = "----example7MA4YWxkTrZu0gW"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
URLENCODED = "application/x-www-form-urlencoded"
MAIL = b"From: Anna <anna@sender.test>\r\nTo: support@demo.test\r\nSubject: Hello\r\n\r\nGr\xfc\xdfe \x00\xff\r\n.\r\n"
Fields = Sequence[tuple[str, bytes]]


def multipart(fields: Fields, boundary: str = BOUNDARY) -> bytes:
    """A body of multipart/form-data (RFC 7578)."""
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary.encode(), name.encode(), value)
        for name, value in fields
    ]
    return b"".join(parts) + b"--%b--\r\n" % boundary.encode()


def urlencoded(fields: Fields) -> bytes:
    """A body of application/x-www-form-urlencoded."""
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields).encode()


def read(content_type: str, chunks: Iterable[bytes], *, max_bytes: int = 1 << 20) -> Form | Problem:
    """Feed a body chunk by chunk."""
    reader = FormReader.start(content_type, max_bytes=max_bytes)
    if isinstance(reader, Problem):
        return reader
    for chunk in chunks:
        problem = reader.feed(chunk)
        if problem is not None:
            return problem
    return reader.close()


def form(*fields: tuple[str, bytes]) -> Form:
    """The form of these fields, by way of its body."""
    found = read(MULTIPART, [multipart(fields)])
    assert isinstance(found, Form), found
    return found


def without(fields: Fields, name: str) -> Fields:
    """The same fields but one."""
    return [field for field in fields if field[0] != name]


def pieces(body: bytes, size: int) -> list[bytes]:
    """A body in chunks of a size."""
    return [body[at : at + size] for at in range(0, len(body), size)]
