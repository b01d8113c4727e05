"""How the lines of a mail end: the one question that every octet of it must answer. Pure."""

from io import IncrementalNewlineDecoder
from typing import Final

_PIECE: Final = 64 << 10


def only_crlf(data: bytes, *, whole: bool) -> bool:
    """Whether no line ends but by CRLF. A CR at the very end is undecided, unless `data` is the `whole`.

    The decoder that text files are read with notes what it sees in one pass; counting or a regex needs two or three,
    each as long. Pieces: so that there is no second mail in memory, and no thread is held by a large one.
    """
    decoder = IncrementalNewlineDecoder(None, translate=False)
    view = memoryview(data)
    for at in range(0, len(data), _PIECE):
        decoder.decode(str(view[at : at + _PIECE], "latin-1"))
    if whole:
        decoder.decode("", final=True)
    return decoder.newlines in (None, "\r\n")
