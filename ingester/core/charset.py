"""Bytes to text: the labels of the WHATWG Encoding standard, then a ladder that always ends in some text.

Only codecs of the closed list are ever looked up: Python's registry would import modules for a stranger's label.
"""

import codecs
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from encodings.aliases import aliases
from functools import lru_cache
from itertools import islice

from charset_normalizer import from_bytes

SAMPLE = 2048
"""Bytes of foreign text the detector sees: enough to tell, at a cost of some milliseconds."""
MAX_DETECTIONS = 4
"""Detections for one mail; beyond, the last rung of the ladder decides."""
MAX_TEXT = 1 << 20
"""Characters read for the text columns of one mail; its parts keep all. A commit holds several copies of them."""
_STEP = 256 << 10
"""Bytes decoded at a time: the multi-byte codecs hold the GIL for 10 ns a byte."""
_TOLERATED = 100
"""One character in so many may be wrong and the declared charset is still believed."""

_CODECS = frozenset({
    "ascii", "utf_8", "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le", "utf_7", "cp1250",
    "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "cp437", "cp850",
    "cp852", "cp855", "cp858", "cp862", "cp866", "iso8859_2", "iso8859_3", "iso8859_4", "iso8859_5", "iso8859_6",
    "iso8859_7", "iso8859_8", "iso8859_10", "iso8859_13", "iso8859_14", "iso8859_15", "iso8859_16", "koi8_r",
    "koi8_u", "mac_roman", "mac_cyrillic", "mac_greek", "mac_latin2", "mac_turkish", "mac_iceland", "gb18030", "hz",
    "big5hkscs", "cp949", "johab", "cp932", "euc_jp", "euc_jis_2004", "shift_jis_2004", "shift_jisx0213",
    "iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_3", "iso2022_jp_ext", "iso2022_kr",
    "ptcp154", "kz1048", "cp1125", "cp720", "cp737", "cp775", "cp857", "cp860", "cp861", "cp863", "cp864", "cp865",
    "cp869", "tis_620",
})  # fmt: skip
_WHATWG = {
    "latin_1": "cp1252", "iso8859_1": "cp1252", "iso8859_9": "cp1254", "iso8859_11": "cp874", "tis_620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "big5": "big5hkscs",
    "cp950": "big5hkscs", "iso2022_jp": "iso2022_jp_ext",
}  # fmt: skip
_LABELS = {
    "utf8": "utf_8", "unicode11utf8": "utf_8", "xunicode20utf8": "utf_8", "utf8mb4": "utf_8", "unicode": "utf_16",
    "ansi": "cp1252", "ansix341968": "ascii", "win1250": "cp1250", "win1251": "cp1251", "win1252": "cp1252",
    "xcp1250": "cp1250", "xcp1251": "cp1251", "xcp1252": "cp1252", "cp932": "cp932", "windows31j": "cp932",
    "xsjis": "cp932", "ksc56011987": "cp949", "ksc56011989": "cp949", "ksc5601": "cp949", "windows949": "cp949",
    "xksc5601": "cp949", "xgbk": "gb18030", "gb231280": "gb18030", "csgb2312": "gb18030", "xeuccn": "gb18030",
    "euccn": "gb18030", "hzgb2312": "hz", "xxbig5": "big5hkscs", "cnbig5": "big5hkscs", "xeucjp": "euc_jp",
    "xmacroman": "mac_roman", "macintosh": "mac_roman", "mac": "mac_roman", "xmaccyrillic": "mac_cyrillic",
    "xmacukrainian": "mac_cyrillic", "koi": "koi8_r", "koi8": "koi8_r", "koi8ru": "koi8_u", "dos874": "cp874",
    "windows874": "cp874", "iso88598i": "iso8859_8", "iso88598e": "iso8859_8", "iso88596i": "iso8859_6",
    "iso88596e": "iso8859_6", "logical": "iso8859_8", "visual": "iso8859_8", "csiso2022jp": "iso2022_jp_ext",
}  # fmt: skip


Pieces = Iterable[bytes | memoryview]


@dataclass(slots=True)
class Ladder:
    """Reads the bodies of one mail, and remembers in `flags` what it had to guess."""

    flags: set[str] = field(default_factory=set)
    detections: int = 0
    room: int = MAX_TEXT
    """Characters that may still be read; the flag `body_text_cut` tells that there were more."""

    def read(self, pieces: Callable[[], Pieces], label: str | None) -> str:
        """The text of a body that `pieces` brings, again for each try: clean, and with LF for line ends.

        Declared charset, utf-8, detector, cp1252 with replacement: the first rung that holds gives the text. A charset
        that was declared is still believed when one character in a hundred is wrong.
        """
        return self._take(self._climb(pieces, label))

    def read_whole(self, data: bytes, label: str | None) -> str:
        """The same for a body that is in memory as a whole: most are of the charset that they declare, or ASCII."""
        codec = codec_of(label)
        if len(data) <= _STEP and len(data) <= self.room and not (codec is not None and codec.startswith(_WIDE)):
            text = decode_with(_with_feeds(data), "ascii" if data.isascii() else codec or "utf_8")
            if text is not None:
                text = clean(text, self.flags).removeprefix("\ufeff")
                self.room -= len(text)
                return text
        return self.read(lambda: (data,), label)

    def _take(self, text: str) -> str:
        if len(text) > self.room:
            self.flags.add("body_text_cut")
            text = text[: self.room]
        self.room -= len(text)
        return text

    def _climb(self, pieces: Callable[[], Pieces], label: str | None) -> str:
        codec = codec_of(label)
        first = () if codec is not None and codec.startswith(_WIDE) else ("ascii",)
        for name in dict.fromkeys((*first, *((codec,) if codec else ()), "utf_8")):
            steps = self._try(pieces(), name, "strict")
            if steps is not None:
                return "".join(steps).removeprefix("\ufeff")
        self.flags.add("charset_guessed")
        if codec is not None and codec != "ascii":
            steps = self._try(pieces(), codec, "replace") or []
            if sum(step.count("\ufffd") for step in steps) * _TOLERATED <= sum(map(len, steps)):
                return "".join(steps)
        strays = _Strays.count(pieces())
        if strays.few:
            return "".join(self._try(pieces(), "utf_8", "surrogateescape") or [])
        detected = self._detect(pieces(), _SINGLE_BYTE if strays.single else _CANDIDATES)
        steps = self._try(pieces(), detected, "strict") if detected is not None else None
        return "".join(self._try(pieces(), "cp1252", "replace") or []) if steps is None else "".join(steps)

    def _try(self, pieces: Pieces, codec: str, errors: str) -> list[str] | None:
        """The text in steps, or None when the bytes are not of this charset. It stops where there is no more room."""
        decoder = codecs.getincrementaldecoder(codec)(errors)
        out: list[str] = []
        carry = ""
        read = 0
        try:
            for piece in pieces:
                for at in range(0, len(piece), _STEP):
                    text = carry + _readable(decoder.decode(piece[at : at + _STEP]), errors)
                    carry = "\r" if text.endswith("\r") else ""
                    out.append(clean(text.removesuffix("\r").replace("\r\n", "\n"), self.flags))
                    read += len(out[-1])
                    if read > self.room:
                        return out
            out.append(clean(carry + _readable(decoder.decode(b"", final=True), errors), self.flags))
        except UnicodeError:
            return None
        return out

    def _detect(self, pieces: Pieces, candidates: list[str]) -> str | None:
        self.detections += 1
        if self.detections > MAX_DETECTIONS:
            return None
        best = from_bytes(_sample(pieces), steps=1, chunk_size=SAMPLE, cp_isolation=candidates).best()
        return codec_of(best.encoding) if best is not None else None


@dataclass(frozen=True, slots=True)
class _Strays:
    """How the bytes that are not ASCII stand in a text: the lengths of their first runs, and the size of the text."""

    runs: list[int]
    size: int

    @classmethod
    def count(cls, pieces: Pieces) -> "_Strays":
        """Look at the first MAX_TEXT bytes. A run that two pieces share counts as two."""
        runs: list[int] = []
        size = 0
        for piece in pieces:
            found = islice(_RUN.finditer(piece, 0, max(MAX_TEXT - size, 0)), _MAX_RUNS - len(runs))
            runs += [match.end() - match.start() for match in found]
            size += len(piece)
            if len(runs) >= _MAX_RUNS or size >= MAX_TEXT:
                break
        return cls(runs, size)

    @property
    def few(self) -> bool:
        """Whether they are slips in ASCII text, not a text in another charset: it would have whole words of them."""
        number = sum(self.runs)
        share = _STRAY_SHARE if number > _STRAY_PAIR else _STRAY_PAIR_SHARE
        return max(self.runs, default=0) <= _STRAY_PAIR and number <= _MAX_STRAYS and number * share <= self.size

    @property
    def single(self) -> bool:
        """Whether most stand alone, which is how accents stand: a multi-byte charset would take letters after them."""
        return 2 * sum(self.runs) < 3 * len(self.runs)


def _with_feeds(data: bytes) -> bytes:
    """LF for CRLF. Most texts have no other CR, and to leave out single bytes is the fastest."""
    return data.replace(b"\r\n", b"\n") if _LONE_RETURN.search(data) else data.replace(b"\r", b"")


def _readable(text: str, errors: str) -> str:
    """With the bytes that were no utf-8, and came through as surrogates, read as cp1252."""
    return _ESCAPED.sub(_as_cp1252, text) if errors == "surrogateescape" else text


def _as_cp1252(match: re.Match[str]) -> str:
    return match.group().encode("utf-8", "surrogateescape").decode("cp1252", "replace")


_LONE_RETURN = re.compile(rb"\r(?!\n)")
_RUN = re.compile(rb"[\x80-\xff]+")
_ESCAPED = re.compile("[\udc80-\udcff]")
_MAX_RUNS = 200
_MAX_STRAYS = 16
"""Bytes that are not ASCII in a text that is taken for ASCII with slips."""
_STRAY_SHARE = 50
"""One byte in so many may be such a slip."""
_STRAY_PAIR = 2
_STRAY_PAIR_SHARE = 4
"""One or two are slips even in a short text, and stand together at most in pairs."""
_WIDE = ("utf_7", "utf_16", "utf_32", "iso2022", "hz")
"""Codecs for which bytes that look like ASCII need not be."""
_SINGLE_BYTE = [
    "utf_8", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "iso8859_2",
]  # fmt: skip
_CANDIDATES = [*_SINGLE_BYTE, "gb18030", "big5", "cp932", "euc_jp", "cp949"]


def codec_of(label: str | None) -> str | None:
    """The Python codec for a charset label, by WHATWG's aliases, or None for an unknown or unsafe one."""
    return _look_up(label) if label and len(label) <= 60 else None


@lru_cache(maxsize=256)  # a mail asks for each of its texts, and all mails ask for the same few
def _look_up(label: str) -> str | None:
    label = label.strip(" \t\"'").lower()
    plain = "".join(char for char in label if char.isalnum())
    known = _LABELS.get(plain)
    if known is not None:
        return known
    name = label.replace("-", "_").replace(" ", "_").replace(".", "_").removeprefix("windows_")
    name = aliases.get(name, name)
    if name not in _CODECS and name not in _WHATWG:
        name = aliases.get(plain, plain)
    name = _WHATWG.get(name, name)
    return name if name in _CODECS else None


def decode_with(data: bytes, codec: str) -> str | None:
    """Short text, decoded strictly. None when the bytes are not of this charset."""
    try:
        return data.decode(codec)
    except UnicodeError:
        return None


def decode_label(data: bytes, label: str | None) -> str:
    """Short text of a header: the declared charset, else utf-8, else cp1252. No detector: too little to tell."""
    codec = codec_of(label)
    for name in (codec, "utf_8") if codec else ("utf_8",):
        text = decode_with(data, name)
        if text is not None:
            return text
    return data.decode(codec if codec and codec != "ascii" else "cp1252", "replace")


def clean(text: str, flags: set[str]) -> str:
    """Text that Postgres takes as text and jsonb: NUL and lone surrogates become U+FFFD, flagged."""
    if "\0" in text:
        flags.add("nul_replaced")
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        flags.add("nul_replaced")
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _sample(pieces: Pieces) -> bytes:
    """The stretch around the first byte that is not ASCII: plain ASCII tells nothing."""
    head = b""
    for piece in pieces:
        head = bytes(piece[: 1 << 20])
        if not head.isascii():
            break
    first = len(head) - len(head.lstrip(_ASCII))
    start = max(head.rfind(b"\n", 0, first + 1) + 1, first - SAMPLE // 4, 0)
    return head[start : start + SAMPLE]


_ASCII = bytes(range(128))
