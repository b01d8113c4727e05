"""Encoded-words and folded header text."""

import pytest

from ingester.core.words import decode_words, header_text, unfold


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"=?utf-8?q?a_b?= =?utf-8?q?c?=", "a bc"),
        (b"=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"),
        (b"x =?utf-8?b?w6k=?= y", "x é y"),
        (b"=?UTF-8?Q?=F0=9F=98?=\r\n =?UTF-8?Q?=80?=", "😀"),
        (b"=?us-ascii?q?=41?==?utf-8?q?=42?=", "AB"),
        (b"=?utf-8*en?q?x?=", "x"),
        (b"=?iso-2022-jp?B?GyRCJTUlcyVXJWsbKEI=?=", "サンプル"),
        (b"=?gb2312?B?xOO6w6Os?=", "你好，"),  # noqa: RUF001
        (b"=?windows-1252?q?=93x=94?=", "“x”"),
        (b"=?nonsense?q?=e9?=", "é"),
        (b"=?UTF-8?B?SGVsbG8?=", "Hello"),
        (b"=?utf-8?q?what?!?=", "what?!"),
        (b"=?utf-8?q?a b c?=", "a b c"),
        (b"=?utf-8?q?cut off", "=?utf-8?q?cut off"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
    ],
)
def test_encoded_words(value: bytes, text: str) -> None:
    assert header_text(value) == text


def test_raw_8bit_is_utf8_then_the_declared_charset_then_cp1252() -> None:
    assert header_text("café".encode()) == "café"
    assert header_text("привет".encode("cp1251"), "windows-1251") == "привет"
    assert header_text(b"caf\xe9") == "café"
    assert header_text(b"caf\xe9", "utf-8") == "café"


def test_unfolding_takes_the_line_end_and_keeps_the_blank() -> None:
    assert unfold(b" a\r\n b\n\tc\r") == b"a b\tc"


def test_text_without_words_is_untouched() -> None:
    assert decode_words("a =? b ?= c") == "a =? b ?= c"
