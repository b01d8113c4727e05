"""What a provider says beside a mail: any JSON within bounds, and nothing that Postgres cannot keep. Pure."""

from typing import Any, Final

import msgspec

from ingester.web.body import unprocessable
from ingester.web.problem import Problem

MAX_BYTES: Final = 64 << 10
MAX_DEPTH: Final = 20
_FIELD: Final = "metadata"


def read_metadata(text: bytes | msgspec.Raw) -> dict[str, Any] | Problem:
    """The object that stands in a body, as JSON text."""
    if len(bytes(text)) > MAX_BYTES:
        return unprocessable(_FIELD, f"No more than {MAX_BYTES} bytes are kept.")
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return unprocessable(_FIELD, "This is not JSON in UTF-8.")
    if value is None:
        return {}
    if not isinstance(value, dict):
        return unprocessable(_FIELD, "Expected `object`.")
    return checked(value)


def checked(value: dict[str, Any]) -> dict[str, Any] | Problem:
    """The same for a value that a form was made into: NUL and lone surrogates are no text for Postgres."""
    fault = _fault(value)
    if fault is not None:
        return unprocessable(_FIELD, fault)
    try:
        size = len(msgspec.json.encode(value))
    except (UnicodeEncodeError, TypeError, ValueError):
        return unprocessable(_FIELD, "This is not JSON in UTF-8.")
    return value if size <= MAX_BYTES else unprocessable(_FIELD, f"No more than {MAX_BYTES} bytes are kept.")


def _fault(value: object) -> str | None:
    """What cannot be kept of a value: level by level, so that depth costs no stack."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            return f"No more than {MAX_DEPTH} levels are kept."
        texts = [one for one in level if isinstance(one, str)]
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                texts += one.keys()
                below += one.values()
            elif isinstance(one, list):
                below += one
        if any("\0" in text for text in texts):
            return "NUL is not taken."
        level, depth = below, depth + 1
    return None
