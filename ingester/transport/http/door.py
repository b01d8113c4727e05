"""POST /events/inbound: the way of a request, from who hands in the mail to what he is told.

Who it is, is known before the body is read, but for providers that sign the body. No mail text is in any answer.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

import structlog
from aiohttp import web

from ingester.core.envelope import Door
from ingester.core.outcome import Outcome, Reason
from ingester.pipeline import BESIDE_THE_LOOP
from ingester.settings import Settings
from ingester.telemetry import Stage, Telemetry
from ingester.telemetry.metrics import Metrics
from ingester.transport.answers import told
from ingester.transport.credentials import UNAUTHORIZED, Credentials, shows_any
from ingester.transport.forms import Form
from ingester.transport.http.description import PATHS
from ingester.transport.http.fields import ACCEPTED, ACCEPTED_STATUS, Fault, check_accepted, check_provider
from ingester.transport.http.form_mail import read_form_body, size_of
from ingester.transport.http.json_mail import Elsewhere, read_json
from ingester.transport.http.raw_mail import Beside, named, read_beside
from ingester.transport.intake import Intake
from ingester.transport.limits import Flight
from ingester.transport.load import Load
from ingester.transport.providers import SignatureCheck, may_be_signed, read_form
from ingester.transport.providers import read_json as read_provider_json
from ingester.transport.reading import Limits, is_plain, read_body
from ingester.transport.submission import Scope, Submission
from ingester.web.body import unprocessable
from ingester.web.fetch import FetchFailed, FetchRefused, FetchTooLarge, Get
from ingester.web.problem import UNAVAILABLE, Problem, refusal

_ENCODED: Final = 3
"""How many bytes on the wire a byte of mail may become: percent signs in a form, `\\uXXXX` in JSON."""
_BESIDE: Final = 1 << 20
"""Bytes for what is said beside the mail."""
UNSUPPORTED: Final = Problem(
    status=415,
    reason="unsupported",
    message="The body must be message/rfc822, application/json in UTF-8 or a form of a provider, and not compressed.",
)
UNFETCHED: Final = replace(UNAVAILABLE, reason="fetch_failed", message="The URL cannot be fetched now.")

Work = TypeVar("Work")

_log = structlog.get_logger(__name__)


class InboundDoor:
    """The one route."""

    def __init__(
        self,
        *,
        settings: Settings,
        intake: Intake,
        credentials: Credentials,
        flight: Flight,
        threads: Executor,
        fetch: Get,
        now: Callable[[], datetime],
        telemetry: Telemetry | None = None,
    ) -> None:
        """`telemetry`: by default one that nobody reads."""
        self._telemetry = telemetry or Telemetry(Metrics())
        self._settings = settings
        self._intake = intake
        self._credentials = credentials
        self._flight = flight
        self._threads = threads
        self._fetch = fetch
        self._now = now
        self._most = settings.smtp.max_recipients
        seconds = settings.http.intake_seconds
        self._limits = Limits(bytes=settings.max_message_bytes, seconds=seconds)
        self._encoded = Limits(bytes=_ENCODED * settings.max_message_bytes + _BESIDE, seconds=seconds)

    def routes(self) -> list[web.RouteDef]:
        """What the listener is to serve."""
        return [web.post(path, self._post) for path in PATHS]

    async def _post(self, request: web.Request) -> web.Response:
        load = Load(self._flight)
        try:
            result = await self._result(request, load)
        finally:
            load.close()
        if isinstance(result, Outcome):
            return told(result, accepted=ACCEPTED_STATUS) if ACCEPTED in request.query else told(result)
        # For the operator whom a provider tells that it does not work. The field's name may be a stranger's: not here.
        _log.info("inbound.refused", status=result.status, reason=result.reason)
        return refusal(result)

    async def _result(self, request: web.Request, load: Load) -> Outcome | Problem:
        handed = await self._handed(request, load)
        if isinstance(handed, Reason):
            return self._intake.refuse(handed, door=Door.HTTP, recipients=named(request))
        if isinstance(handed, Problem):
            return handed
        submission, scope = handed
        fault = check_accepted(request.query.getall(ACCEPTED, []))
        if fault is not None:
            return fault
        if scope.provider is not None and submission.provider != scope.provider:
            return unprocessable("provider", "The token is for another provider.")
        return await self._intake.take(submission, scope, door=Door.HTTP, load=load)

    async def _handed(self, request: web.Request, load: Load) -> tuple[Submission, Scope] | Fault:
        """What is handed in, and what whoever does it may say."""
        scope = await self._credentials.scope(request)
        if not isinstance(scope, Problem):
            found = await self._submission(request, scope, load)
            return (found, scope) if isinstance(found, Submission) else found
        keys, kind = self._settings.providers, request.headers.get("Content-Type", "")
        if shows_any(request) or not may_be_signed(keys, headers=request.headers, content_type=kind):
            return scope
        return await self._signed(request, load)

    async def _signed(self, request: web.Request, load: Load) -> tuple[Submission, Scope] | Fault:
        """A form that its provider has signed, in the place of a token."""
        if not is_plain(request):
            return UNSUPPORTED
        check = SignatureCheck(self._settings.providers, request.headers)
        with self._telemetry.stage(Stage.READ):
            form = await read_form_body(request, self._encoded, load, max_mail=self._limits.bytes, check=check)
        if not isinstance(form, Form):
            return form
        signer = check.signed_by(form, self._now())
        if signer is None:
            return UNAUTHORIZED
        submission = await self._beside(size_of(form), lambda: read_form(form, asked=signer))
        if isinstance(submission, Problem):
            return submission
        return submission, Scope(provider=signer, may_assert_envelope=True)

    async def _submission(self, request: web.Request, scope: Scope, load: Load) -> Submission | Fault:
        """What is handed in, by the type that the body has by its own word."""
        kind = request.content_type if is_plain(request) else ""
        if kind == "message/rfc822":
            return await self._raw(request, scope, load)
        if kind == "application/json" and (request.charset or "utf-8").lower() == "utf-8":
            return await self._json(request, scope, load)
        if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
            return await self._form(request, scope, load)
        return UNSUPPORTED

    async def _raw(self, request: web.Request, scope: Scope, load: Load) -> Submission | Fault:
        beside = read_beside(request, most=self._most)
        if not isinstance(beside, Beside):
            return beside
        with self._telemetry.stage(Stage.READ):
            body = await read_body(request, self._limits, load)
        return beside.submission(body, scope.provider) if isinstance(body, bytes) else body

    async def _form(self, request: web.Request, scope: Scope, load: Load) -> Submission | Fault:
        with self._telemetry.stage(Stage.READ):
            form = await read_form_body(request, self._encoded, load, max_mail=self._limits.bytes)
        if not isinstance(form, Form):
            return form
        asked = request.query.get("provider", scope.provider)
        return await self._beside(size_of(form), lambda: read_form(form, asked=asked))

    async def _json(self, request: web.Request, scope: Scope, load: Load) -> Submission | Fault:
        asked = request.query.get("provider", scope.provider)
        fault = None if asked is None else check_provider(asked)
        if fault is not None:
            return fault
        with self._telemetry.stage(Stage.READ):
            body = await read_body(request, self._encoded, load)
        if not isinstance(body, bytes):
            return body
        # Decoded, it is there a second time.
        if not load.hold(2 * len(body)):
            return Reason.OVERLOADED
        found = await self._beside(len(body), lambda: self._read_json(body, asked))
        return await self._fetched(found, load) if isinstance(found, Elsewhere) else found

    def _read_json(self, body: bytes, asked: str | None) -> Submission | Elsewhere | Fault:
        """A provider's own JSON, where it is one, else ours."""
        return read_provider_json(body, asked=asked) or read_json(body, provider=asked, most=self._most)

    async def _fetched(self, found: Elsewhere, load: Load) -> Submission | Fault:
        """The mail that lies at a URL, where that is allowed."""
        http = self._settings.http
        if not http.raw_mime_url:
            return unprocessable("raw_mime_url", "This is not allowed here.")
        # Room for the largest: how much comes is known when it is there.
        if not load.hold(self._limits.bytes):
            return Reason.OVERLOADED
        try:
            raw = await self._fetch(found.url, max_bytes=self._limits.bytes, seconds=http.raw_mime_url_seconds)
        except FetchRefused:
            return unprocessable("raw_mime_url", "This is not a public https URL.")
        except FetchTooLarge:
            return Reason.OVERSIZED
        except FetchFailed:
            return UNFETCHED
        if not load.hold(len(raw)):
            return Reason.OVERLOADED
        return replace(found.submission, raw=raw) if raw else unprocessable("raw_mime_url", "The mail is empty.")

    async def _beside(self, size: int, work: Callable[[], Work]) -> Work:
        """Small bodies here, others in a thread, so that the loop is not held (law 9)."""
        if size <= BESIDE_THE_LOOP:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
