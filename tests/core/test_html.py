"""Text out of HTML, by both ways."""

from collections.abc import Callable

import pytest

from ingester.core.html import MAX_HTML, PRETTY_CHARS, TextMaker, strip_tags


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("make", [TextMaker().text, strip_tags])
@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>Hello <b>you</b></p><p>there</p>", ["Hello you", "there"]),
        ("one<br>two<BR/>three", ["one", "two", "three"]),
        ("<div>a<div>b</div></div>", ["a", "b"]),
        ("<table><tr><td>Name</td><td>Ann</td></tr><tr><td>Age</td><td>7</td></tr></table>", ["Name Ann", "Age 7"]),
        ("<html><head><title>T</title><style>p {x}</style></head><body>b<script>s()</script></body></html>", ["b"]),
        ("a<!-- hidden -->b <!-- open", ["ab"]),
        ("1 &lt; 2 &amp;&amp; 3&nbsp;&gt; 2 &eacute;&#233;", ["1 < 2 && 3 > 2 éé"]),
        ("<?xml version='1.0'?>text<?php x ?>", ["text"]),
        ("  much \n\n  blank  ", ["much blank"]),
        ("", []),
    ],
)
def test_the_text_of_html(make: Callable[[str], str], html: str, expected: list[str]) -> None:
    assert lines(make(html)) == expected


def test_what_is_not_displayed_is_no_text() -> None:
    assert lines(TextMaker().text('<div style="display: none">preheader</div><p>hello</p>')) == ["hello"]


def test_a_style_cannot_swell_the_text() -> None:
    assert len(TextMaker().text('<p style="margin-left: 1000000em">x</p>' * 10)) < 1000


def test_tables_cannot_swell_the_text() -> None:
    wide = "<table><tr><td>" + "x" * 60_000 + "</td></tr>" + "<tr><td>y</td></tr>" * 1000 + "</table>"
    assert len(TextMaker().text(wide)) < 70_000


@pytest.mark.parametrize("tag", ["div", "b", "table", "ul", "blockquote", "span"])
def test_nothing_is_lost_by_depth(tag: str) -> None:
    assert TextMaker().text(f"<{tag}>x" * 600).count("x") == 600


def test_large_html_is_read_to_the_end_and_huge_html_is_cut() -> None:
    maker = TextMaker()
    text = maker.text("<p>word</p>" * (PRETTY_CHARS // 8))
    assert text.count("word") == PRETTY_CHARS // 8
    assert not maker.cut
    maker.text("x" * MAX_HTML)
    assert maker.cut


def test_the_bounds_count_for_all_leaves_of_a_mail_together() -> None:
    maker = TextMaker(tags=5)
    assert maker.text("<p>a</p>") == "a"
    assert maker.tags == 3
    assert maker.text("<p>a</p><p>b</p>") == "a\nb"
    assert maker.tags == 3
