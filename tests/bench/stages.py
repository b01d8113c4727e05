"""Mode `stages`: each stage of a mail's way alone, in CPU per mean mail, against the library that it replaces.

Both sides take turns over the same mails of the corpus. A ratio below 1 is a broken bound: then the library would be
the better choice. `storing` has the stages that need a database; `crafted` how the cost of each room grows.
"""

import asyncio
import email
import email.policy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import getaddresses
from functools import partial
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from rich.console import Console

from ingester.core.addresses import parse_addresses
from ingester.core.body import read_body
from ingester.core.html import TextMaker
from ingester.core.mime import scan
from ingester.core.reply import reply_text
from ingester.core.words import line_text
from ingester.transport.data import DataReader
from tests.bench import auth, crafted, mime, storing
from tests.bench import corpus as corpora
from tests.bench.corpus import Corpus
from tests.bench.measure import describe_machine
from tests.bench.sheet import FORMAT, Figure, Sheet
from tests.bench.turns import medians, take_turns

ALIKE = 1.0
"""The least that any stage must be worth: as much as its library."""
_WIRE_CHUNK = 1 << 16
"""What one read from a socket brings."""
_FIELDS = ("from", "to", "cc", "reply-to")
_UNIT = "CPU-ms a mail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    seed: int
    mails: int
    runs: int
    crafted: bool
    cache: Path
    directory: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one stage does with one input, and what the libraries do that it replaces; inputs are one for each mail."""

    name: str
    ours: Callable[[Any], object]
    inputs: Callable[[Corpus], Sequence[Any]]
    theirs: tuple[tuple[str, Callable[[Any], object]], ...] = ()
    least: float = ALIKE


def run(options: Options, console: Console) -> Sheet:
    """Measure all. Raises BenchError or ValueError where there is nothing to measure."""
    corpus = corpora.load(seed=options.seed, count=options.mails, cache=options.cache)
    machine = describe_machine(options.cache)
    figures: list[Figure] = []
    for stage in STAGES:
        console.print(f"{stage.name} ...", style="dim", highlight=False)
        figures += measure(stage, corpus, options.runs)
    console.print("who sent it ...", style="dim")
    figures += _senders(corpus, options.runs)
    figures += storing.measure(corpus, options.directory, options.runs, console)
    if options.crafted:
        figures += _crafted(console)
    return Sheet(
        mode="stages",
        format=FORMAT,
        setting={
            "corpus": corpora.VERSION,
            "seed": options.seed,
            "mails": options.mails,
            "mean bytes": round(corpus.mean_bytes),
            "runs": options.runs,
        },
        machine=machine,
        figures=tuple(figures),
    )


def measure(stage: Stage, corpus: Corpus, runs: int) -> list[Figure]:
    """Medians of the runs in milliseconds per mail; a ratio is the median of each run's own."""
    taken = take_turns((stage.ours, *(work for _, work in stage.theirs)), stage.inputs(corpus), runs)
    ours, *theirs = (1000 * seconds / len(corpus.mails) for seconds in medians(taken))
    out = [Figure(group=stage.name, name="ours", value=ours, unit=_UNIT)]
    for at, ((name, _), value) in enumerate(zip(stage.theirs, theirs, strict=True), 1):
        ratio = statistics.median(row[at] / row[0] for row in taken)
        out += compare(stage.name, name, value, ratio, least=stage.least)
    return out


def compare(stage: str, library: str, value: float, ratio: float, *, least: float = ALIKE) -> list[Figure]:
    """A library's figure and how many times ours it is."""
    return [
        Figure(group=stage, name=library, value=value, unit=_UNIT),
        Figure(group=stage, name=f"{library}, over ours", value=ratio, unit="times", least=least),
    ]


def _senders(corpus: Corpus, runs: int) -> list[Figure]:
    """SPF, DKIM and DMARC over the whole corpus, with keys and records in the cache."""
    found = auth.measure_mails(corpus, runs)
    out = []
    for name, library in (("spf", "pyspf"), ("dkim", "dkimpy"), ("dmarc", "")):
        out.append(Figure(group=name.upper(), name="ours", value=found[name], unit=_UNIT))
        if library:
            out += compare(name.upper(), library, found[library], found[library] / found[name])
    out.append(Figure(group="all checks of senders", name="ours", value=found["whole"], unit=_UNIT))
    return out


def _crafted(console: Console) -> list[Figure]:
    figures: list[Figure] = []
    room = ""
    for shape, figure in crafted.measure():
        if shape.room != room:
            room = shape.room
            console.print(f"crafted input: {room} ...", style="dim", highlight=False)
        figures.append(figure)
    return crafted.worst(figures)


# Receiving


def _wires(corpus: Corpus) -> list[bytes]:
    with corpus.map() as wire:
        return [wire[mail.offset : mail.offset + mail.length] for mail in corpus.mails]


def receive(wire: bytes) -> bytes:
    """Ours: the content from chunks as a socket brings them."""
    reader = DataReader(max_bytes=1 << 30, max_line=64 << 10, normalise=True)
    for at in range(0, len(wire), _WIRE_CHUNK):
        reader.feed(wire[at : at + _WIRE_CHUNK])
    return reader.take()


class _Stock(SMTP):
    """aiosmtpd between 354 and 250: nobody is there to be told anything."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(object(), data_size_limit=None, loop=loop)
        self.session = Session(loop)
        self.session.host_name = "driver.bench.test"
        self.envelope = Envelope()
        self.transport = asyncio.Transport()
        self.received = b""

    async def push(self, status: object) -> None:
        """Nobody listens."""

    def _set_post_data_state(self) -> None:
        assert self.envelope is not None
        self.received = bytes(self.envelope.original_content or b"")
        self.envelope = Envelope()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """There is none."""

    async def take(self, wire: bytes) -> bytes:
        """Run the line loop over a mail that comes in chunks."""
        assert self.envelope is not None
        self.envelope.rcpt_tos = ["x@bench.test"]
        self._reader = asyncio.StreamReader(limit=self.line_length_limit, loop=self.loop)
        pumping = asyncio.ensure_future(self._pump(wire))
        await self.smtp_DATA("")
        await pumping
        return self.received

    async def _pump(self, wire: bytes) -> None:
        for at in range(0, len(wire), _WIRE_CHUNK):
            self._reader.feed_data(wire[at : at + _WIRE_CHUNK])
            await asyncio.sleep(0)


def receive_by_lines(wire: bytes) -> bytes:
    """Theirs: aiosmtpd's own loop over lines."""

    async def take() -> bytes:
        return await _Stock(asyncio.get_running_loop()).take(wire)

    return asyncio.run(take())


# Reading


def _raws(corpus: Corpus) -> list[bytes]:
    return [corpus.raw(mail) for mail in corpus.mails]


def read_policy_default(raw: bytes) -> int:
    """Theirs with the newer policy: parse, walk, decode each part."""
    return mime.total_of(email.message_from_bytes(raw, policy=email.policy.default))


def _address_fields(corpus: Corpus) -> list[list[tuple[str, str]]]:
    out = []
    for raw in _raws(corpus):
        header = scan(raw, mime.BOUNDS).header
        out.append([(name, line_text(value)) for name in _FIELDS for value in header.all(name)])
    return out


def read_addresses(fields: list[tuple[str, str]]) -> list[str | None]:
    """Ours: names, decoded, and addresses."""
    return [one.address for _, text in fields for one in parse_addresses(text)[0]]


def read_by_headerregistry(fields: list[tuple[str, str]]) -> list[str | None]:
    factory = email.policy.default.header_factory
    return [one.addr_spec for name, text in fields for one in factory(name, text).addresses]


def read_by_getaddresses(fields: list[tuple[str, str]]) -> list[str | None]:
    """Theirs that does less: names stay encoded."""
    return [address for _, address in getaddresses([text for _, text in fields])]


def _texts(corpus: Corpus) -> list[str]:
    return [read_body(raw, scan(raw, mime.BOUNDS), set()).text for raw in _raws(corpus)]


def _htmls(corpus: Corpus) -> list[str]:
    return [read_body(raw, scan(raw, mime.BOUNDS), set()).html or "" for raw in _raws(corpus)]


def make_text(html: str) -> str:
    return TextMaker().text(html) if html else ""


STAGES = (
    Stage(
        name="receiving", ours=receive, inputs=_wires, theirs=(("aiosmtpd's line loop", receive_by_lines),)
    ),
    Stage(
        name="MIME, scan and decode",
        ours=mime.read,
        inputs=_raws,
        theirs=(("email, compat32", mime.read_compat32), ("email, policy.default", read_policy_default)),
        least=mime.LEAST_RATIO,
    ),
    Stage(name="everything read", ours=mime.read_all, inputs=_raws),
    Stage(
        name="header addresses",
        ours=read_addresses,
        inputs=_address_fields,
        theirs=(("email.headerregistry", read_by_headerregistry), ("email.utils.getaddresses", read_by_getaddresses)),
    ),
    Stage(name="reply text", ours=partial(reply_text, body_html=None), inputs=_texts),
    Stage(name="HTML to text (inscriptis within)", ours=make_text, inputs=_htmls),
)  # fmt: skip
