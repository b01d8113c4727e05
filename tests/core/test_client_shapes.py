"""The shapes that the usual clients give their mails: which leaves are the body, and that every other one is a part.

In test_body already: Apple's picture between texts and its mixed within an alternative, an HTML part that cites
`blob:applewebdata:`, multipart/signed. In test_mime: digests, embedded messages. Not repeated here but in whole mails.
"""

from ingester.core.message import Message, digest
from ingester.core.mime import Bounds, scan, tiles_balance
from tests.oracle.reading import content_of


def entity(kind: str, body: str, *fields: str) -> str:
    return "\r\n".join([f"Content-Type: {kind}", *fields, "", body])


def multi(subtype: str, *parts: str, boundary: str, more: str = "") -> str:
    inner = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    return f'Content-Type: multipart/{subtype}; boundary="{boundary}"{more}\r\n\r\n{inner}--{boundary}--\r\n'


def read(mail: str) -> Message:
    raw = ("From: a@b.test\r\nMIME-Version: 1.0\r\n" + mail).encode()
    assert tiles_balance(scan(raw, Bounds()), raw)
    return digest(raw, Bounds())


def roles(message: Message) -> list[tuple[str, str, str]]:
    return [(part.path, part.content_type, part.role) for part in message.parts]


TEXT = entity("text/plain; charset=utf-8", "hello")
HTML = entity("text/html; charset=utf-8", '<p>hello <img src="cid:pic@x"></p>')
PICTURE = entity("image/png; name=p.png", "iVBORw0KGgo=", "Content-Transfer-Encoding: base64", "Content-ID: <pic@x>")
PDF = entity(
    "application/pdf; name=a.pdf", "JVBERi0=", "Content-Transfer-Encoding: base64", "Content-Disposition: attachment"
)


def test_apple_mail_nests_related_and_mixed_in_the_alternative() -> None:
    related = multi("related", HTML, PICTURE, boundary="r")
    message = read(multi("alternative", TEXT, multi("mixed", related, PDF, TEXT, boundary="m"), boundary="a"))
    assert roles(message) == [
        ("1", "text/plain", "body"),
        ("2.1.1", "text/html", "body"),
        ("2.1.2", "image/png", "inline"),
        ("2.2", "application/pdf", "attachment"),
        ("2.3", "text/plain", "body"),
    ]
    assert message.body_text == "hello"
    assert message.body_html is not None


def test_iphone_puts_a_picture_between_two_texts() -> None:
    message = read(multi("mixed", TEXT, PICTURE, entity("text/plain", "\r\nSent from my iPhone"), boundary="m"))
    assert roles(message) == [
        ("1", "text/plain", "body"),
        ("2", "image/png", "attachment"),
        ("3", "text/plain", "body"),
    ]
    assert message.body_text.split() == ["hello", "Sent", "from", "my", "iPhone"]


def test_html_that_cites_a_blob_leaves_its_picture_an_attachment() -> None:
    html = entity("text/html", '<img src="blob:applewebdata://0A1B/2C"> <img src="cid:other@x">')
    message = read(multi("related", html, PICTURE, boundary="r"))
    assert roles(message) == [("1", "text/html", "body"), ("2", "image/png", "attachment")]


def test_outlook_wraps_all_in_related() -> None:
    message = read(
        multi(
            "related",
            multi("alternative", TEXT, HTML, boundary="a"),
            PICTURE,
            boundary="r",
            more=';\r\n type="multipart/alternative"',
        )
    )
    assert roles(message) == [("1.1", "text/plain", "body"), ("1.2", "text/html", "body"), ("2", "image/png", "inline")]


def test_exchange_forwards_a_mail_as_an_embedded_one() -> None:
    inner = "Subject: in\r\n" + multi("mixed", TEXT, PDF, boundary="in")
    message = read(multi("mixed", TEXT, entity("message/rfc822", inner), boundary="m"))
    assert roles(message) == [("1", "text/plain", "body"), ("2", "message/rfc822", "attachment")]
    raw = (
        "From: a@b.test\r\nMIME-Version: 1.0\r\n" + multi("mixed", TEXT, entity("message/rfc822", inner), boundary="m")
    ).encode()
    assert content_of(raw, message.parts[1]) == inner.encode()
    assert message.parts[1].filename == "message-2.eml"


def test_gmail_forwards_with_the_inline_picture_of_the_original() -> None:
    forward = entity("text/plain", "---------- Forwarded message ---------\r\nFrom: C <c@d.test>\r\n\r\nthe original")
    alternative = multi("alternative", forward, HTML, boundary="000000000000aa")
    message = read(
        multi("mixed", multi("related", alternative, PICTURE, boundary="000000000000a"), PDF, boundary="000000000000")
    )
    assert [role for _, _, role in roles(message)] == ["body", "body", "inline", "attachment"]
    assert message.body_text.endswith("the original")


def test_a_signed_mail_is_readable_and_its_signature_is_a_part() -> None:
    signature = entity("application/pgp-signature; name=signature.asc", "-----BEGIN PGP SIGNATURE-----")
    message = read(
        multi("signed", multi("mixed", TEXT, PDF, boundary="m"), signature, boundary="s", more="; micalg=pgp-sha256")
    )
    assert roles(message) == [
        ("1.1", "text/plain", "body"),
        ("1.2", "application/pdf", "attachment"),
        ("2", "application/pgp-signature", "attachment"),
    ]
    assert message.body_text == "hello"


def test_the_halves_of_an_appledouble_are_two_parts() -> None:
    fork = entity('application/applefile; name="p.png"', "AAUWBw==", "Content-Transfer-Encoding: base64")
    message = read(multi("mixed", TEXT, multi("appledouble", fork, PICTURE, boundary="d"), boundary="m"))
    assert roles(message) == [
        ("1", "text/plain", "body"),
        ("2.1", "application/applefile", "attachment"),
        ("2.2", "image/png", "attachment"),
    ]
    assert [part.filename for part in message.parts[1:]] == ["p.png", "p.png"]


def test_a_digest_holds_messages_by_default() -> None:
    message = read(
        multi(
            "mixed",
            TEXT,
            multi("digest", "\r\nSubject: 1\r\n\r\none", "\r\nSubject: 2\r\n\r\ntwo", boundary="d"),
            boundary="m",
        )
    )
    assert roles(message) == [
        ("1", "text/plain", "body"),
        ("2.1", "message/rfc822", "attachment"),
        ("2.2", "message/rfc822", "attachment"),
    ]


def test_external_body_is_one_part_that_nobody_fetches() -> None:
    body = "Content-Type: image/png\r\nContent-ID: <e@x>\r\n\r\n"
    message = read(
        multi(
            "mixed", TEXT, entity('message/external-body; access-type=URL; url="http://x.test/p"', body), boundary="m"
        )
    )
    assert roles(message) == [("1", "text/plain", "body"), ("2", "message/external-body", "attachment")]


def test_flowed_text_has_the_lines_that_were_meant() -> None:
    message = read(
        entity(
            "text/plain; charset=utf-8; format=flowed; delsp=yes",
            "one \r\ntwo \r\n\r\n> quoted \r\n> more\r\n-- \r\nsig",
        )
    )
    assert message.body_text == "onetwo \n\n> quotedmore\n-- \nsig"


def test_a_mail_of_nothing_but_an_attachment_has_no_body() -> None:
    message = read(PDF)
    assert roles(message) == [("1", "application/pdf", "attachment")]
    assert (message.body_text, message.body_html) == ("", None)
