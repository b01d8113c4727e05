"""format=flowed: an encoder written from RFC 3676 and its undoing agree; the RFC's own rules; the cost."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingester.core.flowed import MAX_LINES, is_flowed, join_flowed
from ingester.core.message import Message, digest
from ingester.core.mime import Bounds
from ingester.core.params import parse_params
from tests.cost import assert_cheap

MB = 1 << 20
FLOWED = parse_params(b"text/plain; format=flowed")
DELSP = parse_params(b"text/plain; format=flowed; delsp=yes")

Paragraph = tuple[int, str]
"""Its quote depth and its words."""
WORDS = st.lists(st.sampled_from(["a", "bcd", ">", ">>x", "From", "-", "--", "ü", "  ", "e f"]), max_size=12)
PARAGRAPHS = st.lists(st.tuples(st.integers(0, 3), WORDS.map(" ".join).map(lambda text: text.rstrip(" "))), max_size=8)


def line_of(depth: int, words: str) -> str:
    """RFC 3676, 4.4 and 4.5: quote marks, then stuffing; always behind marks, and where the words ask for it."""
    stuffed = depth > 0 or words.startswith((" ", ">", "From "))
    return ">" * depth + (" " if stuffed and (words or not depth) else "") + words


def encoded(paragraphs: list[Paragraph], rng: Random, *, delsp: bool) -> str:
    """RFC 3676, 4.2: a paragraph is cut after any of its blanks; with DelSp anywhere, one blank being added."""
    lines: list[str] = []
    for depth, text in paragraphs:
        rest = text
        while rest:
            cuts = range(1, len(rest)) if delsp else [at + 1 for at, char in enumerate(rest[:-1]) if char == " "]
            # Cut there, "--" and a blank would be taken for a signature's separator.
            at = rng.choice([one for one in cuts if rest[:one].rstrip(" ") != "--"] or [len(rest)])
            if at == len(rest) or rng.random() < 0.3:
                break
            lines.append(line_of(depth, rest[:at] + (" " if delsp else "")))
            rest = rest[at:]
        lines.append(line_of(depth, rest))
    return "\n".join(lines)


def shown(paragraphs: list[Paragraph]) -> str:
    return "\n".join(">" * depth + (" " if depth and text else "") + text for depth, text in paragraphs)


@given(PARAGRAPHS, st.integers(0, 2**32), st.booleans(), st.sampled_from(["", "\n", "\n\n"]))
def test_what_an_encoder_cut_is_whole_again(paragraphs: list[Paragraph], seed: int, delsp: bool, end: str) -> None:
    text = encoded(paragraphs, Random(seed), delsp=delsp) + end
    assert join_flowed(text, DELSP if delsp else FLOWED) == shown(paragraphs) + end


@given(st.text("> -\nab", max_size=80))
def test_nothing_but_blanks_and_marks_is_ever_lost(text: str) -> None:
    for params in (FLOWED, DELSP):
        out = join_flowed(text, params)
        assert len(out) <= len(text)
        kept = "".join(char for char in out if char in "ab-")
        assert kept == "".join(char for char in text if char in "ab-")


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("one \ntwo\nthree\n", "one two\nthree\n"),
        ("one \n> two \n>> three \n> four\nfive", "one \n> two \n>> three \n> four\nfive"),
        ("> one \n> two\n>three \n>four", "> one two\n>three four"),
        ("text \n-- \nAnn \nCo", "text \n-- \nAnn Co"),
        ("> text \n> -- \n> Ann", "> text \n> -- \n> Ann"),
        ("one \n\ntwo", "one \n\ntwo"),
        ("> one \n>\n> two", "> one \n>\n> two"),
        ("  two blanks\n From here\n > no quote", " two blanks\nFrom here\n> no quote"),
        ("one \n two", "one two"),
        ("one \n", "one \n"),
        ("", ""),
        ("\n", "\n"),
    ],
)
def test_the_rules(text: str, joined: str) -> None:
    assert join_flowed(text, FLOWED) == joined


def test_delsp_takes_the_blank_away() -> None:
    assert join_flowed("日本 \n語\n-- \nx \n", DELSP) == "日本語\n-- \nx \n"


@pytest.mark.parametrize(
    ("value", "flows"),
    [
        (b"text/plain; format=flowed", True),
        (b'Text/Plain; charset=utf-8; FORMAT="Flowed"', True),
        (b"text/plain", False),
        (b"text/plain; format=fixed", False),
        (b"text/plain; delsp=yes", False),
        (b"text/html; format=flowed", False),
    ],
)
def test_only_the_parameter_says_so(value: bytes, flows: bool) -> None:
    params = parse_params(value)
    assert is_flowed(params.main, params) is flows


def mail(body: bytes, head: bytes = b"Content-Type: text/plain; format=flowed; charset=utf-8\r\n") -> Message:
    return digest(head + b"\r\n" + body, Bounds())


BODY = (
    b"This is what I \r\nhave to say.\r\n\r\nOn Monday, Bob <bob@demo.test> wrote:\r\n> and this \r\n> is old\r\n"
    b"\r\n-- \r\nAnn\r\n"
)


def test_the_texts_are_joined_and_the_part_is_not() -> None:
    message = mail(BODY)
    assert message.body_text.startswith("This is what I have to say.\n\nOn Monday")
    assert "> and this is old\n\n-- \nAnn\n" in message.body_text
    assert message.reply_text == "This is what I have to say."
    (part,) = message.parts
    assert (part.decoded_size, part.length) == (len(BODY), len(BODY))


def test_other_texts_stay_as_they_are() -> None:
    assert mail(BODY, b"").body_text == BODY.decode().replace("\r\n", "\n")
    two = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; format=flowed\r\n\r\n"
        b"one \r\ntwo\r\n--b\r\nContent-Type: text/plain\r\n\r\none \r\ntwo\r\n--b--\r\n"
    )
    assert digest(two, Bounds()).body_text == "one two\none \ntwo"


def test_what_follows_the_last_line_that_is_read_stands_as_it_is() -> None:
    text = "a \n" * MAX_LINES + "b \nc\n"
    assert join_flowed(text, FLOWED) == "a " * MAX_LINES + "\nb \nc\n"


@pytest.mark.parametrize("unit", ["\n", " \n", ">\n", ">", "> ", " ", "a \n", "> a \n", "-- \n", "a" * 70 + " \n"])
@pytest.mark.parametrize("params", [FLOWED, DELSP])
def test_a_hostile_text_of_a_megabyte_is_cheap(unit: str, params: object) -> None:
    text = (unit * MB)[:MB]
    assert_cheap(lambda: join_flowed(text, DELSP if params is DELSP else FLOWED), seconds=0.2)
