"""The body hashes that signatures ask for (RFC 6376, 3.4.3 to 3.4.5): from what is known, on the loop or beside it."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor

from ingester.auth.dkim_canon import BodyForm, BodyHash, hash_bodies, is_relaxed
from ingester.core.hashed_body import HashedBody

BESIDE = 1 << 20
"""Bodies above this many bytes are hashed in a thread, so that the loop is not held (law 9)."""


async def hash_forms(
    raw: bytes, start: int, forms: set[BodyForm], beside: Executor | None, hashed: HashedBody | None = None
) -> Mapping[BodyForm, BodyHash]:
    """The hashes of the body from `start` on. `hashed` is what the scan made of the same mail: mostly it is all that is
    needed, as the usual body is canonical but for the empty lines at its end.
    """
    if not forms or len(raw) - start <= BESIDE:
        return _hash(raw, start, forms, hashed)
    return await asyncio.get_running_loop().run_in_executor(beside, _hash, raw, start, forms, hashed)


def _hash(raw: bytes, start: int, forms: set[BodyForm], hashed: HashedBody | None) -> Mapping[BodyForm, BodyHash]:
    hashes: dict[BodyForm, BodyHash] = {}
    for form in forms:
        if hashed is not None and _is_canonical(raw, start, form, hashed):
            hashes[form] = BodyHash(hashed.digest_with_line_end(), hashed.end - start + 2)
    unknown = forms - hashes.keys()
    if unknown:
        hashes |= hash_bodies(raw, start, unknown)
    return hashes


def _is_canonical(raw: bytes, start: int, form: BodyForm, hashed: HashedBody) -> bool:
    """Whether the body in this form is what was hashed, with one CRLF behind it. An empty one is something else."""
    if form.limit is not None or hashed.start != start or hashed.end == start:
        return False
    lines, rest = divmod(len(raw) - hashed.end, 2)
    if rest or raw[hashed.end :] != b"\r\n" * lines:
        return False
    return not form.relaxed or is_relaxed(raw, start, hashed.end)
