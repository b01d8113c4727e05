"""Names as DNS carries them (RFC 1035, 3.1). Pure. There are no escapes here: a label with a dot in it has no text."""

from collections.abc import Sequence

MAX_NAME = 253
"""Characters of a name without its last dot: 255 octets on the wire (RFC 1035, 2.3.4)."""
MAX_LABEL = 63


def canonical(name: str) -> str | None:
    """The name in lower case, without a dot at the end; None when nobody can ask for it (RFC 1035, 2.3.4)."""
    if len(name) > MAX_NAME + 1 or not name.isascii():
        return None
    bare = name.removesuffix(".").lower()
    labels = bare.split(".")
    # Most names are shorter than one label may be.
    fits = len(bare) <= MAX_LABEL or (len(bare) <= MAX_NAME and len(max(labels, key=len)) <= MAX_LABEL)
    return bare if fits and all(labels) else None


def wire(canonical_name: str) -> bytes:
    """A canonical name in its uncompressed wire form."""
    labels = canonical_name.encode("ascii").split(b".")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def text(labels: Sequence[bytes]) -> str | None:
    """The labels as a name, in their own case; the root is "". None when text cannot say it."""
    stated = [label for label in labels if label]
    if any(b"." in label or not label.isascii() for label in stated):
        return None
    return b".".join(stated).decode("ascii")
