"""Fetches what a URL names that a stranger may have chosen: over https, from the public Internet, once, bounded.

It must not become a way into our network. A URL has one strict form, its host is a name and never an address; the name
is resolved once, all its addresses must be public, and the connection goes to one of those, whatever DNS says later.
Nothing leads elsewhere: no redirect, no proxy, no cookie, nothing of the environment. No error quotes the URL.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ingester.web.public import Address, is_public

MAX_URL: Final = 8 << 10
"""Characters. A signed URL of an object store has one or two thousand."""
MAX_TRIED: Final = 4
"""Addresses of a name that are tried; all of them are checked."""
_PORT: Final = 443
_PIECE: Final = 64 << 10
_HEADERS: Final = {hdrs.ACCEPT: "*/*", hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: "ingester"}

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# A last label that begins with a digit makes the host an address for some parsers (`127.1`, `0x7f.1`, 2130706433).
_HOST: Final = rf"(?:{_LABEL}\.){{1,126}}[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?"
_URL: Final = re.compile(rf"https://(?P<host>{_HOST})(?::443)?(?P<target>(?:[/?][!\"$-\[\]-~]*)?)")

Resolve = Callable[[str], Awaitable[Sequence[Address]]]


class FetchRefused(Exception):
    """The URL is not one that we would ever fetch: nothing was sent. The text says why."""


class FetchFailed(Exception):
    """It did not work; it may another time. The text says why."""


class FetchTooLarge(FetchFailed):
    """There is more than was asked for."""


class Get(Protocol):
    """How others see the fetcher."""

    async def __call__(self, url: str, *, max_bytes: int, seconds: float) -> bytes:
        """The body. Raises FetchRefused or FetchFailed."""
        ...


class Fetcher:
    """Fetches. `resolve` gives all addresses of a name, none where there are none now.

    The other arguments are for tests: settings must never reach `allowed` and `port`.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        tls: ssl.SSLContext | None = None,
        allowed: Callable[[Address], bool] = is_public,
        port: int = _PORT,
    ) -> None:
        self._resolve = resolve
        self._tls = tls
        self._allowed = allowed
        self._port = port

    async def get(self, url: str, *, max_bytes: int, seconds: float) -> bytes:
        """The body of the answer, at most so many bytes, within so many seconds in all.

        Raises FetchRefused for a URL, or a name, that leads where nobody may send us, else FetchFailed: also for
        every status but 200, for an answer that is compressed and for one whose end cannot be told.
        """
        host, target = _parted(url)
        try:
            async with asyncio.timeout(seconds):
                pinned = _Pinned(await self._addresses(host), self._port)
                return await self._exchange(pinned, URL(f"https://{host}{target}", encoded=True), max_bytes)
        except TimeoutError:
            raise FetchFailed("it did not come in time") from None
        except (ClientError, OSError, ValueError) as error:
            raise FetchFailed(f"the exchange failed: {type(error).__name__}") from None

    async def _addresses(self, host: str) -> Sequence[Address]:
        """The addresses to try. One that is not public spoils the name: such an answer is no accident."""
        addresses = await self._resolve(host)
        if not addresses:
            raise FetchFailed("its host has no address")
        if not all(map(self._allowed, addresses)):
            raise FetchRefused("its host has an address that is not public")
        return addresses[:MAX_TRIED]

    async def _exchange(self, pinned: "_Pinned", url: URL, max_bytes: int) -> bytes:
        """One request on a connection of its own: none is kept for a name whose addresses may change."""
        if self._tls is None:  # made when it is needed: reading the world's authorities takes some 70 ms
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        connector = TCPConnector(resolver=pinned, use_dns_cache=False, ssl=self._tls, force_close=True)
        async with (
            ClientSession(
                connector=connector,
                headers=_HEADERS,
                timeout=ClientTimeout(total=None),  # the clock of `get` counts it all
                cookie_jar=DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            ) as session,
            # The whole body may wait here unread: uvloop drops what it holds back when the server then hangs up.
            session.get(url, allow_redirects=False, read_bufsize=max_bytes) as response,
        ):
            _check(response, max_bytes)
            return await _body(response, max_bytes)


class _Pinned(AbstractResolver):
    """The addresses that were checked, for whatever the client asks."""

    def __init__(self, addresses: Sequence[Address], port: int) -> None:
        self._addresses = addresses
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        del port, family
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=self._port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """There is nothing to close."""


def _parted(url: str) -> tuple[str, str]:
    """Host, in lower case, and path with query. Raises FetchRefused for all but the one form that we take."""
    found = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if found is None:
        raise FetchRefused("it is not like https://host.example/path, without user, other port, fragment or address")
    return found["host"].lower(), found["target"]


def _check(response: ClientResponse, max_bytes: int) -> None:
    """Raise where the answer is not the thing itself, whole, and within the bound."""
    if response.status != 200:
        raise FetchFailed(f"the answer is {response.status}")
    if response.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        raise FetchFailed("the answer is compressed")
    coding = response.headers.get(hdrs.TRANSFER_ENCODING, "").strip().lower()
    if coding not in ("", "chunked") or (not coding and response.content_length is None):
        raise FetchFailed("the end of the answer cannot be told")  # what a lost connection cuts would pass for whole
    if response.content_length is not None and response.content_length > max_bytes:
        raise FetchTooLarge(f"it is larger than {max_bytes:,} bytes")


async def _body(response: ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(_PIECE):
        body += piece
        if len(body) > max_bytes:
            raise FetchTooLarge(f"it is larger than {max_bytes:,} bytes")
        await asyncio.sleep(0)  # what is there already comes without a pause: the loop must not wait for all of it
    return bytes(body)
