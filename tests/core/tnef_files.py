"""Makes winmail.dat files (MS-OXTNEF): what Outlook writes, in its smallest forms."""

from struct import pack

OEM, BODY, MESSAGE_PROPS = 0x00069007, 0x0002800C, 0x00069003
RENDERING, TITLE, DATA, ATTACHMENT = 0x00069002, 0x00018010, 0x0006800F, 0x00069005
IMESSAGE = bytes.fromhex("0703020000000000c000000000000046")


def tnef(*attributes: bytes) -> bytes:
    return pack("<IH", 0x223E9F78, 1) + attribute(1, 0x00089006, pack("<I", 0x10000)) + b"".join(attributes)


def attribute(level: int, name: int, data: bytes) -> bytes:
    return pack("<BII", level, name, len(data)) + data + pack("<H", sum(data) & 0xFFFF)


def codepage(number: int) -> bytes:
    return attribute(1, OEM, pack("<II", number, 0))


def attachment(title: bytes, data: bytes | None, *props: bytes) -> bytes:
    """An attachment; with `data` None its bytes are in the properties."""
    return b"".join(
        (
            attribute(2, RENDERING, pack("<HIHHI", 1, 0xFFFFFFFF, 0, 0, 0)),
            attribute(2, TITLE, title + b"\0"),
            attribute(2, DATA, data) if data is not None else b"",
            attribute(2, ATTACHMENT, proplist(*props)) if props else b"",
        )
    )


def proplist(*props: bytes) -> bytes:
    return pack("<I", len(props)) + b"".join(props)


def prop(kind: int, key: int, value: bytes, *, name: bytes = b"") -> bytes:
    """One property; what has no fixed size is counted, sized and padded. `name` is that of a named one."""
    head = pack("<HH", kind, key)
    if key >= 0x8000:
        head += bytes(16) + pack("<II", 1, len(name)) + name + bytes(-len(name) % 4)
    if kind in (0x0D, 0x1E, 0x1F, 0x102):
        head += pack("<II", 1, len(value))
    return head + value + bytes(-len(value) % 4)
