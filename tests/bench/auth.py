"""What the verdicts cost in CPU: SPF, DKIM and DMARC of replies, DKIM of large mails; dkimpy and pyspf beside.

The replies are those of the corpus, 3 to 15 KB, signed with RSA-2048 relaxed/relaxed; SPF passes by an include, DMARC
judges what SPF and DKIM found. DNS is our resolver with a warm cache: a question that leaves it while we measure, or a
verdict other than pass, is an error. A report that breaks a bound has `problems`.
"""

import asyncio
import statistics
import warnings
from base64 import encodebytes
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import process_time
from typing import Any
from uuid import UUID

import dkim as dkimpy
from rich.console import Console

from ingester.auth import dkim, dmarc, spf
from ingester.auth.check import Authenticator, Rules
from ingester.auth.dns import Resolver
from ingester.auth.report import Dkim, Dmarc, Result, Spf
from ingester.core.envelope import Client, Door, Envelope
from tests.bench import corpus as corpora
from tests.bench.shapes import Shape
from tests.bench.sign import make_signer
from tests.bench.words import ENGLISH
from tests.nameserver import NameServer
from tests.zones import Zone

with warnings.catch_warnings():  # it has escapes that Python no longer likes
    warnings.simplefilter("ignore")
    import spf as pyspf  # type: ignore[import-untyped]

MOST_MS = 0.35
LEAST_MB_PER_SECOND = 500.0
SMALL = range(3_000, 15_001)
CLIENT, HOST = "192.0.2.1", "mail.sender.test"
SPF_RECORD = "v=spf1 include:_spf.sender.test -all"
"""What every domain of the corpus publishes here, so that all pass in the same way."""
SHARED = {
    "_spf.sender.test": ["v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 ip6:2001:db8:1::/48 -all"],
}
_LARGE_BYTES = 5_000_000
_LARGE_DOMAIN = "large.test"
_NOW = datetime(2026, 7, 1, tzinfo=UTC)
_RULES = Rules(
    authserv_id="mx.test",
    relays=(),
    block_zones=(),
    allow_zones=(),
    reverse_dns=True,
    max_signatures=5,
    max_arc_sets=10,
)

Texts = Mapping[str, list[str]]
"""TXT records by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """MB/s of a large mail, ours and dkimpy's."""

    ours: float
    dkimpy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Medians over the runs, CPU-milliseconds per reply. `whole_ms`: all that an arrival is checked for."""

    mails: int
    mean_bytes: int
    spf_ms: float
    dkim_ms: float
    dmarc_ms: float
    whole_ms: float
    dkimpy_ms: float
    pyspf_ms: float
    base64: Large
    plain: Large
    problems: tuple[str, ...] = ()

    @property
    def total_ms(self) -> float:
        return self.spf_ms + self.dkim_ms + self.dmarc_ms


def check(report: Report) -> tuple[str, ...]:
    """The bounds that are broken, a sentence each. Large mails of the corpus are base64: plain text has no bound."""
    out = []
    if report.total_ms > MOST_MS:
        out.append(f"SPF, DKIM and DMARC take {report.total_ms:.3f} ms a mail, more than {MOST_MS}")
    if report.base64.ours < LEAST_MB_PER_SECOND:
        out.append(f"DKIM on 5 MB: {report.base64.ours:.0f} MB/s, not {LEAST_MB_PER_SECOND:.0f}")
    return tuple(out)


def run(*, seed: int, mails: int, runs: int, cache: Path) -> Report:
    """Measure all. Raises ValueError when a mail does not pass, the cache is cold, or the corpus has no reply."""
    corpus = corpora.load(seed=seed, count=mails, cache=cache)
    texts = {name: list(found) for name, found in corpus.zone.items()} | SHARED
    replies = [mail for mail in corpus.mails if mail.shape is Shape.REPLY and mail.size in SMALL]
    if not replies:
        raise ValueError("the corpus has no reply")
    small = [(mail.sender, corpus.raw(mail)) for mail in replies]
    texts |= {sender.rpartition("@")[2]: [SPF_RECORD] for sender, _ in small}
    signer = make_signer(_LARGE_DOMAIN, selector="s", seed=1)
    texts[f"s._domainkey.{_LARGE_DOMAIN}"] = [signer.record]
    large = {"base64": _signed(_base64()), "plain": _signed(_plain())}
    report = asyncio.run(_measure(small, large, texts, runs))
    return replace(report, problems=check(report))


async def _measure(small: list[tuple[str, bytes]], large: Mapping[str, bytes], texts: Texts, runs: int) -> Report:
    async with NameServer(zone=_zone(texts)) as server:
        resolver = Resolver([server.address])
        with ThreadPoolExecutor(1) as threads:
            ours = await _small(_Steps(resolver, threads), server, small, runs)
            speeds = {name: Large(ours=await _speed(resolver, raw, runs), dkimpy=0) for name, raw in large.items()}
        await resolver.close()
    verified, checked = _theirs(small, texts, min(runs, 2))
    of_dkimpy = {name: len(raw) / 1e6 / _seconds(_dkimpy, raw, texts) for name, raw in large.items()}
    return Report(
        mails=len(small),
        mean_bytes=sum(len(raw) for _, raw in small) // len(small),
        spf_ms=ours["spf"],
        dkim_ms=ours["dkim"],
        dmarc_ms=ours["dmarc"],
        whole_ms=ours["whole"],
        dkimpy_ms=verified,
        pyspf_ms=checked,
        base64=replace(speeds["base64"], dkimpy=of_dkimpy["base64"]),
        plain=replace(speeds["plain"], dkimpy=of_dkimpy["plain"]),
    )


def _zone(texts: Texts) -> Zone:
    records = {name: [{"TXT": text} for text in found] for name, found in texts.items()}
    reverse = ".".join(reversed(CLIENT.split("."))) + ".in-addr.arpa"
    return Zone({**records, reverse: [("PTR", f"{HOST}.")], HOST: [("A", CLIENT)]})


def measure_mails(corpus: corpora.Corpus, runs: int) -> dict[str, float]:
    """CPU-milliseconds per mail of a whole corpus, by step: ours, and those of dkimpy and pyspf. Raises ValueError."""
    texts = {name: list(found) for name, found in corpus.zone.items()} | SHARED
    mails = [(mail.sender, corpus.raw(mail)) for mail in corpus.mails]
    texts |= {sender.rpartition("@")[2]: [SPF_RECORD] for sender, _ in mails}

    async def ours() -> dict[str, float]:
        async with NameServer(zone=_zone(texts)) as server:
            resolver = Resolver([server.address])
            with ThreadPoolExecutor(1) as threads:
                found = await _small(_Steps(resolver, threads), server, mails, runs)
            await resolver.close()
            return found

    found = asyncio.run(ours())
    verified, checked = _theirs(mails, texts, 1)
    return found | {"dkimpy": verified, "pyspf": checked}


class _Steps:
    """The steps one by one, each on its own, with what those before it found."""

    def __init__(self, resolver: Resolver, threads: ThreadPoolExecutor) -> None:
        self._resolver = resolver
        self._whole = Authenticator(resolver, _RULES, threads=threads)
        self.found: dict[bytes, tuple[Spf, Dkim]] = {}

    async def spf(self, sender: str, _: bytes) -> Spf:
        return await spf.check_mail_from(
            self._resolver.lookup(), ip=CLIENT, helo=HOST, mail_from=sender, receiver="mx.test", now=_NOW
        )

    async def dkim(self, _: str, raw: bytes) -> Dkim:
        return await dkim.verify(self._resolver.lookup(), raw, now=_NOW)

    async def dmarc(self, sender: str, raw: bytes) -> Dmarc:
        own, signatures = self.found[raw]
        return await dmarc.evaluate(self._resolver.lookup(), authors=[sender], from_fields=1, spf=own, dkim=signatures)

    async def whole(self, sender: str, raw: bytes) -> Dmarc:
        envelope = Envelope(
            door=Door.SMTP,
            raw=raw,
            mail_from=sender,
            recipients=(),
            client=Client(ip=CLIENT, helo=HOST),
            arrival_id=UUID(int=1),
            received_at=_NOW,
        )
        return (await self._whole.check(envelope, authors=(sender,), from_fields=1)).report.dmarc


async def _small(steps: _Steps, server: NameServer, mails: list[tuple[str, bytes]], runs: int) -> dict[str, float]:
    """CPU-milliseconds per mail by step. The first round warms up and looks at the verdicts."""
    order: list[Callable[[str, bytes], Awaitable[Spf | Dkim | Dmarc]]] = [
        steps.spf,
        steps.dkim,
        steps.dmarc,
        steps.whole,
    ]
    for sender, raw in mails:
        steps.found[raw] = await steps.spf(sender, raw), await steps.dkim(sender, raw)
        for verdict in (*steps.found[raw], await steps.dmarc(sender, raw), await steps.whole(sender, raw)):
            if verdict.result is not Result.PASS:
                raise ValueError(f"a mail of the corpus does not pass: {verdict}")
    asked = len(server.asked)
    taken: dict[str, list[float]] = {step.__name__: [] for step in order}
    for _ in range(runs):
        for step in order:
            begun = process_time()
            for sender, raw in mails:
                await step(sender, raw)
            taken[step.__name__].append(1000 * (process_time() - begun) / len(mails))
    if len(server.asked) != asked:
        raise ValueError("the cache was not warm")
    return {name: statistics.median(times) for name, times in taken.items()}


async def _speed(resolver: Resolver, raw: bytes, runs: int) -> float:
    """MB/s of DKIM; the first run warms up."""
    taken = []
    for _ in range(runs + 1):
        begun = process_time()
        report = await dkim.verify(resolver.lookup(), raw, now=_NOW)
        taken.append(process_time() - begun)
        if report.result is not Result.PASS:
            raise ValueError(f"a large mail does not pass: {report}")
    return len(raw) / 1e6 / statistics.median(taken[1:])


def _theirs(mails: list[tuple[str, bytes]], texts: Texts, runs: int) -> tuple[float, float]:
    """CPU-milliseconds per mail of dkimpy and pyspf on the same mails and records."""

    def answer(name: str, kind: str, *_: Any, **__: Any) -> list[Any]:
        return [((name, kind), (text.encode(),)) for text in texts.get(name, ())] if kind == "TXT" else []

    pyspf.DNSLookup = answer
    verified = [sum(_seconds(_dkimpy, raw, texts) for _, raw in mails) for _ in range(runs + 1)]
    checked = [sum(_seconds(_pyspf, sender) for sender, _ in mails) for _ in range(runs + 1)]
    scale = 1000 / len(mails)
    return scale * statistics.median(verified[1:]), scale * statistics.median(checked[1:])


def _seconds(work: Callable[..., None], *what: object) -> float:
    begun = process_time()
    work(*what)
    return process_time() - begun


def _dkimpy(raw: bytes, texts: Texts) -> None:
    if not dkimpy.DKIM(raw).verify(dnsfunc=lambda name, **_: texts[name.decode().rstrip(".")][0].encode()):
        raise ValueError("dkimpy does not let a mail of the corpus pass")


def _pyspf(sender: str) -> None:
    if pyspf.check2(CLIENT, sender, HOST)[0] != "pass":
        raise ValueError("pyspf does not let a mail of the corpus pass")


def _signed(body: bytes) -> bytes:
    signer = make_signer(_LARGE_DOMAIN, selector="s", seed=1)
    fields = [f"From: a@{_LARGE_DOMAIN}\r\n".encode(), b"Subject: a large one\r\n"]
    signature = signer.sign(fields, body, unix_time=int(_NOW.timestamp()))
    return signature + b"".join(fields) + b"\r\n" + body


def _base64() -> bytes:
    """One file as the corpus attaches it: lines of 76 characters."""
    return encodebytes(Random(1).randbytes(_LARGE_BYTES * 57 // 78)).replace(b"\n", b"\r\n")


def _plain() -> bytes:
    """Words of the corpus in lines of about 60 characters, an empty line here and there."""
    rng, lines, size = Random(2), list[str](), 0
    while size < _LARGE_BYTES:
        lines.append(" ".join(rng.choices(ENGLISH.words, k=rng.randrange(14))))
        size += len(lines[-1]) + 2
    return "\r\n".join(lines).encode() + b"\r\n"


def show(report: Report, console: Console) -> None:
    """The figures, then the bounds that are broken, if any."""
    console.print(
        f"{report.mails} replies of {report.mean_bytes / 1000:.1f} KB, CPU per mail: SPF {report.spf_ms:.3f} ms, DKIM "
        f"{report.dkim_ms:.3f} ms, DMARC {report.dmarc_ms:.3f} ms, together [bold]{report.total_ms:.3f} ms[/]; "
        f"dkimpy {report.dkimpy_ms:.2f} ms ({report.dkimpy_ms / report.dkim_ms:.1f} times), "
        f"pyspf {report.pyspf_ms:.2f} ms ({report.pyspf_ms / report.spf_ms:.1f} times)\n"
        f"the whole check, with HELO, ARC, statements and reverse DNS: {report.whole_ms:.3f} ms",
        highlight=False,
    )
    for name, speed in (("as base64", report.base64), ("of plain text", report.plain)):
        console.print(
            f"DKIM on 5 MB {name}: [bold]{speed.ours:,.0f} MB/s[/], dkimpy {speed.dkimpy:,.0f} MB/s "
            f"({speed.ours / speed.dkimpy:.0f} times)",
            highlight=False,
        )
    for problem in report.problems:
        console.print(f"[bold red]BROKEN[/] {problem}", highlight=False)
    if not report.problems:
        console.print("[green]all bounds hold[/]")
