"""Text that was sent as format=flowed (RFC 3676): the lines that its sender meant. Linear; nothing raises."""

from ingester.core.params import Params

MAX_LINES = 100_000
"""Lines of a text that are joined: what follows stands as it is. A megabyte of lines of 72 characters has 15,000."""
_SIGNATURE = "-- "


def is_flowed(content_type: str, params: Params) -> bool:
    """Whether a leaf says of itself that its lines flow (RFC 3676, 4): only plain text can."""
    return content_type == "text/plain" and _word(params, "format") == "flowed"


def join_flowed(text: str, params: Params) -> str:
    """The text with its soft line breaks joined and its space-stuffing removed. It never grows.

    Lines of different quote depth never join, and a signature's separator is a line of its own (RFC 3676, 4.3 and 4.5).
    A blank line ends a paragraph, too: the RFC would let it join what flows, and no reader wants to lose it. Quoted
    lines keep the blank after their marks, for people.
    """
    delete = _word(params, "delsp") == "yes"
    lines = text.removesuffix("\n").split("\n", MAX_LINES)
    rest = lines.pop() if len(lines) > MAX_LINES else None
    out: list[str] = []
    flows = -1  # the quote depth of the paragraph that goes on, if one does
    for line in lines:
        mark = line[:1]
        if mark == ">":
            words = line.lstrip(">")
            depth = len(line) - len(words)
            words = words.removeprefix(" ")
        else:
            words, depth = line[1:] if mark == " " else line, 0
        own = words == _SIGNATURE
        if depth == flows and words and not own:
            if delete:
                out[-1] = out[-1][:-1]
            out.append(words)
        else:
            out += ("\n", line if depth else words)
        flows = depth if words[-1:] == " " and not own else -1
    if rest is not None:
        out += ("\n", rest)
    if text.endswith("\n"):
        out.append("\n")
    return "".join(out[1:])


def _word(params: Params, name: str) -> str:
    return (params.token(name) or "").strip().lower()
