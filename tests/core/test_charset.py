"""Charsets: the declared one where it holds, and some text in any case."""

import pytest
from charset_normalizer import CharsetMatches

from ingester.core import charset
from ingester.core.charset import MAX_DETECTIONS, SAMPLE, Ladder, clean, codec_of, decode_label


def read(ladder: Ladder, data: bytes, label: str | None) -> str:
    return ladder.read(lambda: (data,), label)


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("latin1", "cp1252"),
        ("ISO-8859-1", "cp1252"),
        ("Windows-1252", "cp1252"),
        ("iso-8859-9", "cp1254"),
        ("gb2312", "gb18030"),
        ("GBK", "gb18030"),
        ("ks_c_5601-1987", "cp949"),
        ("euc-kr", "cp949"),
        ("Shift_JIS", "cp932"),
        ("big5", "big5hkscs"),
        ("iso-8859-8-i", "iso8859_8"),
        ("x-mac-cyrillic", "mac_cyrillic"),
        ("koi8-r", "koi8_r"),
        ("tis-620", "cp874"),
        ('"utf-8"', "utf_8"),
        ("UTF8", "utf_8"),
        ("us-ascii", "ascii"),
    ],
)
def test_labels_mean_what_the_web_takes_them_for(label: str, codec: str) -> None:
    assert codec_of(label) == codec


@pytest.mark.parametrize(
    "label",
    [None, "", "rot13", "base64", "zlib_codec", "idna", "punycode", "unicode_escape", "x-unknown", "../../x", "a" * 99],
)
def test_a_label_that_is_no_charset_is_nothing(label: str | None) -> None:
    assert codec_of(label) is None


@pytest.mark.parametrize(
    ("text", "encoding", "label"),
    [
        ("grüße", "latin-1", "iso-8859-1"),
        ("“smart”", "cp1252", "iso-8859-1"),
        ("привет, как дела", "koi8-r", "koi8-r"),
        ("日本語のメール", "iso2022_jp", "iso-2022-jp"),
        ("日本語①", "cp932", "shift_jis"),
        ("你好，世界", "gb18030", "gb2312"),  # noqa: RUF001
        ("안녕하세요", "cp949", "ks_c_5601-1987"),
        ("grüße", "utf-8", "us-ascii"),
        ("grüße", "utf-8", None),
        ("grüße", "utf-8", "no-such-charset"),
        ("Grüße", "utf-7", "utf-7"),
        ("Grüße", "utf-16", "utf-16"),
    ],
)
def test_the_ladder_reads_what_was_meant(text: str, encoding: str, label: str | None) -> None:
    ladder = Ladder()
    assert read(ladder, text.encode(encoding), label) == text
    assert ladder.flags == set()


def test_a_large_text_is_read_in_steps_to_the_same_effect() -> None:
    text = "日本語のメール\n" * 100_000
    assert read(Ladder(), text.encode("cp932"), "shift_jis") == text


def test_one_bad_byte_does_not_change_the_charset_of_a_long_text() -> None:
    data = "grüße ".encode() * 100 + b"\xff"
    ladder = Ladder()
    assert read(ladder, data, "utf-8") == "grüße " * 100 + "\ufffd"
    assert ladder.flags == {"charset_guessed"}


def test_an_undeclared_legacy_charset_is_detected() -> None:
    text = "Здравствуйте! Отправляю вам документы, о которых мы говорили вчера по телефону. " * 5  # noqa: RUF001
    assert read(Ladder(), text.encode("cp1251"), None) == text


ENGLISH = "Please find attached the report that we talked about. Let me know what you think.\n"
LEGACY = {
    "koi8-r": "Здравствуйте! Отправляю вам документы, о которых мы говорили вчера по телефону. ",  # noqa: RUF001
    "cp1251": "Здравствуйте! Отправляю вам документы, о которых мы говорили вчера по телефону. ",  # noqa: RUF001
    "cp1250": "Dobrý den, posílám vám požadované dokumenty. Prosím o potvrzení, že vše je v pořádku. Jiří Dvořák. ",
    "cp1253": "Καλημέρα σας, σας στέλνω τα έγγραφα που ζητήσατε. Παρακαλώ επιβεβαιώστε την παραλαβή. ",
    "cp932": "お世話になっております。先日お話しした資料を送付いたしますので、ご確認をお願いいたします。",
    "euc_jp": "お世話になっております。先日お話しした資料を送付いたしますので、ご確認をお願いいたします。",
    "gb18030": "您好，附件是我们上周讨论过的报告，请查收并告诉我您的意见。谢谢！祝工作顺利。",  # noqa: RUF001
    "big5": "您好，附件是我們上週討論過的報告，請查收並告訴我您的意見。謝謝！祝工作順利。",  # noqa: RUF001
    "cp949": "안녕하세요. 지난주에 이야기한 보고서를 첨부합니다. 확인 후 의견을 알려 주시기 바랍니다. ",
}
KATAKANA = "ソフトウェアのインストールとアップデートについて、メールでサポートセンターへお問い合わせください。"


@pytest.mark.parametrize("label", [None, "us-ascii", "utf-8", "no-such-charset"])
@pytest.mark.parametrize("times", [1, 30])
@pytest.mark.parametrize(
    ("stray", "char"),
    [
        (b"\x92", "’"),  # noqa: RUF001
        (b"\xff", "ÿ"),
        (b"\xc3", "Ã"),
        (b"\x81", "\ufffd"),
        (b"\xe2\x80", "â€"),
    ],
)
def test_a_stray_byte_does_not_change_the_ascii_around_it(
    stray: bytes, char: str, times: int, label: str | None
) -> None:
    text = ENGLISH * times
    ladder = Ladder()
    found = read(ladder, text[:40].encode() + stray + text[40:].encode(), label)
    assert found in (text[:40] + char + text[40:], text[:40] + "\ufffd" + text[40:])
    assert label == "utf-8" or char in found
    assert ladder.flags == {"charset_guessed"}


def test_a_stray_byte_beside_utf_8_is_read_apart() -> None:
    assert read(Ladder(), (ENGLISH * 2).encode() + "é ".encode() + b"\x92", None) == ENGLISH * 2 + "é ’"  # noqa: RUF001


@pytest.mark.parametrize("times", [1, 10])
@pytest.mark.parametrize("codec", LEGACY)
def test_a_text_in_a_legacy_charset_without_label_is_read(codec: str, times: int) -> None:
    assert read(Ladder(), (LEGACY[codec] * times).encode(codec), None) == LEGACY[codec] * times
    mixed = ENGLISH * 3 + LEGACY[codec] * 2
    assert read(Ladder(), mixed.encode(codec), None) == mixed


def test_letters_that_are_half_ascii_are_read() -> None:
    assert read(Ladder(), KATAKANA.encode("cp932"), None) == KATAKANA


@pytest.mark.parametrize("byte", [b"\x81", b"\xa1", b"\xe9", b"\xf1", b"\xfc"])
def test_accents_that_stand_alone_are_never_read_as_halves_of_a_letter(byte: bytes) -> None:
    data = b"caf" + byte + b"t gr" + byte + b"n pr" + byte + b"s na" + byte + b"f "
    for times in (1, 5, 50):
        text = read(Ladder(), data * times, None)
        assert len(text) == times * len(data)
        assert text.encode("ascii", "ignore") == data.translate(None, byte) * times


def test_the_detector_is_asked_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    samples: list[bytes] = []

    def detect(data: bytes, **_: object) -> CharsetMatches:
        samples.append(data)
        return CharsetMatches()

    monkeypatch.setattr(charset, "from_bytes", detect)
    ladder = Ladder()
    for _ in range(3 * MAX_DETECTIONS):
        assert read(ladder, b"a" * 9999 + b"\xe9\xff\x80\x81", None).endswith("éÿ€\ufffd")
    assert len(samples) == MAX_DETECTIONS
    assert all(b"\xe9" in sample and len(sample) <= SAMPLE for sample in samples)


@pytest.mark.parametrize(
    "label", [None, "utf-8", "utf-16", "utf-7", "iso-2022-jp", "gb2312", "shift_jis", "hz", "big5"]
)
@pytest.mark.parametrize("data", [b"", b"\xff", b"\x1b$B\xff", b"+AAA-\xff", bytes(range(256)), b"\xed\xa0\x80", b"~{"])
def test_any_bytes_become_some_text(label: str | None, data: bytes) -> None:
    flags: set[str] = set()
    text = read(Ladder(), data, label) + clean(decode_label(data, label), flags)
    assert "\0" not in text
    text.encode("utf-8")


def test_line_ends_become_line_feeds_wherever_the_pieces_are_cut() -> None:
    pieces = [b"a\r", b"\nb\r\n", b"\r", b"c\r", b"", b"\n\r"]
    assert Ladder().read(lambda: pieces, None) == "a\nb\n\rc\n\r"


def test_a_character_may_be_cut_between_pieces() -> None:
    assert Ladder().read(lambda: ["é".encode()[:1], "é".encode()[1:]], None) == "é"


def test_nul_and_lone_surrogates_are_replaced_and_flagged() -> None:
    flags: set[str] = set()
    assert clean("a\0b\ud800c😀", flags) == "a\ufffdb\ufffdc😀"
    assert flags == {"nul_replaced"}
    assert clean("fine 😀", set()) == "fine 😀"
