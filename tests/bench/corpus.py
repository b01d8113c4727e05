"""The corpus: mails that a support desk gets, seeded, DKIM-signed, ready for the wire, cached on disk.

60 % replies of 3 to 15 KB, 25 % with one to three attachments of 20 to 300 KB, 10 % with nested inline images, 4 %
forwards as message/rfc822, 1 % of 5 to 10 MB; about 158 KB on average. The first mails of a longer corpus are those of
a shorter one with the same seed. Figures compare only within one VERSION: raise it with any change to what is composed.
"""

import hashlib
import mmap
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

import msgspec

from tests.bench.clients import SENDERS, SHARED_RECORDS, START, Sender, received, stamp, token
from tests.bench.compose import encode_words, mailbox, stuff_dots
from tests.bench.shapes import SHARES, Brief, Files, Shape, compose
from tests.bench.sign import Signer, make_signer
from tests.bench.words import LANGUAGES, Language

VERSION = 2
DOMAIN = "bench.test"
CATCH_ALL = ("info", "billing", "jobs", "press", "hello", "returns", "orders", "legal")
GOLDEN = 0.6180339887498949
OPEN_THREADS = 64
THREAD_LENGTH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail of the corpus. `sha256` and `size` are of the raw content, `offset` and `length` of its wire form.

    `parts` counts MIME leaves; `thread` numbers the conversation, which within one mailbox is one row in the end;
    `answers` says that it cites a mail of this corpus.
    """

    message_id: str
    sender: str
    recipient: str
    shape: Shape
    parts: int
    thread: int
    answers: bool
    size: int
    sha256: str
    offset: int
    length: int
    eight_bit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The mails in order, the file with their wire form, and the DNS records that make them pass."""

    seed: int
    mails: tuple[Mail, ...]
    wire: Path
    zone: dict[str, tuple[str, ...]]
    """TXT records by name: SPF, DKIM and DMARC of every sending domain. The server splits a text over 255 octets."""

    @property
    def mean_bytes(self) -> float:
        return sum(mail.size for mail in self.mails) / len(self.mails)

    def raw(self, mail: Mail) -> bytes:
        """The content of one mail, dots unstuffed."""
        with self.wire.open("rb") as file:
            file.seek(mail.offset)
            wire = file.read(mail.length)
        body = wire[:-3].replace(b"\r\n..", b"\r\n.")
        return body[1:] if body.startswith(b"..") else body

    def map(self) -> mmap.mmap:
        """The wire file in memory, its pages read already."""
        with self.wire.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)


class _Index(msgspec.Struct, frozen=True, kw_only=True):
    mails: list[Mail]
    zone: dict[str, tuple[str, ...]]


def default_cache() -> Path:
    """Where corpora are kept between runs (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ingester-bench"


def load(*, seed: int, count: int, cache: Path) -> Corpus:
    """The corpus of `count` mails, from the cache or composed and put there. Raises ValueError on a count below 1."""
    if count < 1:
        raise ValueError("a corpus has at least one mail")
    stem = f"v{VERSION}-seed{seed}-{count}"
    wire, index = cache / f"{stem}.wire", cache / f"{stem}.json"
    if not (wire.exists() and index.exists()):
        cache.mkdir(parents=True, exist_ok=True)
        _build(seed, count, wire, index)
    stored = msgspec.json.decode(index.read_bytes(), type=_Index)
    return Corpus(seed=seed, mails=tuple(stored.mails), wire=wire, zone=stored.zone)


def _build(seed: int, count: int, wire: Path, index: Path) -> None:
    """Write both files under other names and move them, the index last: two builders at once do no harm."""
    author = Author(seed)
    mails: list[Mail] = []
    offset = 0
    with tempfile.TemporaryDirectory(dir=wire.parent, prefix="building-") as scratch:
        with (Path(scratch) / "wire").open("wb") as file:
            for draft in author.write(count):
                payload = stuff_dots(draft.raw)
                file.write(payload)
                mails.append(draft.mail(offset, len(payload)))
                offset += len(payload)
        (Path(scratch) / "index").write_bytes(msgspec.json.encode(_Index(mails=mails, zone=author.zone())))
        (Path(scratch) / "wire").replace(wire)
        (Path(scratch) / "index").replace(index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A composed mail before it has a place in the file."""

    raw: bytes
    message_id: str
    sender: str
    recipient: str
    shape: Shape
    parts: int
    thread: int
    answers: bool

    def mail(self, offset: int, length: int) -> Mail:
        return Mail(
            message_id=self.message_id,
            sender=self.sender,
            recipient=self.recipient,
            shape=self.shape,
            parts=self.parts,
            thread=self.thread,
            answers=self.answers,
            size=len(self.raw),
            sha256=hashlib.sha256(self.raw).hexdigest(),
            offset=offset,
            length=length,
            eight_bit=not self.raw.isascii(),
        )


@dataclass(slots=True, kw_only=True)
class _Thread:
    number: int
    recipient: str
    language: Language
    subject: str
    ids: list[str] = field(default_factory=list)


class Author:
    """Writes the mails one after the other, remembering the conversations that are open."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._files = Files(seed)
        self._signers = signers(seed)
        self._open: list[_Thread] = []
        self._foreign: set[str] = set()
        self._threads = 0

    def zone(self) -> dict[str, tuple[str, ...]]:
        zone: dict[str, tuple[str, ...]] = {name: (record,) for name, record in SHARED_RECORDS.items()}
        for sender in SENDERS:
            zone[sender.domain] = (sender.spf,)
            zone[f"_dmarc.{sender.domain}"] = (sender.dmarc,)
            zone[f"{sender.selector}._domainkey.{sender.domain}"] = (self._signers[sender.domain].record,)
        return zone

    def write(self, count: int) -> Iterator[Draft]:
        seen = dict.fromkeys(Shape, 0)
        for number in range(count):
            shape = self._shape(number)
            seen[shape] += 1
            yield self._draft(number, shape, seen[shape] * GOLDEN % 1)

    def _shape(self, number: int) -> Shape:
        deck = [shape for shape, share in SHARES.items() for _ in range(share)]
        random.Random(f"deck {self._seed} {number // 100}").shuffle(deck)
        return deck[number % 100]

    def _draft(self, number: int, shape: Shape, rank: float) -> Draft:
        rng = random.Random(f"mail {self._seed} {number}")
        sender = rng.choices(SENDERS, weights=[one.weight for one in SENDERS])[0]
        thread = self._thread(rng, shape)
        moment = START + timedelta(seconds=37 * number)
        name = rng.choice(thread.language.people)
        address = f"{token(rng, 7).lower()}@{sender.domain}"
        message_id = sender.client.message_id.format(f"{token(rng, 18)}{number:06x}")
        fields = [
            f"From: {mailbox(name, address)}",
            f"To: <{thread.recipient}>",
            *(
                [f"Cc: {mailbox(rng.choice(thread.language.people), f'team@{sender.domain}')}"]
                if rng.random() < 0.1
                else []
            ),
            f"Subject: {encode_words((thread.language.reply if thread.ids else '') + thread.subject)}",
            f"Date: {stamp(moment)}",
            f"Message-ID: <{message_id}>",
            *(cited := _cited(rng, thread)),
            *_client_fields(rng, sender, thread.subject),
            "MIME-Version: 1.0",
        ]
        brief = Brief(
            rng=rng,
            files=self._files,
            sender=sender,
            language=thread.language,
            addressee=rng.choice(thread.language.people),
            recipient=thread.recipient,
            moment=moment,
            rank=rank,
        )
        trace = received(rng, sender, thread.recipient, moment)
        header = [f"{line}\r\n".encode("ascii") for line in fields]
        node = compose(shape, brief, header=len(trace) + sum(map(len, header)) + 800)
        header += node.fields
        signature = self._signers[sender.domain].sign(header, node.body, unix_time=int(moment.timestamp()))
        answers = any(f"<{one}>" in line for line in cited for one in thread.ids if one not in self._foreign)
        thread.ids.append(message_id)
        return Draft(
            raw=b"".join((trace, signature, *header, b"\r\n", node.body)),
            message_id=message_id,
            sender=address,
            recipient=thread.recipient,
            shape=shape,
            parts=node.leaves,
            thread=thread.number,
            answers=answers,
        )

    def _thread(self, rng: random.Random, shape: Shape) -> _Thread:
        """An open conversation, mostly for replies, else a new one. A new reply answers a mail that nobody knows."""
        known = rng.random() < (0.9 if shape is Shape.REPLY else 0.4)
        self._open = [thread for thread in self._open if len(thread.ids) < THREAD_LENGTH][-OPEN_THREADS:]
        if known and self._open:
            return rng.choice(self._open)
        language = rng.choice(LANGUAGES)
        thread = _Thread(
            number=self._threads, recipient=_recipient(rng), language=language, subject=rng.choice(language.subjects)
        )
        if shape is Shape.REPLY:
            thread.ids.append(f"{token(rng, 24)}@product.{DOMAIN}")
            self._foreign.add(thread.ids[0])
        self._threads += 1
        self._open.append(thread)
        return thread


def _recipient(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.45:
        local = "support"
    elif kind < 0.75:
        local = "sales"
    elif kind < 0.8:
        local = f"support+{token(rng, 5).lower()}"
    else:
        local = rng.choice(CATCH_ALL)
    return f"{local}@{DOMAIN}"


def _cited(rng: random.Random, thread: _Thread) -> list[str]:
    """In-Reply-To and References (RFC 5322, 3.6.4): mostly both, at times only one, as clients do."""
    if not thread.ids:
        return []
    parent = len(thread.ids) if rng.random() < 0.8 else rng.randint(1, len(thread.ids))
    ids, habit = thread.ids[:parent], rng.random()
    fields = [] if habit < 0.1 else [f"In-Reply-To: <{ids[-1]}>"]
    if habit < 0.9:
        fields.append("References: " + "\r\n ".join(f"<{one}>" for one in ids))
    return fields


def _client_fields(rng: random.Random, sender: Sender, subject: str) -> list[str]:
    mark = token(rng, 40)
    return [line.format(topic=encode_words(subject), token=mark) for line in sender.client.fields]


@lru_cache(maxsize=4)
def signers(seed: int) -> dict[str, Signer]:
    """The signers of a corpus by domain, for whoever signs more mails. Finding the primes takes a second."""
    return {one.domain: make_signer(one.domain, selector=one.selector, seed=seed) for one in SENDERS}
