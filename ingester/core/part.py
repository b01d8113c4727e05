"""A part: a leaf of the MIME tree as a view on the raw mail, with what its header says of it."""

from dataclasses import dataclass
from functools import lru_cache

from ingester.core.content import normalise_encoding
from ingester.core.fields import HeaderBlock
from ingester.core.filename import sanitise
from ingester.core.params import EMPTY, Params, parse_params
from ingester.core.words import header_text, unfold

MAX_TEXT = 998
"""Characters kept of a Content-ID, a filename as sent, a media type: a line's length (RFC 5322, 2.1.1)."""
IDENTITY = ("7bit", "8bit", "binary", "unknown")
"""Encodings that are none: the bytes stand in the mail as they are."""
BINHEX = "application/mac-binhex40"
"""The media type that is a transfer encoding in truth (RFC 1741): the file is what was encoded."""
_MAX_WORD = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A leaf, as a view on the raw mail: `offset` and `length` in bytes, still transfer-encoded.

    `ordinal` counts leaves depth-first from 1; `parent_ordinal` is for parts that were unpacked out of another. One
    of these that is no view on the raw mail has its bytes in `data`, and `offset` and `length` 0.
    """

    ordinal: int
    parent_ordinal: int | None = None
    path: str
    content_type: str
    charset: str | None
    disposition: str | None
    original_filename: str | None
    filename: str | None
    content_id: str | None
    encoding: str
    offset: int
    length: int
    header_offset: int
    header_length: int
    flags: tuple[str, ...]
    data: bytes | None = None


def make_part(
    ordinal: int,
    path: str,
    media: str,
    params: Params,
    header: HeaderBlock,
    start: int,
    view: tuple[int, int],
    flags: list[str],
) -> Part:
    """Build a part from its parsed Content-Type and its header block; `view` is the offset and length of its body.

    What is odd is added to `flags`. An embedded message without a name is called `message-N.eml`.
    """
    encoding, disposition, content_id = "7bit", EMPTY, None
    said = header.by_name
    if "content-transfer-encoding" in said:
        encoding = _encoding(said["content-transfer-encoding"][0])
        if encoding == "unknown":
            flags.append("unknown_encoding")
        elif media[:10] == "multipart/":
            encoding = "7bit"  # RFC 2045, 6.4: a multipart has no other encoding, and its parts are read as they stand
    if media == BINHEX and encoding in IDENTITY:
        encoding = "binhex"
    if "content-disposition" in said:
        disposition = parse_params(said["content-disposition"][0])
    if "content-id" in said:
        content_id = header_text(said["content-id"][0]).strip("<> \t")[:MAX_TEXT] or None
    name = disposition.text("filename") if disposition.raw else None
    if not name and params.raw:
        name = params.text("name")
    if name:
        filename = sanitise(name)
    else:
        filename = f"message-{ordinal}.eml" if media in ("message/rfc822", "message/global") else None
    return Part(
        ordinal=ordinal,
        path=path,
        content_type=media,
        charset=_charset(params) if params.raw else None,
        disposition=disposition.main[:_MAX_WORD] or None,
        original_filename=name[:MAX_TEXT] if name else None,
        filename=filename,
        content_id=content_id,
        encoding=encoding,
        offset=view[0],
        length=view[1],
        header_offset=start,
        header_length=view[0] - start,
        flags=tuple(flags),
    )


def _charset(params: Params) -> str | None:
    words = (params.token("charset") or "").split(maxsplit=1)
    return words[0][:_MAX_WORD] if words else None


def _encoding(value: bytes) -> str:
    """The encoding that a field names."""
    return _usual_encoding(value) if len(value) <= _MAX_WORD else _read_encoding(value)


@lru_cache(maxsize=64)  # few words, and nearly every part has one of them
def _usual_encoding(value: bytes) -> str:
    return _read_encoding(value)


def _read_encoding(value: bytes) -> str:
    return normalise_encoding(unfold(value).decode("latin-1"))
