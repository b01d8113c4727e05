# ruff: noqa: E501  (HTML as clients write it)
"""The reply itself: nothing new is lost, what is quoted goes, what only looks quoted stays."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingester.core.html import TextMaker
from ingester.core.message import digest
from ingester.core.mime import Bounds
from ingester.core.reply import MAX_JUDGED, reply_text
from tests.core.replies import FRIENDS, LANGUAGES, REPLIES, Language, Reply
from tests.cost import assert_cheap

MB = 1 << 20


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(line in rest for line in part)


def test_there_are_enough_cases() -> None:
    assert len(REPLIES) >= 150
    assert len(FRIENDS) >= 30
    assert len({one.code for one in LANGUAGES}) == 12


def test_no_new_text_is_cut_and_quotes_are_gone() -> None:
    found = {reply.name: (reply_text(reply.body, None), reply.new) for reply in REPLIES}
    cut = [name for name, (text, new) in found.items() if not is_subsequence(new.split("\n"), text.split("\n"))]
    left = [name for name, (text, new) in found.items() if text != new]
    assert cut == []
    assert len(left) <= len(REPLIES) * 0.05, left


@pytest.mark.parametrize("friend", FRIENDS, ids=lambda one: one.name)
def test_a_false_friend_is_untouched(friend: Reply) -> None:
    assert reply_text(friend.body, None) == friend.new


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", ""),
        (" \n", ""),
        ("> only quoted\n> lines", "> only quoted\n> lines"),
        ("Sent from my iPhone", "Sent from my iPhone"),
        ("Sent from my iPhone\n\n> On May 3, 2021, at 3:14 PM, A <a@a.test> wrote:\n> \n> q", "Sent from my iPhone"),
        ("Yes\r\n\r\n> On May 3, 2021, at 3:14 PM, A <a@a.test> wrote:\r\n> q\r\n", "Yes"),
        ("a\n> q\n> r\nb", "a\nb"),
        ("> Coming?\nYes", "Yes"),
        ("Ann Archer wrote:\n> Coming?\nYes", "Yes"),
        (
            "On the other hand he wrote:\n> Coming?\n> Or not?\nYes",
            "On the other hand he wrote:\n> Coming?\n> Or not?\nYes",
        ),
        ("A wrote:\n> q\n> r\n\nYes, by\n\n>50%\n\nof us.", "Yes, by\n\n>50%\n\nof us."),
        ("Yes\n\nBegin forwarded message:\n\n> From: A\n> q", "Yes"),
    ],
)
def test_small_ones(body: str, expected: str) -> None:
    assert reply_text(body, None) == expected


ATTR = "On Mon, May 3, 2021 at 3:14 PM A &lt;a@a.test&gt; wrote:<br>"
HTML = {
    "gmail": f'<div dir="ltr">{{0}}</div><br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">{ATTR}</div>'
    '<blockquote class="gmail_quote" style="margin:0">{1}</blockquote></div>',
    "old gmail": f'<div>{{0}}</div><div class="gmail_extra"><div class="gmail_quote">{ATTR}<blockquote class="gmail_quote">'
    "{1}</blockquote></div></div>",
    "gmail forward": '<div>{0}</div><div class="gmail_quote"><div class="gmail_attr">---------- Forwarded message ---------'
    "<br>From: A</div><br>{1}</div>",
    "gmail signature": '<div>{0}</div><div><br></div><div class="gmail_signature">Bob<br>B GmbH</div>',
    "apple": "{0}<div><br><blockquote type=\"cite\"><div>On 3 May 2021, at 15:14, A wrote:</div><div>{1}</div></blockquote></div>",
    "thunderbird": '<p>{0}</p><div class="moz-cite-prefix">On 5/3/21 3:14 PM, A wrote:<br></div><blockquote type="cite" '
    'cite="mid:x">{1}<blockquote>older</blockquote></blockquote>',
    "outlook": '<div class="WordSection1"><p>{0}</p><div><div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt '
    '0in 0in 0in"><p><b>From:</b> A<br><b>Sent:</b> today</p></div></div><p>{1}</p></div>',
    "outlook web": '<div>{0}</div><div id="appendonsend"></div><hr style="width:98%" tabindex="-1"><div id="divRplyFwdMsg" '
    'dir="ltr"><b>From:</b> A<br></div><div>{1}</div>',
    "yahoo": '<div><div>{0}</div><div id="yahoo_quoted_1" class="yahoo_quoted"><div>On Monday A wrote:</div><div>{1}</div></div></div>',
    "proton": '<div>{0}</div><div class="protonmail_quote">On Monday A wrote:<br><blockquote class="protonmail_quote" '
    'type="cite">{1}</blockquote></div>',
    "gmx": '<div>{0}<div name="quote" style="margin:10px"><div><b>Von:</b> A</div><div name="quoted-content">{1}</div></div></div>',
    "below": f'<div class="gmail_quote">{ATTR}<blockquote class="gmail_quote">{{1}}</blockquote></div><div>{{0}}</div>',
}  # fmt: skip


@pytest.mark.parametrize("name", HTML)
@pytest.mark.parametrize("language", LANGUAGES, ids=lambda one: one.code)
def test_html_is_cut_where_its_client_marks_the_quotation(name: str, language: Language) -> None:
    answer, quoted = language.answer.split("\n")[2], language.quoted.split("\n")[1]
    html = HTML[name].format(answer, quoted)
    body = TextMaker().text(html)
    assert reply_text(body, html).strip() == answer
    raw = b"Content-Type: text/html; charset=utf-8\r\n\r\n" + html.encode()
    message = digest(raw, Bounds())
    assert message.reply_text.strip() == answer
    assert "gmail_signature" in html or quoted in message.body_text


def test_html_with_answers_between_quotations() -> None:
    html = (
        f'<div class="gmail_quote">{ATTR}<blockquote class="gmail_quote"><div>one?</div></blockquote><div>yes</div>'
        '<blockquote class="gmail_quote">two?<blockquote>deep</blockquote></blockquote><div>no</div></div>'
    )
    found = reply_text(TextMaker().text(html), html)
    assert [line.strip() for line in found.split("\n") if line.strip()] == ["yes", "no"]


@pytest.mark.parametrize(
    "html", ["<blockquote>my own</blockquote><p>words</p>", "<div class=quotes>a</div>", "<p>x", "<<div"]
)
def test_html_without_marks_is_untouched(html: str) -> None:
    body = TextMaker().text(html)
    assert reply_text(body, html) == body.strip("\n")


PIECES = st.sampled_from(
    [reply.body for reply in REPLIES[::9]]
    + ["\n", "\r\n", "\r", ">", "> ", "-- \n", "--\n", "wrote:", "On 3 May 2021 15:14", "<a@b.test>:", "\ue0a5\n", "\ue0a6\n", "\x0b", "\u2028"]
    + ["<div class=gmail_quote>", "<blockquote type=cite>", "</blockquote>", "</div>", "<p>", "From: a\n", "-----Original Message-----\n"]
)  # fmt: skip
BODIES = st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=12).map("".join)


@settings(max_examples=300, deadline=None)
@given(BODIES, st.booleans())
def test_any_body_gives_some_of_its_lines(body: str, as_html: bool) -> None:
    text = TextMaker().text(body) if as_html else body
    found = reply_text(text, body if as_html else None)
    assert bool(found.strip()) == bool(text.strip())
    assert is_subsequence(found.splitlines(), text.splitlines())


def fill(unit: str) -> str:
    return (unit * (MB // len(unit) + 1))[:MB]


@pytest.mark.parametrize(
    "unit",
    [
        "\n", ">\n", "> x\n", ">\nx\n", "> a > b\n\nx\n", "On 3 May 2021 15:14 Ann <a@b.test> w:\n", "--\n\n", "-- \n> x\n",
        "On 3 May 2021 at 15:14 the big man\n" * 3 + "wrote:\n", "From: x\n", "From: a@b\nTo: c\n", "a@", "<", "wrote:\n",
        "Sent from my iPhone\n> x\n", "_\n", "1 2021 a@b:\n", "> a:\n\n1\n\n", "www <a@\n>:\n", "\ue0a5\n", "(a@b)[",
        "9" * 400 + ":\n", "sent from " * 18 + "\n", "> " * 400 + "\n", "a b " * 100 + " 2021 1:11 a@b wrote:\n",
    ],
)  # fmt: skip
def test_a_megabyte_of_text_is_cheap(unit: str) -> None:
    body = fill(unit)
    found = assert_cheap(lambda: reply_text(body, None), seconds=0.2)
    assert bool(found.strip()) == bool(body.strip())


@pytest.mark.parametrize("size", [128 << 10, MB])
@pytest.mark.parametrize("start", ["", "Yes<div class=gmail_attr>x</div>"])
@pytest.mark.parametrize(
    "unit",
    [
        "<div>", "<div class=gmail_quote>", "<blockquote type=cite>", "<blockquote type=cite>x</blockquote>y", "<!--", "<a b=",
        "<p a>x", "<div class='" + "gmail_q" * 100 + "'>", "<div style='" + "border:none;" * 60 + "'>", "<div ", "<", "<li>x",
        "<div class=moz-signature>x</div>y", "<div class=x>x</div><p>On 3 May 2021 at 15:14 the big man wrote:</p>",
        "<div id='" + "a-" * 400 + "'>", "<div class=gmail_attr>" + "<b>" * 20,
    ],
)  # fmt: skip
def test_a_megabyte_of_html_is_cheap(unit: str, start: str, size: int) -> None:
    html = (start + fill(unit))[:size]
    body = TextMaker().text(html)
    found = assert_cheap(lambda: reply_text(body, html), seconds=0.2)
    assert bool(found.strip()) == bool(body.strip())


def test_a_text_that_nobody_has_typed_is_kept_whole() -> None:
    text = "> quoted\n" * (MAX_JUDGED // 9 + 1)
    assert reply_text(text, None) is text
    assert reply_text(" " * (MAX_JUDGED + 1), None) == ""
