"""Signed and encrypted mail: flags on the message and its parts, nothing opened."""

from functools import partial

import pytest

from ingester.core.message import Message, digest
from ingester.core.mime import Bounds
from tests.cost import assert_cheap

MB = 1 << 20


def message_of(head: str, body: str) -> Message:
    return digest((head.strip("\n") + "\n\n" + body).replace("\n", "\r\n").encode(), Bounds())


def test_a_signed_mail_is_readable_and_its_signature_is_a_part() -> None:
    for media in ("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"):
        body = f"--s\n\nHello\n--s\nContent-Type: {media}; name=x\n\nabc\n--s--\n"
        message = message_of(f'Content-Type: multipart/signed; protocol="{media}"; boundary=s\n', body)
        assert message.body_text.strip() == "Hello"
        assert message.flags == ("signed",)
        assert [part.flags for part in message.parts] == [(), ("signed",)]


@pytest.mark.parametrize(
    ("params", "start", "flags"),
    [
        ("; smime-type=signed-data", "MIIB", ("signed",)),
        ("; smime-type=enveloped-data", "MIIB", ("encrypted",)),
        ("; smime-type=authEnveloped-data", "MIIB", ("encrypted",)),
        ("; smime-type=certs-only", "MIAGCSqGSIb3DQEHAqCA", ()),
        ("; name=smime.p7m", "MIAGCSqGSIb3DQEHAqCA", ("signed",)),
        ("; name=smime.p7m", "MIAGCSqGSIb3DQEHA6CA", ("encrypted",)),
        ("; smime-type=signed-data", "MIAGCSqGSIb3DQEHA6CA", ("encrypted",)),
        ("", "AAAA", ()),
    ],
)
@pytest.mark.parametrize("media", ["application/pkcs7-mime", "application/x-pkcs7-mime"])
def test_opaque_smime_is_one_leaf(media: str, params: str, start: str, flags: tuple[str, ...]) -> None:
    message = message_of(f"Content-Type: {media}{params}\nContent-Transfer-Encoding: base64\n", start + "\n")
    assert len(message.parts) == 1
    assert (message.flags, message.parts[0].flags) == (flags, flags)


def test_encrypted_by_pgp() -> None:
    body = "--e\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--e\n\nx\n--e--\n"
    message = message_of("Content-Type: multipart/encrypted; boundary=e\n", body)
    assert message.flags == ("encrypted",)
    assert [part.flags for part in message.parts] == [("encrypted",), ("encrypted",)]
    assert message_of("Subject: x\n", "-----BEGIN PGP MESSAGE-----\n\nabc\n").flags == ("encrypted",)
    assert message_of("Subject: x\n", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: x\n").flags == ("signed",)


@pytest.mark.parametrize("unit", [b"-----BEGIN PGP MESSAGE-----", b" ", b"MIAGCSqGSIb3DQEHA6CA", b"="])
def test_a_megabyte(unit: bytes) -> None:
    head = b"Content-Type: application/pkcs7-mime; x=" + unit[:1] * 1000 + b"\nContent-Transfer-Encoding: base64\n\n"
    for raw in (head + unit * (MB // len(unit)), b"\n" + unit * (MB // len(unit))):
        assert_cheap(partial(digest, raw, Bounds()), seconds=0.2)
