"""Which leaves are the body, what they say, and the role and name of the other parts."""

from zlib import crc32

import pytest

from ingester.core.message import Message, digest
from ingester.core.mime import Bounds


def part(content_type: str, body: str = "", *fields: str) -> str:
    return "\r\n".join([f"Content-Type: {content_type}", *fields, "", body])


def multi(subtype: str, *parts: str, extra: str = "") -> str:
    boundary = f"b{crc32(repr(parts).encode()):08x}"
    lines = [f"Content-Type: multipart/{subtype}; boundary={boundary}{extra}", ""]
    for one in parts:
        lines += [f"--{boundary}", one]
    return "\r\n".join([*lines, f"--{boundary}--", ""])


def read(mail: str) -> Message:
    return digest(mail.encode(), Bounds())


def roles(message: Message) -> list[tuple[str, str]]:
    return [(one.content_type, one.role) for one in message.parts]


PLAIN = part("text/plain", "plain")
HTML = part("text/html", "<p>html</p>")
IMAGE = part("image/png", "x", "Content-ID: <i@x>", 'Content-Disposition: inline; filename="i.png"')


def test_an_alternative_gives_text_and_html() -> None:
    message = read(multi("alternative", PLAIN, HTML))
    assert (message.body_text, message.body_html) == ("plain", "<p>html</p>")
    assert roles(message) == [("text/plain", "body"), ("text/html", "body")]


def test_the_last_alternative_that_is_understood_wins_for_each_type() -> None:
    odd = part("text/x-amp-html", "amp")
    message = read(
        multi("alternative", part("text/plain", "first"), PLAIN, HTML, part("text/html", "<p>last</p>"), odd)
    )
    assert (message.body_text, message.body_html) == ("plain", "<p>last</p>")
    assert [role for _, role in roles(message)] == ["attachment", "body", "attachment", "body", "attachment"]


def test_text_is_made_of_html_where_there_is_no_text() -> None:
    message = read(multi("mixed", part("text/html", "<p>Hello</p><p>you</p>")))
    assert message.body_text.split() == ["Hello", "you"]
    assert message.body_html == "<p>Hello</p><p>you</p>"


def test_inline_text_outside_an_alternative_is_joined_in_order() -> None:
    message = read(multi("mixed", multi("alternative", PLAIN, HTML), IMAGE, part("text/plain", "footer & more")))
    assert message.body_text == "plain\nfooter & more"
    assert message.body_html == "<p>html</p>\n<pre>footer &amp; more</pre>"
    assert [role for _, role in roles(message)] == ["body", "body", "attachment", "body"]


def test_apple_mail_puts_pictures_between_texts() -> None:
    message = read(multi("mixed", part("text/plain", "above\r\n"), IMAGE, part("text/plain", "below\r\n")))
    assert message.body_text == "above\nbelow\n"
    assert message.body_html is None


def test_apple_mail_nests_a_mixed_in_the_alternative() -> None:
    rich = multi("mixed", part("text/html", "<p>a</p>"), part("application/pdf", "x"), part("text/html", "<p>b</p>"))
    message = read(multi("alternative", PLAIN, rich))
    assert (message.body_text, message.body_html) == ("plain", "<p>a</p>\n<p>b</p>")
    assert roles(message)[2] == ("application/pdf", "attachment")


def test_the_root_of_a_related_is_the_first_or_the_one_that_start_names() -> None:
    other = part("text/html", "<p>other</p>", "Content-ID: <other>")
    root = part("text/html", "<p>root</p>", "Content-ID: <Root>")
    assert read(multi("related", other, root)).body_html == "<p>other</p>"
    message = read(multi("related", other, root, extra='; start="<root>"'))
    assert message.body_html == "<p>root</p>"
    assert [role for _, role in roles(message)] == ["attachment", "body"]


def test_a_related_whose_root_has_no_text_lets_the_others_speak() -> None:
    assert read(multi("related", IMAGE, PLAIN)).body_text == "plain"


@pytest.mark.parametrize(
    "field", ["Content-Disposition: attachment", 'Content-Disposition: attachment; filename="a.txt"']
)
def test_text_that_is_attached_is_no_body(field: str) -> None:
    message = read(multi("mixed", PLAIN, part("text/plain", "log", field)))
    assert message.body_text == "plain"
    assert roles(message)[1] == ("text/plain", "attachment")


def test_named_text_is_an_attachment_unless_it_comes_first() -> None:
    named = part("text/plain; name=a.txt", "named")
    assert read(multi("mixed", PLAIN, named)).body_text == "plain"
    assert read(multi("mixed", named, PLAIN)).body_text == "named\nplain"
    assert read(named).body_text == "named"


def test_signed_mail_is_readable_and_its_signature_a_part() -> None:
    message = read(multi("signed", PLAIN, part("application/pgp-signature", "sig")))
    assert message.body_text == "plain"
    assert roles(message)[1] == ("application/pgp-signature", "attachment")


def test_a_multipart_without_parts_is_read_as_text() -> None:
    message = read("Content-Type: multipart/mixed; boundary=never\r\n\r\nhello")
    assert message.body_text == "hello"
    assert roles(message) == [("multipart/mixed", "body")]


@pytest.mark.parametrize(
    ("content_id", "cited"),
    [
        ("i@x", "cid:i@x"),
        ("I@X", "CID:i@x"),
        ("i%2@x", "cid:i%252%40x"),
        ("a&b@x", "cid:a&amp;b@x"),
        ("i@x", "cid:%69@x"),
    ],
)
def test_a_cited_image_is_inline_and_called_by_its_content_id(content_id: str, cited: str) -> None:
    image = part("image/png", "x", f"Content-ID: <{content_id}>", 'Content-Disposition: attachment; filename="i.png"')
    message = read(multi("related", part("text/html", f"<img src='{cited}'>"), image))
    assert roles(message)[1] == ("image/png", "inline")
    assert (message.parts[1].filename, message.parts[1].original_filename) == (content_id, "i.png")


@pytest.mark.parametrize("html", ["<p>nothing</p>", "<img src='blob:applewebdata://i@x'>", "<img src='cid:other'>"])
def test_an_image_that_is_not_cited_is_an_attachment(html: str) -> None:
    message = read(multi("related", part("text/html", html), IMAGE))
    assert roles(message)[1] == ("image/png", "attachment")
    assert message.parts[1].filename == "i.png"


def test_a_content_id_is_harmless_as_a_filename() -> None:
    image = part("image/png", "x", "Content-ID: <../../a@x>")
    message = read(multi("related", part("text/html", "<img src=cid:../../a@x>"), image))
    assert message.parts[1].filename == "_.._a@x"


def test_the_charset_of_html_may_stand_in_its_meta() -> None:
    body = "<meta charset='windows-1251'><p>привет</p>".encode("cp1251")
    message = digest(b"Content-Type: text/html\r\n\r\n" + body, Bounds())
    assert message.body_html == "<meta charset='windows-1251'><p>привет</p>"


def test_nul_in_a_body_is_replaced_and_flagged() -> None:
    message = digest(b"\r\na\0b", Bounds())
    assert message.body_text == "a\ufffdb"
    assert "nul_replaced" in message.flags


def test_a_large_body_has_unix_line_ends_too() -> None:
    message = digest(b"\r\n" + b"line\r\n" * 200_000, Bounds())
    assert message.body_text == "line\n" * 200_000
