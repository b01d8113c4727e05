"""The routes that operators' machines call: /metrics, /healthz and /readyz. The public door has the last two, in fewer
words: what is wrong inside is nobody's business outside.
"""

import asyncio
from dataclasses import replace
from typing import Final, Literal

import msgspec
from aiohttp import web

from ingester.operators.readiness import Fault, Readiness
from ingester.telemetry.counting import CONTENT_TYPE
from ingester.telemetry.metrics import Metrics
from ingester.web.openapi import Operation, common
from ingester.web.problem import UNAVAILABLE, answer, refusal

HEALTH: Final = "/healthz"
READY: Final = "/readyz"
METRICS: Final = "/metrics"
NOT_READY: Final = replace(UNAVAILABLE, reason="not_ready", message="This worker does not take mail now.")


class Well(msgspec.Struct, frozen=True):
    """The body that says that all is well."""

    ok: Literal[True] = True


class HealthDoor:
    """Whether this worker is alive, and whether it is ready. With `details` it says what is wrong."""

    def __init__(self, readiness: Readiness, *, details: bool) -> None:
        self._readiness = readiness
        self._details = details

    def routes(self) -> list[web.RouteDef]:
        """What the listener is to serve."""
        return [web.get(HEALTH, self._health, allow_head=False), web.get(READY, self._ready, allow_head=False)]

    async def _health(self, _: web.Request) -> web.Response:
        """That it answers is the answer."""
        return answer(Well())

    async def _ready(self, _: web.Request) -> web.Response:
        faults = await self._readiness.faults()
        if not faults:
            return answer(Well())
        return refusal(replace(NOT_READY, message=_sentence(faults)) if self._details else NOT_READY)


def _sentence(faults: tuple[Fault, ...]) -> str:
    return f"This worker does not take mail now: {', '.join(faults)}."


def operations() -> tuple[Operation, ...]:
    """What OpenAPI says of the public ones."""
    return (
        Operation(
            method="GET",
            path=HEALTH,
            name="getHealth",
            summary="Whether a worker is alive.",
            answers={200: (Well, "It is.")},
        ),
        Operation(
            method="GET",
            path=READY,
            name="getReadiness",
            summary="Whether a worker takes mail now.",
            about="It does when the database answers and is up to date, and the worker is not about to end.",
            answers={200: (Well, "It does."), **common(503)},
        ),
    )


class MetricsDoor:
    """What was counted, for Prometheus. It is collected beside the loop (law 9), once for all who ask meanwhile.

    Nobody gets what was begun before he asked: he may have asked another worker in between, and counters never fall.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[bytes] | None = None

    def routes(self) -> list[web.RouteDef]:
        """What the listener is to serve."""
        return [web.get(METRICS, self._scrape, allow_head=False)]

    async def _scrape(self, _: web.Request) -> web.Response:
        if self._next is None:
            self._next = asyncio.create_task(self._collect(), name="scrape")
        body = await asyncio.shield(self._next)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _collect(self) -> bytes:
        async with self._turn:
            self._next = None  # who asks from here on gets the one after
            return await asyncio.to_thread(self._metrics.exposition)
