"""The HTTP door of one worker: listening sockets, the dialogs behind them, their bounds, and the drain.

It serves the routes that it is given and knows none of them. Whatever goes wrong outside of a route (a request that is
none, an unknown path, a surprise) is answered here, in the one shape of errors.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias, cast

import structlog
from aiohttp import web

from ingester.core.envelope import Door
from ingester.settings import Http, Listen, Settings
from ingester.telemetry.metrics import CONNECTIONS, HTTP_REQUESTS, Metrics
from ingester.web.body import expected
from ingester.web.problem import problem_of, refusal

_BACKLOG: Final = 1024
_LINGER_SECONDS: Final = 2.0
"""How long the rest of a body that nobody wants is read and dropped, so that the client sees its answer."""
_ABORT_SECONDS: Final = 1.0
_LAST_REQUEST_SECONDS: Final = 1.0
"""How long a draining door waits for a request on a connection that is open already."""
_LOOK_SECONDS: Final = 0.02
_NO_ROUTE: Final = "none"

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = structlog.get_logger(__name__)


class HttpDoor:
    """Everything of HTTP in one process. Three verbs: start, then it runs by itself, drain."""

    DOOR: Final = Door.HTTP
    certificate_ends: Final = None

    def __init__(self, *, settings: Settings, routes: Iterable[web.RouteDef], metrics: Metrics | None = None) -> None:
        """`metrics`: by default some that nobody reads, as where operators alone connect."""
        self._metrics = metrics or Metrics()
        # No middleware: the library wraps it and what it wraps in a coroutine each, which every request pays.
        app = web.Application()
        app.add_routes(
            [web.route(r.method, r.path, self._attended_by(r), **r.kwargs, expect_handler=expected) for r in routes]
        )
        self._http = settings.http
        self._runner = web.AppRunner(app)
        self._dialogs: set[_Dialog] = set()
        self._attended: dict[asyncio.Task[Any], web.RequestHandler] = {}
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._addresses: tuple[Listen, ...] = ()
        self._draining = False
        # It logs paths at INFO, and these may hold anything (design page, law 11).
        logging.getLogger("aiohttp.access").disabled = True

    @property
    def addresses(self) -> tuple[Listen, ...]:
        """Where it listens, with the ports that the kernel chose."""
        return self._addresses

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._dialogs)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on bound sockets. They belong to the door from here on."""
        loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        names = [sock.getsockname() for sock in self._sockets]
        self._addresses = tuple(Listen(host=name[0], port=name[1]) for name in names)
        await self._runner.setup()
        for sock in self._sockets:
            self._servers.append(await loop.create_server(self._new_dialog, sock=sock, backlog=_BACKLOG))

    def deafen(self) -> None:
        """Take no new connection any more. Those that are open do not notice."""
        for server in self._servers:
            server.close()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let requests in flight end within the bound, close idle connections, then abort the rest."""
        self.deafen()
        self._draining = True
        await self._hear_out(min(seconds, _LAST_REQUEST_SECONDS))
        busy = set(self._attended.values())
        for dialog in self._dialogs - busy:
            dialog.force_close()
        if self._attended:
            await asyncio.wait(list(self._attended), timeout=seconds)
        if self._attended:
            _log.warning("http.drain_cut", requests=len(self._attended))
        if self._runner.server is not None:
            await self._runner.server.shutdown(_ABORT_SECONDS)
        await self._runner.cleanup()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.close()

    async def _hear_out(self, seconds: float) -> None:
        """Whoever connected or began to send a moment ago could not know: such a request is answered, the last one."""
        end = time.monotonic() + seconds
        while self._dialogs - set(self._attended.values()) and time.monotonic() < end:  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(_LOOK_SECONDS)

    def _new_dialog(self) -> "_Dialog":
        server = self._runner.server
        assert server is not None
        return _Dialog(server, self._dialogs, self._http, self._metrics)

    def _attended_by(self, route: web.RouteDef) -> Handler:
        """The route's handler, with the knowledge of what is in flight: the drain waits for it."""
        handler = cast("Handler", route.handler)

        async def attend(request: web.Request) -> web.StreamResponse:
            dialog = cast("_Dialog", request.protocol)
            dialog.template = route.path
            task = asyncio.current_task()
            assert task is not None
            self._attended[task] = dialog
            task.add_done_callback(self._end)
            response = await handler(request)
            if self._draining:
                response.force_close()
            return response

        return attend

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._attended.pop(task, None)


class _Dialog(web.RequestHandler):
    """One connection. What the library would say by itself is said in our words: its own quote the request."""

    def __init__(self, server: web.Server, dialogs: "set[_Dialog]", http: Http, metrics: Metrics) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=http.idle_seconds,
            lingering_time=_LINGER_SECONDS,
            auto_decompress=False,  # a small body must not become a large one
        )
        self._dialogs = dialogs
        self._limit = http.max_connections
        self._metrics = metrics
        self.template = _NO_ROUTE
        """The route that this request means, as it is written in the code: the path itself is a stranger's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it where there are too many."""
        taken = len(self._dialogs) < self._limit
        self._metrics.count(CONNECTIONS, Door.HTTP, "taken" if taken else "turned_away")
        if not taken:
            cast("asyncio.Transport", transport).abort()  # uvloop's is no subclass
            return
        self._dialogs.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._dialogs.discard(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that is none, or a surprise of ours; then the connection ends."""
        del message
        if status >= 500 and not isinstance(exc, ConnectionError):
            _log.error("http.failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is out already")
        response = refusal(problem_of(status))
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer. One that the library chose by itself (404, 405, 417) gets our shape."""
        if isinstance(resp, web.HTTPException):
            allowed = {"Allow": resp.headers["Allow"]} if "Allow" in resp.headers else None
            resp = refusal(problem_of(resp.status, allowed))
        self._metrics.count(HTTP_REQUESTS, self.template, str(resp.status))
        self.template = _NO_ROUTE
        resp.headers["Server"] = "ingester"
        resp.headers["Cache-Control"] = "no-store"
        return await super().finish_response(request, resp, start_time)
