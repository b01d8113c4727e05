"""Every mail of the corpora through the real door and back: the bytes that law 2 promises, and the parts on them."""

import binascii
import hashlib
import quopri
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blobs import stored_bytes
from tests.core.slow_binhex import undo_binhex
from tests.daemon import OF_THIS_TEST, ROOT, Town, arrival, serving
from tests.e2e.caller import calling

pytestmark = [pytest.mark.usefixtures("blobs"), pytest.mark.thorough]

MAIL = {".eml", ".txt", ".raw", ".msg", ".message"}
FOLDERS = ("mime-*", "dkim-*")


def mails(corpora: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file that is a mail, of whatever line ends."""
    for folder in FOLDERS:
        for path in sorted(corpora.glob(f"{folder}/**/*")):
            if path.suffix in MAIL and path.is_file() and path.name.upper() not in ("LICENSE.TXT", "README.TXT"):
                yield str(path.relative_to(corpora)), path.read_bytes()


def normalised(content: bytes) -> bytes:
    """Law 2: bare LF made CRLF; the last line has an end."""
    lines = re.sub(rb"(?<!\r)\n", b"\r\n", content)
    return lines if not lines or lines.endswith(b"\r\n") else lines + b"\r\n"


def wire(content: bytes) -> bytes:
    """Dot-stuffed and ended (RFC 5321, 4.5.2). Stray CR and NUL stay; the lines are CRLF lines."""
    return re.sub(rb"(?m)^\.", b"..", content) + b".\r\n"


def ambiguous(content: bytes) -> bool:
    """Whether a dot stands between stray line ends, or the end has a stray CR or NUL before it: refused by design."""
    return bool(re.search(rb"[\r\0]\.[\r\n\0]|\.[\r\0](?!\n)", content) or content.endswith((b"\r\r\n", b"\0\r\n")))


def undo(data: bytes, encoding: str) -> bytes | None:
    """An independent decoding by the standard library, where the part is sound enough for it; else None."""
    if encoding == "base64":
        packed = b"".join(data.split())
        try:
            return b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            return None
    if encoding == "quoted-printable":
        return (
            quopri.decodestring(data)
            if re.fullmatch(rb"[^=]*(?:=(?:[0-9A-Fa-f]{2}|[ \t]*\r?\n)[^=]*)*", data)
            else None
        )
    if encoding == "uuencode":
        return undo_uu(data)
    if encoding == "binhex":
        return undo_binhex(data)
    return data


def undo_uu(data: bytes) -> bytes | None:
    """What stands between `begin` and `end`; a line is cut to the length that its first octet tells."""
    out: list[bytes] = []
    lines = iter(data.splitlines())
    for line in lines:
        if line.startswith(b"begin "):
            break
    for line in lines:
        if line == b"end":
            break
        count = (line[0] - 32) & 63 if line else 0
        whole = line[: 1 + (count * 4 + 2) // 3].ljust(1 + (count + 2) // 3 * 4)
        try:
            out.append(binascii.a2b_uu(whole))
        except binascii.Error:
            return None
    return b"".join(out)


def test_every_mail_comes_back_and_every_part_decodes(acme: Town, corpora: Path) -> None:
    expected: dict[str, tuple[str, bytes]] = {}
    refused: list[str] = []
    with serving(acme.url) as daemon:
        for name, content in mails(corpora):
            sent = normalised(content)
            with calling(daemon.port) as caller:
                reply = caller.deliver(wire(sent))
            if reply.startswith("550 5.6.0"):
                assert ambiguous(sent), name
                refused.append(name)
                continue
            assert reply.startswith("250 2.0.0 stored as "), (name, reply)
            expected[str(arrival(reply))] = (name, sent)
    assert len(expected) > 350
    assert len(refused) < 5, refused
    assert acme.count("dead_letters") == 0
    stored = {
        str(row["arrival_id"]): row
        for row in acme.ask(
            """
            SELECT r.arrival_id, m.id, w.data, w.blob_key, w.sha256, w.size FROM receipts r
            JOIN messages m ON m.tenant_id = r.tenant_id AND m.id = r.message_id
            JOIN raws w ON w.tenant_id = m.tenant_id AND w.id = m.raw_id WHERE NOT r.duplicate
            """
        )
    }
    twins = set(expected) - set(stored)
    assert len(twins) == len(acme.ask("SELECT FROM receipts WHERE duplicate")), "the corpora share some mails"
    for key, row in stored.items():
        name, sent = expected[key]
        assert stored_bytes(row) == sent, name
        assert (row["sha256"], row["size"]) == (hashlib.sha256(sent).digest(), len(sent)), name
    check_parts(acme, {row["id"]: expected[key] for key, row in stored.items()})
    check_command(acme, {str(row["id"]): expected[key][1] for key, row in list(stored.items())[::60]})


def check_parts(acme: Town, sent: dict[object, tuple[str, bytes]]) -> None:
    compared = 0
    columns = 'message_id, path, encoding, "offset", length, sha256, decoded_size, flags, data'
    for row in acme.ask(f"SELECT {columns} FROM parts"):
        name, content = sent[row["message_id"]]
        if row["offset"] is None:
            assert hashlib.sha256(row["data"]).digest() == row["sha256"], name
            continue
        view = content[row["offset"] : row["offset"] + row["length"]]
        assert len(view) == row["length"], name
        decoded = undo(view, row["encoding"])
        if decoded is None:
            assert row["flags"], (name, row["path"], "a part that the standard library cannot decode is flagged")
            continue
        compared += 1
        if not row["flags"]:
            assert hashlib.sha256(decoded).digest() == row["sha256"], (name, row["path"])
            assert len(decoded) == row["decoded_size"], (name, row["path"])
    assert compared > 700


def check_command(acme: Town, sent: dict[str, bytes]) -> None:
    """`ingester raw` writes these very bytes."""
    for message_id, content in sent.items():
        done = subprocess.run(
            [sys.executable, "-m", "ingester", "raw", message_id],
            cwd=ROOT,
            env={"INGESTER_DATABASE_URL": acme.url, "PATH": "/usr/bin:/bin", **OF_THIS_TEST},
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert done.stdout == content


@pytest.mark.s3
@pytest.mark.parametrize(
    "sent", [b"a\rb\0c\r\n", b"Subject: x\n\nbare\nLF\n", b".dots\r\n..\r\n.\x20\r\n", b"\r\n" * 3]
)
def test_odd_bytes_come_back_too(acme: Town, sent: bytes) -> None:
    with serving(acme.url) as daemon, calling(daemon.port) as caller:
        assert caller.deliver(wire(normalised(sent)))[:3] == "250"
    assert stored_bytes(acme.ask("SELECT data, blob_key FROM raws")[0]) == normalised(sent)
