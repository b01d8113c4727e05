"""Whether a mail is signed or encrypted, and which of its parts are: S/MIME (RFC 8551) and PGP (RFC 3156, 4880).

Nothing is verified and nothing opened: the flags say only what the structure claims. Pure; reads the first bytes of a
part at most; never raises.
"""

from ingester.core.content import decode_start
from ingester.core.mime import Node, Scan
from ingester.core.part import Part

SIGNED = "signed"
ENCRYPTED = "encrypted"

_HEAD = 64
_PKCS7 = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_SMIME_TYPES = {
    "signed-data": SIGNED,
    "enveloped-data": ENCRYPTED,
    "authenveloped-data": ENCRYPTED,
    "encrypted-data": ENCRYPTED,
}
"""RFC 8551, 3.2.2. A part of certificates only (`certs-only`) signs and hides nothing."""
_CONTENT_TYPES = (
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", SIGNED),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03", ENCRYPTED),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06", ENCRYPTED),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17", ENCRYPTED),
)
"""The object identifiers that such a part begins with (RFC 5652, 4 to 8; RFC 5083)."""
_SIGNATURES = frozenset({
    "application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature",
})  # fmt: skip
_SEALED = _PKCS7 | _SIGNATURES | {"multipart/signed", "multipart/encrypted"}
"""Where a mail has none of these types, no part of it is sealed."""
_ARMOUR_BEGINS = "-----BEGIN PGP "
_OPENING = 1000
_ARMOUR = (("-----BEGIN PGP MESSAGE-----", ENCRYPTED), ("-----BEGIN PGP SIGNED MESSAGE-----", SIGNED))


def seals(raw: bytes, structure: Scan, text: str) -> dict[int, str]:
    """The flag of each part that is a signature, signed or encrypted, by ordinal; 0 stands for the text itself."""
    found: dict[int, str] = {}
    for node in () if _SEALED.isdisjoint(structure.types) else structure.nodes:
        if node.part is not None:
            part = structure.parts[node.part]
            flag = _leaf(raw, node, part, structure)
            if flag:
                found[part.ordinal] = flag
        elif node.content_type == "multipart/signed":
            found.setdefault(0, SIGNED)
    if _ARMOUR_BEGINS in text[:_OPENING]:
        armour = next((flag for words, flag in _ARMOUR if text[:_OPENING].lstrip().startswith(words)), None)
        if armour:
            found.setdefault(0, armour)
    return found


def _leaf(raw: bytes, node: Node, part: Part, structure: Scan) -> str | None:
    parent = structure.nodes[node.parent].content_type if node.parent >= 0 else ""
    if parent == "multipart/encrypted":  # RFC 1847, 2.2: the control part and the ciphertext
        return ENCRYPTED
    if part.content_type in _SIGNATURES:
        return SIGNED
    if part.content_type not in _PKCS7:
        return None
    head = decode_start(raw, part.offset, part.length, part.encoding, _HEAD)
    known = next((flag for oid, flag in _CONTENT_TYPES if oid in head), None)
    named = (node.params.token("smime-type") or "").strip().lower()
    return None if named == "certs-only" else known or _SMIME_TYPES.get(named)
