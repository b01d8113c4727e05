"""A password as Postgres keeps it (SCRAM-SHA-256, RFC 5803): the server, and its log of statements, never see it."""

import base64
import hashlib
import hmac
from typing import Final

SALT_BYTES: Final = 16
_ROUNDS: Final = 4096


def verifier(password: str, salt: bytes) -> str:
    """What CREATE ROLE takes in the place of a password. Raises ValueError for what is not printable ASCII.

    Other characters would have to be prepared (RFC 4013), as every client does it on its own.
    """
    if not (password and password.isascii() and password.isprintable()):
        raise ValueError("A password is of printable ASCII characters")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_ROUNDS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
