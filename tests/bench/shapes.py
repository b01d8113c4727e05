"""The five shapes of the corpus, each composed from a seeded generator. Knows no files and no signatures."""

import base64
import math
import random
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tests.bench.clients import HEX, Sender, Written, received, stamp, token, write
from tests.bench.compose import Node, encode_words, file_leaf, mailbox, message_leaf, multipart
from tests.bench.words import Language

LINE = 57
"""Bytes in one base64 line of 76 characters (RFC 2045, 6.8)."""
POOL = 12 << 20


class Shape(StrEnum):
    """What kind of mail."""

    REPLY = "reply"
    ATTACHMENTS = "attachments"
    INLINE = "inline"
    FORWARD = "forward"
    BIG = "big"


SHARES = {Shape.REPLY: 60, Shape.ATTACHMENTS: 25, Shape.INLINE: 10, Shape.FORWARD: 4, Shape.BIG: 1}
"""In a hundred mails, exactly."""

_KINDS = {
    "pdf": ("application/pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
    "png": ("image/png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "jpg": ("image/jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
    "jpeg": ("image/jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
    "docx": ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", b"PK\x03\x04\x14\0\x06\0"),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", b"PK\x03\x04\x14\0\x06\0"),
    "pptx": ("application/vnd.openxmlformats-officedocument.presentationml.presentation", b"PK\x03\x04\x14\0\x06\0"),
}


class Files:
    """Contents for attachments: slices of one pool of random bytes, held as base64 lines, each with its own head."""

    def __init__(self, seed: int) -> None:
        self._lines = _lines(random.Random(f"files {seed}").randbytes(POOL - POOL % LINE))
        self._count = POOL // LINE

    def take(self, rng: random.Random, magic: bytes, size: int) -> bytes:
        """Base64 lines of `size` bytes that begin with `magic`."""
        middle = max(0, size // LINE - 1)
        start = rng.randrange(self._count - middle) * (LINE // 3 * 4 + 2)
        head = magic + rng.randbytes(LINE - len(magic))
        tail = rng.randbytes(size % LINE or 1)
        return _lines(head) + self._lines[start : start + middle * (LINE // 3 * 4 + 2)] + _lines(tail)


def _lines(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What one mail is to be: `rank` in 0..1 chooses its size within the range of its shape."""

    rng: random.Random
    files: Files
    sender: Sender
    language: Language
    addressee: str
    recipient: str
    moment: datetime
    rank: float


def compose(shape: Shape, brief: Brief, *, header: int) -> Node:
    """The content of one mail, `header` being the bytes that its header block will take."""
    match shape:
        case Shape.REPLY:
            return _alternative(brief, _written(brief, _between(3_100, 12_800, brief.rank) - header))
        case Shape.ATTACHMENTS:
            return _with_files(brief, brief.rng.choices((1, 2, 3), weights=(52, 30, 18))[0])
        case Shape.INLINE:
            return _inline(brief)
        case Shape.FORWARD:
            return _forward(brief)
        case Shape.BIG:
            return _big(brief, _between(5_000_000, 10_000_000, brief.rank) - header)


def _between(low: int, high: int, rank: float) -> int:
    """Log-uniform: small ones are more common, as in life."""
    return int(low * math.exp(rank * math.log(high / low)))


def _written(brief: Brief, target: int, *, image: str = "") -> Written:
    return write(
        brief.rng,
        brief.sender.client,
        brief.language,
        brief.addressee,
        target=max(600, target),
        moment=brief.moment,
        image=image,
    )


def _boundary(brief: Brief) -> str:
    return brief.sender.client.boundary.format(token(brief.rng, 24, HEX))


def _alternative(brief: Brief, written: Written) -> Node:
    if written.rich is None:
        return written.plain
    return multipart("alternative", (written.plain, written.rich), boundary=_boundary(brief))


def _file(brief: Brief, size: int, *, name: str = "") -> Node:
    name = name or brief.rng.choice(brief.language.files)
    kind, magic = _KINDS[name.rpartition(".")[2]]
    lines = brief.files.take(brief.rng, magic, size)
    old = brief.sender.client.outlook
    return file_leaf(lines, kind=kind, filename=name, disposition="attachment", old=old)


def _with_files(brief: Brief, count: int, *, high: int = 300_000) -> Node:
    text = _alternative(brief, _written(brief, _between(700, 9_000, brief.rng.random())))
    files = [_file(brief, _between(20_000, high, brief.rng.random())) for _ in range(count)]
    return multipart("mixed", (text, *files), boundary=_boundary(brief))


def _inline(brief: Brief) -> Node:
    """Images in a related, that in an alternative, that in a mixed; some with an attachment beside."""
    rng, images, cited = brief.rng, [], []
    for number in range(1, rng.randint(1, 4) + 1):
        cid = f"image{number:03d}.{token(rng, 8, HEX)}@{brief.sender.domain}"
        kind, magic = _KINDS[rng.choice(("png", "jpg"))]
        lines = brief.files.take(rng, magic, _between(8_000, 120_000, rng.random()))
        name = f"image{number:03d}.{'png' if kind == 'image/png' else 'jpg'}"
        images.append(file_leaf(lines, kind=kind, filename=name, disposition="inline", content_id=cid))
        cited.append(f'<img src="cid:{cid}" alt="{name}" width="320">')
    written = _written(brief, _between(3_000, 12_000, rng.random()), image="\n".join(cited))
    if written.rich is None:
        raise AssertionError("a mail with inline images has HTML")
    related = multipart("related", (written.rich, *images), boundary=_boundary(brief), params='\r\n\ttype="text/html";')
    pieces = [multipart("alternative", (written.plain, related), boundary=_boundary(brief))]
    if rng.random() < 0.3:
        pieces.append(_file(brief, _between(20_000, 100_000, rng.random())))
    return multipart("mixed", pieces, boundary=_boundary(brief))


def _forward(brief: Brief) -> Node:
    """A whole mail as message/rfc822 under a few words."""
    rng, language = brief.rng, brief.language
    if rng.random() < 0.5:
        inner = _with_files(brief, 1, high=200_000)
    else:
        inner = _alternative(brief, _written(brief, _between(2_000, 12_000, rng.random())))
    head = (
        f"From: {mailbox(rng.choice(language.people), f'origin{rng.randint(1, 999)}@elsewhere.example')}\r\n"
        f"To: {mailbox(brief.addressee, f'someone@{brief.sender.domain}')}\r\n"
        f"Subject: {encode_words(rng.choice(language.subjects))}\r\nDate: {stamp(brief.moment)}\r\n"
        f"Message-ID: <{token(rng, 22)}@elsewhere.example>\r\nMIME-Version: 1.0\r\n"
    ).encode("ascii")
    original = received(rng, brief.sender, f"someone@{brief.sender.domain}", brief.moment) + head + inner.entity
    text = _alternative(brief, _written(brief, 600))
    return multipart("mixed", (text, message_leaf(original)), boundary=_boundary(brief))


def _big(brief: Brief, size: int) -> Node:
    rng = brief.rng
    text = _alternative(brief, _written(brief, 2_000))
    room = (size - 4_000) * LINE // (LINE // 3 * 4 + 2)
    count = rng.randint(1, 3)
    files = [_file(brief, room // count) for _ in range(count)]
    return multipart("mixed", (text, *files), boundary=_boundary(brief))
