"""Fault points: named places where a test may break the daemon. Unarmed, a point costs one dictionary look-up.

Armed by INGESTER_TEST_FAULTS, a comma list of `point:action[@n]`: on the n-th hit (default: every hit) of `point`
    kill    the process dies as by kill -9
    raise   an exception that nobody foresaw
    data    Postgres's answer to data it cannot take (SQLSTATE 22xxx), in the commit only
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field


class Planned(Exception):
    """The exception that a `raise` fault raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    action: str
    nth: int | None


@dataclass(slots=True)
class Faults:
    """The armed fault points of one process, with their hit counts."""

    points: dict[str, _Fault] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """Read the setting. Raises ValueError on what is not `point:action[@n]`."""
        points: dict[str, _Fault] = {}
        for piece in filter(None, (piece.strip() for piece in text.split(","))):
            point, colon, rest = piece.partition(":")
            action, at, nth = rest.partition("@")
            if not colon or action not in ("kill", "raise", "data") or (at and not nth.isdigit()):
                raise ValueError(f"INGESTER_TEST_FAULTS: {piece!r} is not point:action[@n]")
            points[point] = _Fault(action=action, nth=int(nth) if at else None)
        return cls(points)

    def hit(self, point: str) -> str | None:
        """Pass a point. Dies, raises Planned, or returns the name of an action that the caller carries out."""
        fault = self.points.get(point)
        if fault is None:
            return None
        self.hits[point] = count = self.hits.get(point, 0) + 1
        if fault.nth is not None and count != fault.nth:
            return None
        if fault.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.action == "raise":
            raise Planned(point)
        return fault.action

    def soon(self, point: str, call_soon: Callable[[Callable[[], object]], object]) -> None:
        """Pass a point that lies in what follows: the fault strikes once the bytes about to be written are out."""
        if point in self.points:
            call_soon(lambda: self.hit(point))
