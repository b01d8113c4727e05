"""MIME composed from bytes: leaves, multiparts, header values as real clients write them. No shapes, no randomness."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote

CRLF = b"\r\n"


class Coding(StrEnum):
    """Content transfer encodings (RFC 2045, 6)."""

    PLAIN = "7bit"
    EIGHT = "8bit"
    QUOTED = "quoted-printable"
    BASE64 = "base64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A MIME entity: its content fields (with CRLF), its body, and how many leaves are under it."""

    fields: tuple[bytes, ...]
    body: bytes
    leaves: int = 1

    @property
    def entity(self) -> bytes:
        return b"".join(self.fields) + CRLF + self.body


def text_leaf(text: str, *, subtype: str, charset: str, coding: Coding, params: str = "") -> Node:
    """A text leaf. `text` has bare LF line ends; what the charset lacks becomes `?`."""
    kind = f'Content-Type: text/{subtype}; charset="{charset}"{params}\r\n'.encode("ascii")
    return Node(
        fields=(kind, f"Content-Transfer-Encoding: {coding}\r\n".encode("ascii")),
        body=encode_text(text, charset=charset, coding=coding),
    )


def encode_text(text: str, *, charset: str, coding: Coding) -> bytes:
    """Text in its charset and transfer encoding, lines ended by CRLF."""
    data = text.encode(charset, "replace")
    if coding is Coding.QUOTED:
        return binascii.b2a_qp(data, istext=True).replace(b"\n", CRLF) + CRLF
    if coding is Coding.BASE64:
        return base64.encodebytes(data.replace(b"\n", CRLF)).replace(b"\n", CRLF)
    return data.replace(b"\n", CRLF) + CRLF


def file_leaf(
    lines: bytes, *, kind: str, filename: str, disposition: str, content_id: str = "", old: bool = False
) -> Node:
    """A base64 leaf from ready lines. `old`: RFC 2047 in the parameters as Outlook writes it, else RFC 2231."""
    fields = [f"Content-Type: {kind};\r\n\t{_parameter('name', filename, old=old)}\r\n"]
    fields.append(f"Content-Disposition: {disposition};\r\n\t{_parameter('filename', filename, old=old)}\r\n")
    fields.append(f"Content-Transfer-Encoding: {Coding.BASE64}\r\n")
    if content_id:
        fields.append(f"Content-ID: <{content_id}>\r\nX-Attachment-Id: {content_id}\r\n")
    return Node(fields=tuple(field.encode("ascii") for field in fields), body=lines)


def message_leaf(message: bytes) -> Node:
    """A message/rfc822 leaf (RFC 2046, 5.2.1)."""
    fields = (b"Content-Type: message/rfc822\r\n", b"Content-Disposition: attachment\r\n")
    return Node(fields=fields, body=message)


def multipart(subtype: str, children: Sequence[Node], *, boundary: str, params: str = "") -> Node:
    """A multipart (RFC 2046, 5.1)."""
    mark = b"--" + boundary.encode("ascii")
    pieces: list[bytes] = []
    for child in children:
        pieces += (mark, CRLF, *child.fields, CRLF, child.body, CRLF)
    pieces += (mark, b"--", CRLF)
    kind = f'Content-Type: multipart/{subtype};{params}\r\n\tboundary="{boundary}"\r\n'
    return Node(fields=(kind.encode("ascii"),), body=b"".join(pieces), leaves=sum(child.leaves for child in children))


def _parameter(name: str, value: str, *, old: bool) -> str:
    if value.isascii():
        return f'{name}="{value}"'
    return f'{name}="{encode_words(value)}"' if old else f"{name}*=utf-8''{quote(value, safe='')}"


@lru_cache(maxsize=4096)
def encode_words(text: str, charset: str = "utf-8") -> str:
    """Unstructured header text, as encoded words where it is not ASCII (RFC 2047, 2: at most 75 characters each)."""
    if text.isascii():
        return text
    words: list[str] = []
    piece = ""
    for char in text:
        if len((piece + char).encode(charset, "replace")) > 36:
            words.append(piece)
            piece = ""
        piece += char
    words.append(piece)
    coded = (base64.b64encode(word.encode(charset, "replace")).decode("ascii") for word in words)
    return "\r\n ".join(f"=?{charset}?B?{word}?=" for word in coded)


def mailbox(name: str, address: str, charset: str = "utf-8") -> str:
    """A From or To value: display name and address (RFC 5322, 3.4)."""
    if not name.isascii():
        return f"{encode_words(name, charset)} <{address}>"
    return f'"{name}" <{address}>' if "'" in name else f"{name} <{address}>"


def stuff_dots(raw: bytes) -> bytes:
    """Content as it goes over the wire: dots doubled, the end added (RFC 5321, 4.5.2). `raw` ends in CRLF."""
    body = raw.replace(b"\r\n.", b"\r\n..")
    return (b"." + body if body.startswith(b".") else body) + b".\r\n"
