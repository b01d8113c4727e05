"""Forms, read chunk by chunk into exact bytes: multipart/form-data (RFC 7578) and application/x-www-form-urlencoded.

It knows no provider and no meaning of a field, and does no I/O: whoever reads the body feeds it. Hostile input is
normal: what is no form, or beyond the bounds, is a Problem, and nothing raises. Memory is the values, once, and less
than a chunk; work is linear.
"""

import binascii
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from ingester.web.problem import OVERSIZED, Problem

MAX_FIELDS: Final = 2000
"""Fields of a form: a provider may send one for each recipient."""
MAX_BESIDE: Final = 1 << 20
"""Bytes of all fields beside the largest one."""
_MAX_NAME: Final = 256
_MAX_PART_HEADER: Final = 4 << 10

NO_FORM: Final = Problem(status=400, reason="bad_request", message="The body is not a form that we understand.")
NOT_A_FORM: Final = Problem(
    status=415,
    reason="unsupported",
    message="A form must be multipart/form-data with a boundary, or application/x-www-form-urlencoded.",
)

_MULTIPART: Final = "multipart/form-data"
_URLENCODED: Final = "application/x-www-form-urlencoded"
_PARAMETER: Final = re.compile(r';[ \t]*([A-Za-z*0-9_-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))[ \t]*', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r'\\(["\\])')
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_CUT_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]?\Z")
_NAME_END: Final = re.compile(rb"[=&]")
_BLANKS: Final = b"\r\n\t "
_TO_QUOTED_PRINTABLE: Final = ((b"+", b" "), (b"=", b"%3D"), (b"\n", b"%0A"), (b"\r", b"%0D"), (b"%", b"="))


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The fields of a form in their order, files like all others. A name may come more than once."""

    fields: Mapping[str, tuple[bytes, ...]]

    def first(self, name: str) -> bytes | None:
        """The first value of a field; None where there is none."""
        values = self.fields.get(name)
        return values[0] if values else None


class FormReader:
    """Reads one form. A Problem, once told, is final: nothing is read on."""

    __slots__ = ("_fields", "_form", "_problem")

    def __init__(self, form: "_Multipart | _Urlencoded", fields: "_Fields") -> None:
        self._form = form
        self._fields = fields
        self._problem: Problem | None = None

    @staticmethod
    def start(content_type: str, *, max_bytes: int) -> "FormReader | Problem":
        """A reader for a body of this Content-Type; 415 where it is no form. `max_bytes` bounds the largest field."""
        fields = _Fields(max_bytes)
        kind, parameters = _header_value(content_type)
        if kind == _URLENCODED:
            return FormReader(_Urlencoded(fields), fields)
        boundary = (parameters or {}).get("boundary", "")
        if kind != _MULTIPART or not _BOUNDARY.fullmatch(boundary):
            return NOT_A_FORM
        return FormReader(_Multipart(fields, boundary.encode()), fields)

    def feed(self, chunk: bytes) -> Problem | None:
        """Take the next bytes of the body."""
        if self._problem is None:
            self._problem = self._form.feed(chunk)
        return self._problem

    def close(self) -> Form | Problem:
        """The form, after the last byte."""
        if self._problem is None:
            self._problem = self._form.close()
        return self._problem or self._fields.form()


class _Fields:
    """The fields up to now, within the bounds. Values grow in buffers that are handed over without a copy."""

    __slots__ = ("_current", "_left", "_max_bytes", "_values")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes + MAX_BESIDE
        self._values: list[tuple[str, io.BytesIO]] = []
        self._current = io.BytesIO()

    def begin(self, name: bytes) -> Problem | None:
        """A new field: what is added from here on is its value."""
        if len(self._values) >= MAX_FIELDS or len(name) > _MAX_NAME:
            return OVERSIZED
        self._current = io.BytesIO()
        self._values.append((name.decode("utf-8", "replace"), self._current))
        return None

    def add(self, piece: bytes | memoryview) -> Problem | None:
        """A piece of the current value."""
        self._left -= len(piece)
        if self._left < 0 or self._current.tell() + len(piece) > self._max_bytes:
            self._values.clear()
            self._current = io.BytesIO()
            return OVERSIZED
        self._current.write(piece)
        return None

    def form(self) -> Form:
        """All of them. The buffers are cut to size and shared, not copied."""
        fields: dict[str, list[bytes]] = {}
        for name, value in self._values:
            fields.setdefault(name, []).append(value.getvalue())
        self._values.clear()
        return Form(fields={name: tuple(values) for name, values in fields.items()})


class _State(Enum):
    PREAMBLE = auto()
    HEADER = auto()
    VALUE = auto()
    CLOSED = auto()


class _Multipart:
    """multipart/form-data. Stricter than RFC 2046, 5.1.1, where leniency would let a value say what follows it: around
    the parts stand only blanks. Some providers' boundary is always the same, so that a mail can hold it.
    """

    __slots__ = ("_delimiter", "_fields", "_state", "_tail", "_whole_delimiter")

    def __init__(self, fields: _Fields, boundary: bytes) -> None:
        self._fields = fields
        self._delimiter = b"\r\n--" + boundary
        self._whole_delimiter = re.compile(re.escape(self._delimiter) + rb"(\r\n|--)")
        self._state = _State.PREAMBLE
        self._tail = b"\r\n"  # the first delimiter begins a line as any other

    def feed(self, chunk: bytes) -> Problem | None:
        data, self._tail = self._tail + chunk, b""
        step: int | Problem | None = 0
        while isinstance(step, int):
            if self._state is _State.CLOSED:
                return NO_FORM if data[step:].strip(_BLANKS) else None
            step = self._header(data, step) if self._state is _State.HEADER else self._text(data, step)
        return step

    def close(self) -> Problem | None:
        return None if self._state is _State.CLOSED else NO_FORM

    def _header(self, data: bytes, pos: int) -> int | Problem | None:
        """Read the header of a part. Where it goes on, None when more bytes are needed."""
        end = data.find(b"\r\n\r\n", pos, pos + _MAX_PART_HEADER)
        if end < 0:
            self._tail = data[pos:]
            return NO_FORM if len(self._tail) >= _MAX_PART_HEADER else None
        name = _name_of_part(data[pos:end])
        problem = NO_FORM if name is None else self._fields.begin(name)
        self._state = _State.VALUE
        return problem or end + 4

    def _text(self, data: bytes, pos: int) -> int | Problem | None:
        """Read a value, or the nothing before the first part, up to the next delimiter or the end of the bytes."""
        at = data.find(self._delimiter, pos)
        found = self._whole_delimiter.search(data, at) if at >= 0 else None
        # One byte less than a delimiter with what ends it may be the beginning of one.
        end = found.start() if found else max(pos, len(data) - len(self._delimiter) - 1)
        if self._state is _State.VALUE:
            problem = self._fields.add(memoryview(data)[pos:end])
        else:
            problem = NO_FORM if data[pos:end].strip(_BLANKS) else None
        if found is None:
            self._tail = data[end:]
            return problem
        self._state = _State.HEADER if found[1] == b"\r\n" else _State.CLOSED
        return problem or found.end()


def _name_of_part(header: bytes) -> bytes | None:
    """The field's name (RFC 7578, 4.2); None where there is none, or the value is encoded, which nobody does (4.7)."""
    disposition: str | None = None
    for line in header.decode("latin-1").split("\r\n"):
        field, colon, value = line.partition(":")
        kind = field.lower()
        if not colon or (kind == "content-disposition" and disposition is not None):
            return None
        if kind == "content-disposition":
            disposition = value
        if kind == "content-transfer-encoding" and value.strip().lower() not in ("7bit", "8bit", "binary"):
            return None
    kind, parameters = _header_value(disposition or "")
    name = (parameters or {}).get("name") if kind == "form-data" else None
    return None if name is None else name.encode("latin-1")


def _header_value(text: str) -> tuple[str, dict[str, str] | None]:
    """The word and the parameters of a Content-Type or Content-Disposition; None where they can be read in two ways."""
    kind, semicolon, _ = text.partition(";")
    parameters: dict[str, str] = {}
    pos = len(kind)
    while semicolon and (found := _PARAMETER.match(text, pos)):
        name, quoted, plain = found[1].lower(), found[2], found[3]
        if name in parameters:
            return kind.strip().lower(), None
        parameters[name] = plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
        pos = found.end()
    return kind.strip().lower(), parameters if not text[pos:].strip(" \t;") else None


class _Urlencoded:
    """application/x-www-form-urlencoded (WHATWG URL, 5.1), but that a `%` without two hex digits is no form."""

    __slots__ = ("_fields", "_in_value", "_tail")

    def __init__(self, fields: _Fields) -> None:
        self._fields = fields
        self._in_value = False
        self._tail = b""

    def feed(self, chunk: bytes) -> Problem | None:
        data, self._tail = self._tail + chunk, b""
        step: int | Problem | None = 0
        while isinstance(step, int):
            step = self._value(data, step) if self._in_value else self._name(data, step)
        return step

    def close(self) -> Problem | None:
        if self._in_value:
            return NO_FORM if self._tail else None
        return self._begin(self._tail) if self._tail else None

    def _name(self, data: bytes, pos: int) -> int | Problem | None:
        found = _NAME_END.search(data, pos)
        if found is None:
            self._tail = data[pos:]
            return OVERSIZED if len(self._tail) > 3 * _MAX_NAME else None
        self._in_value = found[0] == b"="
        return self._begin(data[pos : found.start()]) or found.end()

    def _begin(self, encoded: bytes) -> Problem | None:
        name = _decoded(encoded)
        return NO_FORM if name is None else self._fields.begin(name)

    def _value(self, data: bytes, pos: int) -> int | Problem | None:
        end = data.find(b"&", pos)
        cut = _CUT_ESCAPE.search(data, max(pos, len(data) - 2)) if end < 0 else None
        stop = end if end >= 0 else cut.start() if cut else len(data)
        value = _decoded(data[pos:stop])
        problem = NO_FORM if value is None else self._fields.add(value)
        if end < 0:
            self._tail = data[stop:]
            return problem
        self._in_value = False
        return problem or end + 1


def _decoded(encoded: bytes) -> bytes | None:
    """Undo `+` and `%XX`; None where a `%` begins no escape.

    By way of quoted-printable, whose decoder does in one pass of C what would be a step of Python for each escape: a
    body of 75 MB may be nothing but escapes. What means something there and nothing here is escaped before.
    """
    for special, escape in _TO_QUOTED_PRINTABLE:
        encoded = encoded.replace(special, escape)
    decoded = binascii.a2b_qp(encoded)
    # Whatever is no escape leaves more bytes than the one of an escape.
    return decoded if len(decoded) == len(encoded) - 2 * encoded.count(b"=") else None
