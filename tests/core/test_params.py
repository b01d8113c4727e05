"""Parameters of Content-Type and Content-Disposition, good and bad."""

import pytest

from ingester.core.params import parse_params


@pytest.mark.parametrize(
    ("value", "main", "params"),
    [
        (b"TEXT/Plain; CHARSET=utf-8", "text/plain", {"charset": "utf-8"}),
        (b'text/plain; charset="utf-8" ; format=flowed', "text/plain", {"charset": "utf-8", "format": "flowed"}),
        (b'multipart/mixed\n\tboundary="x"', "multipart/mixed", {"boundary": "x"}),
        (b'multipart/mixed; boundary="a;b=c d"', "multipart/mixed", {"boundary": "a;b=c d"}),
        (b"multipart/mixed; boundary=----=_x", "multipart/mixed", {"boundary": "----=_x"}),
        (b'text/html charset=utf-8 name="z"', "text/html", {"charset": "utf-8", "name": "z"}),
        (b"(c) text/plain (d); charset=x", "text/plain", {"charset": "x"}),
        (b"text / plain; a=b", "text/plain", {"a": "b"}),
        (b"image/png; name=a; name=b", "image/png", {"name": "a"}),
        (b"charset=x", "", {"charset": "x"}),
        (b"", "", {}),
    ],
)
def test_values_and_parameters(value: bytes, main: str, params: dict[str, str]) -> None:
    found = parse_params(value)
    assert (found.main, found.raw) == (main, params)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b'attachment; filename="a.pdf"', "a.pdf"),
        (b"attachment; filename=my file (1).pdf; size=3", "my file (1).pdf"),
        (b' ;\r\n filename="image.png"', "image.png"),
        (b'attachment; filename="open', "open"),
        (b'attachment; filename="\\"q\\" C:\\x.txt"', '"q" C:\\x.txt'),
        (b"attachment; filename*=UTF-8''%e2%82%ac.pdf; filename=x", "€.pdf"),
        (b"attachment; filename=x; filename*=iso-8859-1'de'%e9", "é"),
        (b"attachment; filename*2*=%20c; filename*1=b; filename*0*=utf-8''a%20", "a b c"),
        (b"attachment; filename*1=b; filename*0=a; filename*3=d", "ab"),
        (b"attachment; filename*0*=utf-8''%e2%82; filename*1*=%ac", "€"),
        (b"attachment; filename*=no quotes", "no quotes"),
        (b'attachment; filename="=?utf-8?q?=C3=A9.pdf?="', "é.pdf"),
        (b"attachment; filename==?utf-8?q?=C3=A9.pdf?=", "é.pdf"),
        ('attachment; filename="é.pdf"'.encode(), "é.pdf"),
        (b'attachment; filename="\xe9.pdf"', "é.pdf"),
        (b"attachment", None),
    ],
)
def test_filenames(value: bytes, name: str | None) -> None:
    assert parse_params(value).text("filename") == name
