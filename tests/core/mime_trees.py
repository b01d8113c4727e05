"""Makes MIME trees with known leaves, and breaks them: the generator of the property tests.

A seed is a tree; trees of small seeds are small. Everything random comes out of the seed.
"""

from base64 import encodebytes
from dataclasses import dataclass
from email.header import Header
from quopri import encodestring
from random import Random
from urllib.parse import quote_from_bytes

_BINARY_TYPES = ("image/png", "application/pdf", "application/octet-stream", "audio/x-thing", "application/x-zip")
_TEXT_TYPES = ("text/plain", "text/html", "text/calendar", "text/csv", "text/x-unheard-of")
_MULTIPARTS = ("mixed", "alternative", "related", "signed", "parallel", "report", "x-unheard-of")
_NAMES = ("a.pdf", "my file.txt", "Übersicht.pdf", "日本語の資料.docx", "we;ird, na=me.bin", "x", "o'brien (1).doc")
_WORDS = ("hello", "world", "--", "--not-a-boundary", "From here", "grüße", "日本", "=?utf-8?q?x?=", "a=b", ".", "<p>")
_JUNK = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n--", b"--", b"\0", b"\xff\xfe", b"\x1b$B", b'"', b"<", b">", b"(", b":",
    b";", b"=", b"=\r\n", b"=?utf-8?b?", b"?=", b" ", b"\t", b"boundary=", b"charset=utf-16;", b"charset=utf-7;",
    b"Content-Type: multipart/mixed; boundary=x\r\n", b"\r\n--x\r\n", b"\r\n--x--\r\n", b"filename*0*=''%00;",
    b"Content-Type: message/rfc822\r\n", b"Content-Transfer-Encoding: base64\r\n", b"<img src=cid:x>",
    b"Content-Transfer-Encoding: quoted-printable\r\n", b"From: a@b, <c@d> (e\r\n", b"\xed\xa0\x80",
    b"Date: Thu, 99 Foo 99999\r\n", b"References: <<a> <b\r\n",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What must come back of one leaf."""

    path: str
    content_type: str
    encoding: str
    filename: str | None
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A whole mail, and its leaves in depth-first order."""

    raw: bytes
    leaves: tuple[Leaf, ...]


class _Maker:
    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.size = 1 + seed % 7
        self.end = self.rng.choice((b"\r\n", b"\r\n", b"\r\n", b"\n"))
        self.leaves: list[Leaf] = []
        self.boundaries: list[bytes] = []

    def mail(self) -> Tree:
        top = [
            b"From: Ann <ann@example.test>",
            b"To: support@demo.test",
            b"Subject: " + self.word(),
            b"MIME-Version: 1.0",
        ]
        if self.rng.random() < 0.8:
            top.append(b"Message-ID: <%d@example.test>" % self.rng.randrange(10**9))
        raw = self.end.join(top) + self.end + self.entity("", depth=0)
        return Tree(raw=raw, leaves=tuple(self.leaves))

    def word(self) -> bytes:
        return self.rng.choice(_WORDS).encode()

    def entity(self, path: str, *, depth: int) -> bytes:
        if depth < 4 and self.rng.random() < (0.85, 0.35, 0.25, 0.2)[depth]:
            return self.multipart(path, depth=depth)
        return self.leaf(path or "1")

    def multipart(self, path: str, *, depth: int) -> bytes:
        rng, end = self.rng, self.end
        boundary = self.boundary()
        self.boundaries.append(boundary)
        subtype = rng.choice(_MULTIPARTS).encode()
        out = [
            b"Content-Type: multipart/" + subtype + b';%s boundary="%s"' % (rng.choice((b"", end)), boundary),
            end,
            end,
        ]
        if rng.random() < 0.3:
            out += [b"This is a multi-part message.", end]
        for number in range(1, rng.randint(1, self.size) + 1):
            out += [b"--", boundary, rng.choice((b"", b"", b" ", b" \t ")), end]
            out += [self.entity(f"{path}.{number}" if path else str(number), depth=depth + 1), end]
        out += [b"--", boundary, b"--", rng.choice((b"", b" "))]
        if rng.random() < 0.3:
            out += [end, b"epilogue", end]
        self.boundaries.pop()
        return b"".join(out)

    def boundary(self) -> bytes:
        """Plain, exotic, or with an outer one for its beginning."""
        rng = self.rng
        fresh = b"%x" % rng.getrandbits(48)
        kind = rng.randrange(4)
        if kind == 0 and self.boundaries:
            return self.boundaries[-1] + fresh
        if kind == 1:
            return b"=_'()+_,-./:=? ;" + fresh
        return b"----=_Part_" + fresh if kind == 2 else b"b" + fresh

    def leaf(self, path: str) -> bytes:
        rng, end = self.rng, self.end
        kind = rng.randrange(10)
        if kind == 0:
            return self.message(path)
        text = kind < 6
        content_type = rng.choice(_TEXT_TYPES if text else _BINARY_TYPES)
        encoding = rng.choice(
            ("7bit", "8bit", "quoted-printable", "base64") if text else ("base64", "base64", "binary")
        )
        content = self.text() if text else rng.randbytes(rng.randrange(0, 200))
        if encoding == "base64":
            body = encodebytes(content).replace(b"\n", end).removesuffix(end)
        elif encoding == "quoted-printable":
            content = content.replace(b"\r", b"")
            body = encodestring(content).replace(b"\n", end)
            content = content.replace(b"\n", end)
        else:
            content = content.replace(b"\n--", b"\n").replace(b"\r", b"").removeprefix(b"--")
            body = content
        name = rng.choice((None, None, *_NAMES))
        self.leaves.append(
            Leaf(path=path, content_type=content_type, encoding=encoding, filename=name, content=content)
        )
        head = [b"Content-Type: " + content_type.encode(), b"Content-Transfer-Encoding: " + encoding.encode()]
        if text:
            head[0] += b"; charset=utf-8"
        if name is not None:
            head.append(
                rng.choice((b"Content-Disposition: attachment", b"Content-Disposition: inline")) + self.name(name)
            )
        if rng.random() < 0.3:
            head.append(b"Content-ID: <%d@cid>" % rng.randrange(1000))
        rng.shuffle(head)
        return end.join(head) + end + end + body

    def message(self, path: str) -> bytes:
        """An embedded mail with a multipart of its own: opaque."""
        end = self.end
        lines = (
            b"Subject: inner",
            b"Content-Type: multipart/mixed; boundary=in",
            b"",
            b"--in",
            b"",
            b"x",
            b"--in--",
            b"",
        )
        content = end.join(lines)
        self.leaves.append(
            Leaf(path=path, content_type="message/rfc822", encoding="7bit", filename=None, content=content)
        )
        return b"Content-Type: message/rfc822" + end + end + content

    def text(self) -> bytes:
        lines = [b" ".join(self.word() for _ in range(self.rng.randrange(8))) for _ in range(self.rng.randrange(12))]
        return b"\n".join(lines)

    def name(self, name: str) -> bytes:
        """The filename in one of the ways that mail clients know."""
        kind = self.rng.randrange(4)
        if name.isascii() and kind < 2:
            return b'; filename="%s"' % name.encode()
        if kind == 2:
            return b'; filename="%s"' % Header(name, "utf-8", maxlinelen=1000).encode().encode()
        encoded = quote_from_bytes(name.encode(), safe="").encode()
        if kind == 3:
            cut = len(encoded) // 2
            while cut > 0 and b"%" in encoded[cut - 2 : cut]:
                cut -= 1
            return b";%s filename*1*=%s; filename*0*=utf-8''%s" % (self.end, encoded[cut:], encoded[:cut])
        return b"; filename*=UTF-8'en'%s" % encoded


def make_tree(seed: int) -> Tree:
    """The tree of a seed."""
    return _Maker(seed).mail()


def mutate(raw: bytes, seed: int) -> bytes:
    """One wound: bytes deleted, doubled, moved, overwritten, cut off, or words of the trade put where they hurt."""
    rng = Random(seed)
    size = len(raw)
    at = rng.randrange(size + 1)
    upto = min(size, at + rng.choice((1, 2, 10, 100, 1000)))
    kind = rng.randrange(9)
    if kind == 0:
        return raw[:at] + raw[upto:]
    if kind == 1:
        return raw[:upto] + raw[at:]
    if kind == 2:
        to = rng.randrange(size + 1)
        return raw[:to] + raw[at:upto] + raw[to:]
    if kind == 3:
        return raw[:at] + rng.randbytes(upto - at) + raw[upto:]
    if kind == 4:
        return raw[:at]
    if kind == 5:
        return raw.replace(b"\r\n", b"\n") if b"\r\n" in raw else raw.replace(b"\n", b"\r")
    if kind == 6:
        return raw.replace(b"\r\n\r\n", b"\r\n", rng.randrange(1, 4))
    line = raw.rfind(b"\n", 0, at) + 1
    return raw[:line] + rng.choice(_JUNK) + raw[line:] if kind == 7 else raw[:at] + rng.choice(_JUNK) + raw[at:]
