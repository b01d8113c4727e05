"""The second opinion on BinHex: the standard library lost its decoder in 3.11."""


def undo_binhex(data: bytes) -> bytes:
    """The data fork, bit by bit by RFC 1741, of a sound file."""
    alphabet = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
    text = data.partition(b":")[2].partition(b":")[0]
    bits = "".join(f"{alphabet.index(char):06b}" for char in text if char not in b" \t\r\n")
    coded = iter(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))
    out = bytearray()
    for byte in coded:
        count = next(coded) if byte == 0x90 else -1
        out += out[-1:] * (count - 1) if count > 0 else bytes([byte])
    size = int.from_bytes(out[out[0] + 12 : out[0] + 16], "big")
    return bytes(out[out[0] + 22 : out[0] + 22 + size])
