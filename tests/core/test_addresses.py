"""Address lists: the address is what a server would answer to, however it is dressed up."""

import pytest

from ingester.core.addresses import parse_addresses


def read(text: str) -> list[tuple[str, str | None]]:
    return [(one.name, one.address) for one in parse_addresses(text)[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b.test", [("", "a@b.test")]),
        ("Ann <a@b>, Bob <c@d>", [("Ann", "a@b"), ("Bob", "c@d")]),
        ('"Doe, John" <j@d>', [("Doe, John", "j@d")]),
        ('"ceo@victim" <attacker@evil>', [("ceo@victim", "attacker@evil")]),
        ("ceo@victim <attacker@evil>", [("ceo@victim", "attacker@evil")]),
        ("O'Brien <o'brien@x>", [("O'Brien", "o'brien@x")]),
        ("o'brien@x", [("", "o'brien@x")]),
        ("'a@b'", [("", "a@b")]),
        ("bounce+a=b.c@x.y", [("", "bounce+a=b.c@x.y")]),
        ('"quoted local"@x', [("", '"quoted local"@x')]),
        ('Q <"q r"@x>', [("Q", '"q r"@x')]),
        ('Q <"a>b"@x>', [("Q", '"a>b"@x')]),
        ('"a\\"b" <c@d>', [('a"b', "c@d")]),
        ("<@relay,@two:user@x>", [("", "user@x")]),
        ("user@x (Real Name)", [("Real Name", "user@x")]),
        ("<user@x> (Real Name)", [("Real Name", "user@x")]),
        ("(one (two)) user (three) @ x . test", [("one (two)", "user@x.test")]),
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
        ("Müller <m@müller.de>", [("Müller", "m@müller.de")]),
        ("用户@例子.测试", [("", "用户@例子.测试")]),
        ("<mailto:a@b>", [("", "a@b")]),
    ],
)
def test_one_or_more_addresses(text: str, expected: list[tuple[str, str | None]]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("undisclosed-recipients:;", []),
        ("Friends: a@b, C <c@d>; e@f", [("", "a@b"), ("C", "c@d"), ("", "e@f")]),
        ("", []),
        ("<>", []),
        (" , ,", []),
        ("a@b;c@d", [("", "a@b"), ("", "c@d")]),
        ("A <a@b> C <c@d>", [("A", "a@b"), ("C", "c@d")]),
        ("Whoever", [("Whoever", None)]),
        ("Name <a@b", [("Name", "a@b")]),
        ('"open <a@b>, c@d', [("open", "a@b"), ("", "c@d")]),
        ("(open <a@b>, c@d", [("open", "a@b"), ("", "c@d")]),
    ],
)
def test_groups_and_broken_lists(text: str, expected: list[tuple[str, str | None]]) -> None:
    assert read(text) == expected


def test_encoded_words_are_decoded_after_the_structure_is_known() -> None:
    assert read("=?utf-8?q?a=40b=2C?= <c@d>") == [("a@b,", "c@d")]
    assert read("=?utf-8?Q?Doe,_John?= <c@d>") == [("Doe, John", "c@d")]
    assert read('"=?utf-8?b?w6k=?=" <c@d>') == [("é", "c@d")]
    assert read("=?utf-8?b?PGF0dGFja2VyQGV2aWw+?= <c@d>") == [("<attacker@evil>", "c@d")]


def test_the_list_is_cut_at_the_limit_and_says_so() -> None:
    found, cut = parse_addresses("a@b, " * 100, max_tokens=30)
    assert cut
    assert 0 < len(found) <= 30
    assert parse_addresses("a@b")[1] is False


def test_brackets_within_comments_count_as_tokens_and_a_run_of_them_as_one() -> None:
    text = f"{'(' * 5000}x{')' * 5000} a@b, (a {'(x)' * 5} b) c@d (name)"
    assert [address for _, address in read(text)] == ["a@b", "c@d"]
    assert read(text)[1][0] == "a (x)(x)(x)(x)(x) b"
    assert parse_addresses(text, max_tokens=40)[1] is False
    found, cut = parse_addresses(f"a@b, ({'()' * 100}) c@d", max_tokens=40)
    assert ([one.address for one in found], cut) == (["a@b"], True)


@pytest.mark.parametrize(
    ("text", "address"),
    [("<a  .b @ c . d>", "a.b@c.d"), ("<x y a@b z>", "a@b"), ("<a b c>", "abc"), ("<mailto: a@b>", "a@b")],
)
def test_blanks_in_an_address_are_none_of_it(text: str, address: str) -> None:
    assert read(text) == [("", address)]
