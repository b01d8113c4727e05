"""The one shape of every error over HTTP, and the words of the statuses. Nothing of a request is quoted but the name of
a field (design page, law 11; Reasons).

    {"ok": false, "status": "refused", "reason": "unprocessable", "message": "...", "field": "to[0]"}

`status` is `refused`, or `deferred` where the same request may succeed later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec
from aiohttp import web

RETRY_SECONDS: Final = 5
"""When a client may come again after a fault of ours (Retry-After, RFC 9110, 10.2.3)."""
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request was not done. `reason` is for programs, `message` a sentence for people."""

    status: int
    reason: str
    message: str
    field: str | None = None
    headers: Mapping[str, str] | None = None


class No(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The body that tells of a problem."""

    ok: bool
    status: Literal["refused", "deferred"]
    reason: str
    message: str
    field: str | None = None


BAD_REQUEST: Final = Problem(status=400, reason="bad_request", message="The body is not JSON.")
NOT_HTTP: Final = Problem(status=400, reason="bad_request", message="This is not a request that we understand.")
# RFC 9110, 11.6.1: a 401 names the scheme. RFC 6750, 3: no error code, so that no two refusals differ.
UNAUTHORIZED: Final = Problem(
    status=401,
    reason="unauthorized",
    message="An API key that is live is needed: Authorization: Bearer igk_...",
    headers={"WWW-Authenticate": "Bearer"},
)
NOT_FOUND: Final = Problem(status=404, reason="not_found", message="There is no such thing here.")
TIMED_OUT: Final = Problem(status=408, reason="request_timeout", message="The body did not come in time.")
OVERSIZED: Final = Problem(status=413, reason="oversized_message", message="The body is larger than we take.")
UNSUPPORTED: Final = Problem(
    status=415, reason="unsupported", message="The body must be application/json in UTF-8, and not compressed."
)
UNPROCESSABLE: Final = Problem(status=422, reason="unprocessable", message="A value cannot be stored as it is.")
UNAVAILABLE: Final = Problem(
    status=503,
    reason="store_unavailable",
    message="We cannot do this now, try again later.",
    headers={"Retry-After": str(RETRY_SECONDS)},
)
TOO_SLOW: Final = replace(UNAVAILABLE, reason=TIMED_OUT.reason, message=TIMED_OUT.message)
"""The same as TIMED_OUT for those who never bring again what is answered 4xx."""

_WORDS: Final = {400: NOT_HTTP, 404: NOT_FOUND, 413: OVERSIZED}


def refusal(problem: Problem) -> web.Response:
    """The answer that tells of a problem."""
    status: Literal["refused", "deferred"] = "deferred" if problem.status in (408, 503) else "refused"
    body = No(ok=False, status=status, reason=problem.reason, message=problem.message, field=problem.field)
    return web.Response(
        status=problem.status, body=msgspec.json.encode(body), content_type=_JSON, headers=problem.headers
    )


def problem_of(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """What a status means that the HTTP library has chosen by itself. Its own text may quote the request."""
    if status >= 500:
        return UNAVAILABLE
    if status in _WORDS:
        return _WORDS[status]
    if status == 405:
        message = "This method is not for this path."
        return Problem(status=405, reason="method_not_allowed", message=message, headers=headers)
    return Problem(status=status, reason="bad_request", message=NOT_HTTP.message)


def answer(value: msgspec.Struct, *, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, body=msgspec.json.encode(value), content_type=_JSON)
