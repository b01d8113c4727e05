"""The form of a provider: read as it streams in, its signature checked on the way where it stands for a token."""

from aiohttp import web

from ingester.core.outcome import Reason
from ingester.transport.forms import Form, FormReader
from ingester.transport.http.fields import Fault
from ingester.transport.load import Load
from ingester.transport.providers import SignatureCheck
from ingester.transport.reading import Limits, pour
from ingester.web.problem import OVERSIZED, TIMED_OUT, TOO_SLOW


async def read_form_body(
    request: web.Request, limits: Limits, load: Load, *, max_mail: int, check: SignatureCheck | None = None
) -> Form | Fault:
    """The form. `check` is told of every byte; `max_mail` bounds the largest field."""
    reader = FormReader.start(request.headers.get("Content-Type", ""), max_bytes=max_mail)
    if not isinstance(reader, FormReader):
        return reader

    def take(chunk: bytes) -> Fault | None:
        if check is not None:
            check.update(chunk)
        return reader.feed(chunk)

    fault = await pour(request, limits, load, take)
    form = fault or reader.close()
    if form is OVERSIZED:
        return Reason.OVERSIZED
    # Providers of forms take any 4xx for final and bounce the mail.
    return TOO_SLOW if form is TIMED_OUT else form


def size_of(form: Form) -> int:
    """Bytes of all fields."""
    return sum(len(value) for values in form.fields.values() for value in values)
