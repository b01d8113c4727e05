"""What the verdicts cost in CPU: SPF, DKIM and DMARC of small mails, DKIM of large ones; dkimpy and pyspf beside.

DNS is zone data in memory: what is measured is what a warm cache leaves to do. A report that breaks a bound has
`problems`.
"""

import asyncio
import statistics
import warnings
from base64 import encodebytes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

import dkim as dkimpy
from rich.console import Console

from ingester.auth import dkim, dmarc, spf
from ingester.auth.report import Dkim, Result, Signature, Spf
from tests.bench import corpus as corpora
from tests.bench.sign import make_signer
from tests.zones import Zone, ZoneLookup

with warnings.catch_warnings():  # it has escapes that Python no longer likes
    warnings.simplefilter("ignore")
    import spf as pyspf  # type: ignore[import-untyped]

MOST_MS = 0.35
LEAST_MB_PER_SECOND = 500.0
SMALL = 12_000
CLIENT = "192.0.2.1"
_NOW = datetime(2026, 7, 1, tzinfo=UTC)
_LARGE_BYTES = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Medians over the runs, CPU-milliseconds per small mail and MB/s of a large one."""

    mails: int
    mean_bytes: int
    spf_ms: float
    dkim_ms: float
    dmarc_ms: float
    dkimpy_ms: float
    pyspf_ms: float
    large_mb_s: float
    large_dkimpy_mb_s: float
    problems: tuple[str, ...] = ()

    @property
    def total_ms(self) -> float:
        return self.spf_ms + self.dkim_ms + self.dmarc_ms


def check(report: Report) -> tuple[str, ...]:
    """The bounds that are broken, a sentence each."""
    out = []
    if report.total_ms > MOST_MS:
        out.append(f"SPF, DKIM and DMARC take {report.total_ms:.3f} ms a mail, more than {MOST_MS}")
    if report.large_mb_s < LEAST_MB_PER_SECOND:
        out.append(f"DKIM on 5 MB: {report.large_mb_s:.0f} MB/s, not {LEAST_MB_PER_SECOND:.0f}")
    return tuple(out)


def run(*, seed: int, mails: int, runs: int, cache: Path) -> Report:
    """Measure all. Raises ValueError when a mail that should pass does not, or no mail is small."""
    corpus = corpora.load(seed=seed, count=mails, cache=cache)
    small = [(mail.sender, corpus.raw(mail)) for mail in corpus.mails if mail.size <= SMALL]
    if not small:
        raise ValueError("the corpus has no small mail")
    zone = Zone({name: [{"TXT": text} for text in texts] for name, texts in corpus.zone.items()})
    ours = {name: _median(partial(_ours, step, small, zone), runs) for name, step in _STEPS.items()}
    theirs = _theirs(small, corpus.zone, runs)
    large, keys = _large()
    report = Report(
        mails=len(small),
        mean_bytes=sum(len(raw) for _, raw in small) // len(small),
        spf_ms=ours["spf"] / len(small),
        dkim_ms=ours["dkim"] / len(small),
        dmarc_ms=ours["dmarc"] / len(small),
        dkimpy_ms=theirs[0] / len(small),
        pyspf_ms=theirs[1] / len(small),
        large_mb_s=len(large) / 1e3 / _median(lambda: _ours(_dkim, [("", large)], Zone(keys)), runs),
        large_dkimpy_mb_s=len(large) / 1e3 / _median(lambda: _dkimpy(large, keys), 1),
    )
    return Report(
        **{name: getattr(report, name) for name in Report.__slots__ if name != "problems"}, problems=check(report)
    )


async def _spf(lookup: ZoneLookup, sender: str, raw: bytes) -> object:
    return await spf.check_mail_from(
        lookup, ip=CLIENT, helo="mail.test", mail_from=sender, receiver="mx.test", now=_NOW
    )


async def _dkim(lookup: ZoneLookup, sender: str, raw: bytes) -> object:
    report = await dkim.verify(lookup, raw, now=_NOW)
    if report.result is not Result.PASS:
        raise ValueError(f"a mail of the corpus does not pass: {report}")
    return report


_SPF_FAIL = Spf(result=Result.FAIL)


async def _dmarc(lookup: ZoneLookup, sender: str, raw: bytes) -> object:
    domain = sender.rpartition("@")[2]
    signed = Dkim(result=Result.PASS, signatures=(Signature(ordinal=1, result=Result.PASS, domain=domain),))
    return await dmarc.evaluate(lookup, authors=[sender], from_fields=1, spf=_SPF_FAIL, dkim=signed)


_STEPS = {"spf": _spf, "dkim": _dkim, "dmarc": _dmarc}
_Step = Callable[[ZoneLookup, str, bytes], Awaitable[object]]


def _ours(step: _Step, mails: list[tuple[str, bytes]], zone: Zone) -> None:
    async def walk() -> None:
        for sender, raw in mails:
            await step(ZoneLookup(zone), sender, raw)

    asyncio.run(walk())


def _median(work: Callable[[], object], runs: int) -> float:
    """CPU-milliseconds; the first run warms up."""
    taken = []
    for _ in range(runs + 1):
        begun = process_time()
        work()
        taken.append(1000 * (process_time() - begun))
    return statistics.median(taken[1:])


def _theirs(mails: list[tuple[str, bytes]], texts: Mapping[str, tuple[str, ...]], runs: int) -> tuple[float, float]:
    """dkimpy and pyspf on the same mails and records."""
    records = {name: [{"TXT": text} for text in found] for name, found in texts.items()}

    def answer(name: str, kind: str, *_: Any, **__: Any) -> list[Any]:
        return [((name, kind), (text.encode(),)) for text in texts.get(name, ())] if kind == "TXT" else []

    pyspf.DNSLookup = answer
    verified = _median(lambda: [_dkimpy(raw, records) for _, raw in mails], min(runs, 2))
    checked = _median(lambda: [pyspf.check2(CLIENT, sender, "mail.test") for sender, _ in mails], min(runs, 2))
    return verified, checked


def _dkimpy(raw: bytes, records: Mapping[str, list[dict[str, str]]]) -> bool:
    def answer(name: bytes, **_: Any) -> bytes:
        return records[name.decode().rstrip(".")][0]["TXT"].encode()

    return bool(dkimpy.DKIM(raw).verify(dnsfunc=answer))


def _large() -> tuple[bytes, dict[str, list[dict[str, str]]]]:
    """A signed mail with one file as base64, and the key."""
    signer = make_signer("large.test", selector="s", seed=1)
    fields = [b"From: a@large.test\r\n", b"Subject: a file\r\n", b"Content-Transfer-Encoding: base64\r\n"]
    body = encodebytes(Random(1).randbytes(_LARGE_BYTES * 57 // 78)).replace(b"\n", b"\r\n")
    signature = signer.sign(fields, body, unix_time=int(_NOW.timestamp()))
    return signature + b"".join(fields) + b"\r\n" + body, {"s._domainkey.large.test": [{"TXT": signer.record}]}


def show(report: Report, console: Console) -> None:
    """The figures, then the bounds that are broken, if any."""
    console.print(
        f"{report.mails} mails of {report.mean_bytes / 1000:.1f} KB, CPU per mail: SPF {report.spf_ms:.3f} ms, DKIM "
        f"{report.dkim_ms:.3f} ms, DMARC {report.dmarc_ms:.3f} ms, together [bold]{report.total_ms:.3f} ms[/]; "
        f"dkimpy {report.dkimpy_ms:.2f} ms ({report.dkimpy_ms / report.dkim_ms:.1f} times), "
        f"pyspf {report.pyspf_ms:.2f} ms ({report.pyspf_ms / report.spf_ms:.1f} times)\n"
        f"DKIM on 5 MB: [bold]{report.large_mb_s:,.0f} MB/s[/], dkimpy {report.large_dkimpy_mb_s:,.0f} MB/s",
        highlight=False,
    )
    for problem in report.problems:
        console.print(f"[bold red]BROKEN[/] {problem}", highlight=False)
    if not report.problems:
        console.print("[green]all bounds hold[/]")
