"""Filenames made harmless."""

import pytest

from ingester.core.filename import sanitise


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.pdf", "a.pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\temp\\x.doc", "C:_temp_x.doc"),
        (".bashrc", "bashrc"),
        ("a\0b\x07.txt", "ab.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("two\r\n  lines.txt", "two lines.txt"),
        (" x. ", "x"),
        ("日本.docx", "日本.docx"),
        ("\ud800x", "x"),
        ("...", None),
        ("", None),
        (None, None),
    ],
)
def test_a_name_is_safe_to_show_and_to_store(name: str | None, safe: str | None) -> None:
    assert sanitise(name) == safe


def test_a_long_name_keeps_its_extension_within_255_bytes() -> None:
    safe = sanitise("é" * 500 + ".pdf")
    assert safe is not None
    assert safe.endswith("é.pdf")
    assert 253 <= len(safe.encode()) <= 255
    assert len(sanitise("x" * 999) or "") == 255
