"""The hash of everything after a mail's header block, made once: the claim key wants it, and so does DKIM."""

from hashlib import sha256


class HashedBody:
    """SHA-256 of a body from `start` to `end`, which leaves out the line ends at the very end of the mail."""

    __slots__ = ("_hash", "end", "start")

    def __init__(self, raw: bytes, start: int) -> None:
        end = len(raw)
        while end > start and raw[end - 1] in b"\r\n":
            end -= 1
        self.start = start
        self.end = end
        self._hash = sha256(memoryview(raw)[start:end])

    def digest(self) -> bytes:
        """Of the body without line ends at its end."""
        return self._hash.digest()

    def digest_with_line_end(self) -> bytes:
        """Of the same with one CRLF behind it."""
        ended = self._hash.copy()
        ended.update(b"\r\n")
        return ended.digest()
