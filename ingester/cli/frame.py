"""One frame of `ingester top`: an overview as lines that fit the terminal, whatever its size. Nothing is asked here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from ingester.cli.arrivals import line_of
from ingester.cli.context import plain
from ingester.cli.mail_line import COLOURS
from ingester.cli.overview import Latency, Overview

_BARS: Final = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_PLAIN_BARS: Final = ".:-=+*#@"
_MIB: Final = 1 << 20
HEAD: Final = 12
"""Lines above the last mails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is drawn. `overview` is the last that could be had: None before the first, and `away` since when."""

    overview: Overview | None
    away: datetime | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.size.height
        unicode = not options.ascii_only
        for line in list(self._lines(options.max_width, height, unicode))[:height]:
            line.truncate(options.max_width, overflow="ellipsis" if unicode else "crop")
            line.no_wrap = True
            yield line

    def _lines(self, width: int, height: int, unicode: bool) -> Iterable[Text]:
        if self.away is not None:
            yield Text(f"The database is away since {self.away.astimezone():%H:%M:%S}; waiting for it.", "bold red")
        if self.overview is None:
            yield Text("Looking ...", "dim")
            return
        yield from _head(self.overview, unicode)
        mails = self.overview.last[: max(0, height - HEAD - (self.away is not None))]
        some = bool(self.overview.last)
        yield Text("Last mails" if some else "No mail has arrived yet.", "bold" if some else "dim")
        for one in mails:
            yield line_of(one).text(now=self.overview.time, width=width)


def _head(one: Overview, unicode: bool) -> Iterable[Text]:
    yield Text.assemble(
        ("ingester top", "bold"), f"  {one.time.astimezone():%H:%M:%S}, the last {one.window_seconds:.0f} s"
    )
    yield Text()
    spark = Text(f"  {_spark(one.history, _BARS if unicode else _PLAIN_BARS)}  ", "cyan")
    yield _line("Mails", f"{one.rate_now:,.1f}/s", spark, f"{one.mails:,} in all, {one.rate:,.1f}/s")
    yield _line("Outcomes", _counts(one.outcomes, COLOURS))
    matched = "-" if one.match_rate is None else f"{one.match_rate:.0%}"
    yield _line("Matched", matched, "   " if one.methods else "", _counts(one.methods, {}) if one.methods else "")
    yield _line("Latency", _latency(one.latency))
    yield _line("Doors", _counts(one.doors, {}))
    yield _line("Refused", _counts(one.refusals, {}))
    yield _line("Dead", _dead(one))
    yield _line("Daemons", _daemons(one))
    yield Text()


def _line(title: str, *told: str | Text) -> Text:
    return Text.assemble((f"{title:<10}", "dim"), *told)


def _counts(counts: Mapping[str, int], colours: Mapping[str, str]) -> Text:
    if not any(counts.values()):
        return Text("none", "dim")
    one = (
        Text(f"{plain(name)} {count:,}", colours.get(name, "red" if colours else "")) for name, count in counts.items()
    )
    return Text("  ").join(one)


def _spark(history: Iterable[int], bars: str) -> str:
    slots = list(history)
    most = max(slots, default=0)
    return "".join(" " if not count else bars[(count * (len(bars) - 1)) // most] for count in slots)


def _latency(one: Latency) -> str:
    if one.p50 is None:
        return "-"
    told = "  ".join(f"p{name} {_seconds(value)}" for name, value in ((50, one.p50), (95, one.p95), (99, one.p99)))
    return told if one.source == "metrics" else f"{told}  (to the write)"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.1f} s"


def _dead(one: Overview) -> Text:
    waiting = one.dead_letters
    if not waiting.count:
        return Text("none", "dim")
    text = Text(f"{waiting.count:,} waiting, the oldest {_age(waiting.oldest_seconds)}: ", "red")
    return text.append_text(_counts(waiting.reasons, {}))


def _age(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.0f} s"


def _daemons(one: Overview) -> Text:
    told = one.daemons
    if told is None:
        return Text("no listener answers: name one with --metrics URL", "dim")
    parts = [f"{told.answering} of {told.asked} answer"] if told.asked > 1 else []
    connections = " ".join(f"{door} {count:.0f}" for door, count in sorted(told.connections.items()) if count)
    parts.append(f"connections {connections or 0}")
    if told.bytes_in_flight is not None and told.bytes_in_flight_limit:
        parts.append(f"in flight {told.bytes_in_flight / _MIB:.0f}/{told.bytes_in_flight_limit / _MIB:.0f} MiB")
    if told.loop_delay_p99 is not None:
        parts.append(f"loop p99 {_seconds(told.loop_delay_p99)}")
    if told.database_used is not None and told.database_limit:
        parts.append(f"db {told.database_used:.0f}/{told.database_limit:.0f}")
    return Text("  ").join(Text(part) for part in parts)
