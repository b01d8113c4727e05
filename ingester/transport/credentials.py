"""Who hands in mail: the bearer of a token, or who shows it as a password because he cannot do otherwise.

Whoever shows no live token gets one and the same answer, unknown and revoked ones after the same work.
"""

import base64
import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Final

from aiohttp import web
from multidict import CIMultiDictProxy

from ingester.ledger import Ledger
from ingester.settings import Settings
from ingester.store.db import Database
from ingester.store.intake_tokens import Bearer, bearer
from ingester.store.secret import secret_hash
from ingester.transport.submission import Scope
from ingester.web.problem import Problem

# RFC 9110, 11.6.1: a 401 names the schemes. RFC 6750, 3: no error code, so that no two refusals differ.
UNAUTHORIZED: Final = Problem(
    status=401,
    reason="unauthorized",
    message="An intake token that is live is needed, as a bearer token or as a password.",
    headers={"WWW-Authenticate": 'Basic realm="ingester", Bearer'},
)


class Credentials:
    """The tokens of one worker: the operator's own, and those of the store."""

    def __init__(self, *, settings: Settings, database: Database, now: Callable[[], datetime]) -> None:
        own = settings.inbound_token
        self._own = None if own is None else secret_hash(own.get_secret_value())
        self._ledger = Ledger(settings=settings, database=database)
        self._now = now

    async def scope(self, request: web.Request) -> Scope | Problem:
        """What the token that is shown allows."""
        text = _shown(request.headers)
        if not text:
            return UNAUTHORIZED
        if self._own is not None and hmac.compare_digest(secret_hash(text), self._own):
            return Scope(may_assert_envelope=True)
        found = await self._ledger.ask(lambda connection: bearer(connection, text, self._now()))
        if found is None:
            return UNAUTHORIZED
        return found if isinstance(found, Problem) else _scope(found)


def shows_any(request: web.Request) -> bool:
    """Whether the request shows a token at all."""
    return "Authorization" in request.headers


def _shown(headers: CIMultiDictProxy[str]) -> str:
    """The token: bearer (RFC 6750, 2.1), or the password of any user (RFC 7617, 2); "" where there is none.

    The scheme is in any case (RFC 9110, 11.1).
    """
    given = headers.getall("Authorization", [])
    scheme, _, rest = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        pair = base64.b64decode(rest.strip(), validate=True).decode()
    except ValueError:
        return ""
    return pair.partition(":")[2]


def _scope(found: Bearer) -> Scope:
    return Scope(
        provider=found.provider,
        tenant_id=found.tenant_id,
        domains=frozenset(found.domains) or None,
        may_assert_envelope=found.may_assert_envelope,
    )
