"""The fetcher: where it never goes, shown by listeners that nobody reaches, and what it brings home, over real TLS."""

import asyncio
import gzip
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from ingester.auth.dns import Resolver
from ingester.auth.hosts import addresses_of
from ingester.web.fetch import MAX_TRIED, MAX_URL, Fetcher, FetchFailed, FetchRefused, FetchTooLarge
from ingester.web.public import Address, is_public
from tests.cost import assert_cheap
from tests.nameserver import NameServer
from tests.web.secure_server import Authority, SecureServer, answering, holding, serving
from tests.zones import Data, Fault

HOST = "mail.provider.test"
URL = f"https://{HOST}/raw/1?signature=a%2Fb"
SECONDS = 10.0
OK = b"HTTP/1.1 200 OK\r\n"
MAIL = OK + b"Content-Length: 5\r\n\r\nhello"
LOOPBACK = ip_address("127.0.0.1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server_side(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    return authority.server(HOST, tmp_path)


class Names:
    """A resolver that gives these answers in turn, the last one for ever, and knows who asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Sequence[Address]:
        self.asked.append(name)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [ip_address(one) for one in answer]


async def get(
    authority: Authority,
    seen: SecureServer,
    *,
    url: str = URL,
    max_bytes: int = 1000,
    seconds: float = SECONDS,
    names: Callable[[str], Awaitable[Sequence[Address]]] | None = None,
) -> bytes:
    """Fetch from a server of the test: the loopback counts as public, and 443 is its port."""
    fetcher = Fetcher(
        names or Names(["127.0.0.1"]),
        tls=authority.client(),
        allowed=lambda address: address == LOOPBACK or is_public(address),
        port=seen.port,
    )
    return await fetcher.get(url, max_bytes=max_bytes, seconds=seconds)


# What is brought home


async def test_it_brings_the_body_and_says_whom_it_wants(authority: Authority, server_side: ssl.SSLContext) -> None:
    async with serving(server_side, answering(MAIL)) as seen:
        names = Names(["127.0.0.1"])
        assert await get(authority, seen, names=names) == b"hello"
    head = seen.heads[0].decode().lower()
    assert seen.heads[0].startswith(b"GET /raw/1?signature=a%2Fb HTTP/1.1\r\n")
    assert f"host: {HOST}\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert "user-agent: ingester\r\n" in head
    assert not {"cookie", "authorization", "referer"} & {line.partition(":")[0] for line in head.splitlines()}
    assert (seen.names, names.asked) == ([HOST], [HOST])


@pytest.mark.parametrize(
    "url",
    [
        f"https://{HOST}",
        f"https://{HOST}/",
        f"https://{HOST}:443/a",
        f"https://{HOST.upper()}/a",
        f"https://{HOST}?a=b",
        f"https://{HOST}/a/../b/%2e%2e/c?x=a@b:c&y=//evil.test",
    ],
)
async def test_these_are_one_form(authority: Authority, server_side: ssl.SSLContext, url: str) -> None:
    async with serving(server_side, answering(MAIL)) as seen:
        assert await get(authority, seen, url=url) == b"hello"
    assert seen.names == [HOST]


async def test_a_path_is_sent_as_it_was_signed(authority: Authority, server_side: ssl.SSLContext) -> None:
    target = "/a/%2E%2e/%7Eb//c;d?X-Signature=%2Bab%2f&e=%20&f=a+b"
    async with serving(server_side, answering(MAIL)) as seen:
        await get(authority, seen, url=f"https://{HOST}{target}")
    assert seen.heads[0].split()[1].decode() == target


async def test_chunks_are_put_together(authority: Authority, server_side: ssl.SSLContext) -> None:
    body = b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    async with serving(server_side, answering(OK + b"Transfer-Encoding: chunked\r\n\r\n", body)) as seen:
        assert await get(authority, seen) == b"hello"


async def test_a_body_of_the_very_bound_is_taken(authority: Authority, server_side: ssl.SSLContext) -> None:
    async with serving(server_side, answering(MAIL)) as seen:
        assert await get(authority, seen, max_bytes=5) == b"hello"


def test_a_server_that_hangs_up_at_once_loses_nothing(authority: Authority, server_side: ssl.SSLContext) -> None:
    """Without a word of TLS that it ends, and on the loop of the daemon, which drops what it holds back (uvloop)."""
    body = bytes(8_000_000)

    def serve(listener: socket.socket) -> None:
        for _ in range(times):
            connection, _peer = listener.accept()
            with suppress(OSError), server_side.wrap_socket(connection, server_side=True) as secure:
                secure.recv(4096)
                secure.sendall(OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                secure.shutdown(socket.SHUT_WR)
                while secure.recv(4096):
                    pass

    async def fetch(port: int) -> None:
        fetcher = Fetcher(Names(["127.0.0.1"]), tls=authority.client(), allowed=lambda _: True, port=port)
        for _ in range(times):
            assert await fetcher.get(URL, max_bytes=len(body), seconds=30) == body
        # The loop is closed after the last connection has ended on both sides: uvloop cannot be closed before.
        await asyncio.to_thread(server.join, 10)

    times = 8
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        uvloop.run(fetch(listener.getsockname()[1]))


async def test_the_environment_names_no_proxy(
    authority: Authority, server_side: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(None, answering()) as proxy, serving(server_side, answering(MAIL)) as seen:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert await get(authority, seen) == b"hello"
    assert proxy.connections == 0


async def test_another_address_is_tried_where_one_does_not_answer(
    authority: Authority, server_side: ssl.SSLContext
) -> None:
    async with serving(server_side, answering(MAIL)) as seen:
        fetcher = Fetcher(
            Names(["127.0.0.2", "127.0.0.1"]), tls=authority.client(), allowed=lambda _: True, port=seen.port
        )
        assert await fetcher.get(URL, max_bytes=10, seconds=SECONDS) == b"hello"


async def test_of_many_addresses_few_are_tried(authority: Authority, server_side: ssl.SSLContext) -> None:
    many = [f"127.0.0.{last}" for last in range(2, 2 + MAX_TRIED)]
    async with serving(server_side, answering(MAIL)) as seen:
        fetcher = Fetcher(Names([*many, "127.0.0.1"]), tls=authority.client(), allowed=lambda _: True, port=seen.port)
        with pytest.raises(FetchFailed):
            await fetcher.get(URL, max_bytes=10, seconds=SECONDS)
    assert seen.connections == 0


# Where it never goes

REFUSED = [
    "",
    "mail.provider.test",
    "//mail.provider.test/",
    "http://mail.provider.test/",
    "HTTP://mail.provider.test/",
    "ftp://mail.provider.test/",
    "file:///etc/hostname",
    "gopher://mail.provider.test/",
    "https:mail.provider.test/",
    "https:/mail.provider.test/",
    "https:///mail.provider.test/",
    "https:\\\\mail.provider.test/",
    " https://mail.provider.test/",
    "https://mail.provider.test/ ",
    "https://mail.provider.test/\n",
    "https://mail.provider.test\r\nHost: evil.test/",
    "https://mail.provider.test/a\r\nX: y",
    "https://mail.provider.test/a b",
    "https://mail.provider.test/a#fragment",
    "https://mail.provider.test/\\evil.test",
    "https://mail.provider.test\\@127.0.0.1/",
    "https://mail.provider.test/\u0430",
    # user
    "https://user@mail.provider.test/",
    "https://user:word@mail.provider.test/",
    "https://mail.provider.test@127.0.0.1/",
    "https://mail.provider.test%40127.0.0.1/",
    "https://@mail.provider.test/",
    # port
    "https://mail.provider.test:80/",
    "https://mail.provider.test:22/",
    "https://mail.provider.test:8443/",
    "https://mail.provider.test:0443/",
    "https://mail.provider.test:4430/",
    "https://mail.provider.test:/",
    "https://mail.provider.test:443:443/",
    "https://mail.provider.test:443@127.0.0.1/",
    # names
    "https:///",
    "https://./",
    "https://localhost/",
    "https://localhost./",
    "https://localhost:443/",
    "https://LOCALHOST/",
    "https://metadata/",
    "https://mail.provider.test./",
    "https://mail.provider.test../",
    "https://.provider.test/",
    "https://mail..test/",
    "https://-mail.provider.test/",
    "https://mail-.provider.test/",
    "https://mail.provider.test-/",
    "https://mail.provider.t\u0435st/",
    "https://mail\u3002provider\u3002test/",
    "https://mail.provider%2etest/",
    "https://127\u30020\u30020\u30021/",
    "https://\u2460\u2461\u2466.0.0.1/",
    "https://mail.provider.test\u0000.evil.test/",
    f"https://{'a' * 64}.test/",
    # addresses, in all their forms
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://1.1.1.1/",
    "https://2130706433/",
    "https://0177.0.0.1/",
    "https://0x7f.0.0.1/",
    "https://0x7f000001/",
    "https://017700000001/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://1.2.3.4.5/",
    "https://name.0x7f/",
    "https://name.1/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1%25lo]/",
    "https://[fe80::1%lo]/",
    "https://[2a00::1]/",
    "https://[mail.provider.test]/",
    "https://[127.0.0.1]/",
    "https://::1/",
]


@pytest.mark.parametrize("url", REFUSED)
async def test_a_url_of_another_form_is_not_even_resolved(authority: Authority, url: str) -> None:
    names = Names(["127.0.0.1"])
    async with serving(None, answering()) as seen:
        with pytest.raises(FetchRefused) as refused:
            await get(authority, seen, url=url, names=names)
    assert (seen.connections, names.asked) == (0, [])
    assert "provider" not in str(refused.value)


async def test_a_long_url_is_refused(authority: Authority, server_side: ssl.SSLContext) -> None:
    async with serving(server_side, answering(MAIL)) as seen:
        fits = f"https://{HOST}/".ljust(MAX_URL, "a")
        assert await get(authority, seen, url=fits) == b"hello"
        with pytest.raises(FetchRefused):
            await get(authority, seen, url=fits + "a")
    assert seen.connections == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["127.1.2.3"],
        ["0.0.0.0"],
        ["::1"],
        ["::"],
        ["::ffff:127.0.0.1"],
        ["::127.0.0.1"],
        ["1.1.1.1", "127.0.0.1"],
        ["127.0.0.1", "1.1.1.1"],
        ["2a00::1", "1.1.1.1", "1.0.0.1", "1.1.1.2", "1.1.1.3", "127.0.0.1"],
        ["1.1.1.1", "::1"],
        ["10.0.0.1"],
        ["100.64.0.1"],
        ["169.254.169.254"],
        ["192.168.1.1"],
        ["172.16.0.1"],
        ["224.0.0.1"],
        ["255.255.255.255"],
        ["203.0.113.1"],
        ["64:ff9b::7f00:1"],
        ["64:ff9b::a9fe:a9fe"],
        ["2002:7f00:1::1"],
        ["2001:0:7f00:1::"],
        ["fe80::1"],
        ["fd00:ec2::254"],
        ["ff02::1"],
        ["2001:db8::1"],
    ],
    ids=",".join,
)
async def test_a_name_with_an_address_that_is_not_public_reaches_nobody(
    authority: Authority, addresses: list[str]
) -> None:
    """The real policy. Somebody listens on the whole loopback, of both families."""
    names = Names(addresses)
    async with serving(None, answering(), host="") as seen:
        fetcher = Fetcher(names, tls=authority.client(), port=seen.port)
        with pytest.raises(FetchRefused, match="not public"):
            await fetcher.get(URL, max_bytes=10, seconds=SECONDS)
    assert (seen.connections, names.asked) == (0, [HOST])


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "0.0.0.0"])
async def test_the_policy_alone_keeps_it_from_there(authority: Authority, address: str) -> None:
    """The listener of the test above is reached where all is allowed."""
    async with serving(None, answering(), host="") as seen:
        fetcher = Fetcher(Names([address]), tls=authority.client(), allowed=lambda _: True, port=seen.port)
        with pytest.raises(FetchFailed):
            await fetcher.get(URL, max_bytes=10, seconds=SECONDS)
    assert seen.connections > 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target", ["https://127.0.0.1:{port}/", "http://127.0.0.1:{port}/", "https://other.test/", "/a"]
)
async def test_a_redirect_is_not_followed(
    authority: Authority, server_side: ssl.SSLContext, status: int, target: str
) -> None:
    async with serving(None, answering()) as inside:
        head = (
            f"HTTP/1.1 {status} Moved\r\nLocation: {target.format(port=inside.port)}\r\nContent-Length: 5\r\n\r\nhello"
        )
        async with serving(server_side, answering(head.encode())) as seen:
            names = Names(["127.0.0.1"])
            with pytest.raises(FetchFailed, match=str(status)):
                await get(authority, seen, names=names)
    assert (inside.connections, seen.connections, names.asked) == (0, 1, [HOST])


async def test_a_name_that_changes_its_address_is_still_where_it_was(
    authority: Authority, server_side: ssl.SSLContext
) -> None:
    """Rebinding: the first answer may be had, every later one is where somebody listens within our network."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with (
        serving(server_side, answering(MAIL)) as seen,
        serving(None, answering(), host="127.0.0.2", port=seen.port) as inside,
    ):
        assert await get(authority, seen, names=names) == b"hello"
        assert (seen.connections, names.asked) == (1, [HOST])
        with pytest.raises(FetchRefused):
            await get(authority, seen, names=names)
    assert (seen.connections, inside.connections) == (1, 0)


async def test_rebinding_within_one_name_server(authority: Authority, server_side: ssl.SSLContext) -> None:
    """The same with our own resolver and real questions, which are asked once: the time to live is 0."""
    async with (
        NameServer(zone={HOST: [{"A": "127.0.0.1"}]}, seconds=0) as dns,
        serving(server_side, answering(MAIL)) as seen,
    ):
        resolver = Resolver([dns.address])
        got = await get(authority, seen, names=lambda host: addresses_of(resolver.lookup(), host))
        await resolver.close()
    assert got == b"hello"
    assert dns.counts == {(HOST, "A"): 1, (HOST, "AAAA"): 1}


@pytest.mark.parametrize(
    ("zone", "problem"),
    [
        ({HOST: [{"A": "127.0.0.1"}]}, FetchRefused),
        ({HOST: [{"A": "1.1.1.1"}, {"AAAA": "::1"}]}, FetchRefused),
        ({HOST: [{"AAAA": "::ffff:127.0.0.1"}]}, FetchRefused),
        ({HOST: [{"CNAME": "inside.test"}], "inside.test": [{"A": "127.0.0.1"}]}, FetchRefused),
        ({}, FetchFailed),
        ({HOST: [{"TXT": "nothing"}]}, FetchFailed),
        ({HOST: [Fault.SERVFAIL]}, FetchFailed),
    ],
)
async def test_what_dns_says_of_a_name(authority: Authority, zone: Data, problem: type[Exception]) -> None:
    async with NameServer(zone=zone) as dns, serving(None, answering()) as seen:
        resolver = Resolver([dns.address])
        fetcher = Fetcher(lambda host: addresses_of(resolver.lookup(), host), tls=authority.client(), port=seen.port)
        with pytest.raises(problem):
            await fetcher.get(URL, max_bytes=10, seconds=SECONDS)
        await resolver.close()
    assert seen.connections == 0


async def test_a_server_that_is_not_the_host_gets_no_request(authority: Authority, tmp_path: Path) -> None:
    for context in (authority.server("other.test", tmp_path), Authority().server(HOST, tmp_path)):
        async with serving(context, answering(MAIL)) as seen:
            with pytest.raises(FetchFailed):
                await get(authority, seen)
        assert seen.heads == []


async def test_the_world_s_authorities_are_asked_where_no_other_is_given(
    authority: Authority, server_side: ssl.SSLContext
) -> None:
    async with serving(server_side, answering(MAIL)) as seen:
        fetcher = Fetcher(Names(["127.0.0.1"]), allowed=lambda _: True, port=seen.port)
        with pytest.raises(FetchFailed):
            await fetcher.get(URL, max_bytes=10, seconds=SECONDS)
    assert seen.heads == []


# What does not work


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 999 What\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"Content-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=lambda reply: str(reply[:60]),
)
async def test_an_answer_that_is_not_the_whole_thing_has_failed(
    authority: Authority, server_side: ssl.SSLContext, reply: bytes
) -> None:
    async with serving(server_side, answering(reply)) as seen:
        with pytest.raises(FetchFailed) as failed:
            await get(authority, seen)
    assert type(failed.value) is FetchFailed
    assert seen.connections == (2 if not reply else 1)  # the client asks once more where nothing at all was said
    assert "hello" not in str(failed.value)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "identity, gzip", "x-unknown"])
async def test_what_is_compressed_is_not_expanded(
    authority: Authority, server_side: ssl.SSLContext, encoding: str
) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    head = OK + f"Content-Encoding: {encoding}\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    async with serving(server_side, answering(head + bomb)) as seen:
        with pytest.raises(FetchFailed, match="compressed"):
            await get(authority, seen, max_bytes=100_000)


async def test_a_gzip_file_is_a_file(authority: Authority, server_side: ssl.SSLContext) -> None:
    data = gzip.compress(b"hello")
    head = OK + f"Content-Type: application/gzip\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    async with serving(server_side, answering(head + data)) as seen:
        assert await get(authority, seen) == data


async def test_a_size_that_is_told_is_believed_before_anything_is_read(
    authority: Authority, server_side: ssl.SSLContext
) -> None:
    async with serving(server_side, holding(OK + b"Content-Length: 1001\r\n\r\n")) as seen:
        with pytest.raises(FetchTooLarge):
            await get(authority, seen)


async def test_an_endless_answer_is_cut_at_the_bound(authority: Authority, server_side: ssl.SSLContext) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4000\r\n" + b"a" * 0x4000 + b"\r\n")
            sent += 0x4000
            await writer.drain()

    async with serving(server_side, endless) as seen:
        with pytest.raises(FetchTooLarge):
            await get(authority, seen, max_bytes=100_000, seconds=60)
        await asyncio.wait_for(seen.gone.wait(), 10)
    assert sent < 20_000_000


async def test_more_than_was_told_is_not_read(authority: Authority, server_side: ssl.SSLContext) -> None:
    """Whether the rest is noticed at all is a matter of how the pieces arrive."""
    got = b"hello"
    async with serving(server_side, answering(MAIL + b" and much more" * 1000)) as seen:
        with suppress(FetchFailed):
            got = await get(authority, seen)
    assert got == b"hello"


@pytest.mark.parametrize(
    "reply",
    [
        holding(),
        holding(b"HTTP/1.1 200"),
        holding(OK),
        holding(OK + b"Content-Length: 5\r\n\r\nhell"),
        holding(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
async def test_silence_is_ended_by_the_clock(
    authority: Authority, server_side: ssl.SSLContext, reply: Callable[[asyncio.StreamWriter], Awaitable[None]]
) -> None:
    async with serving(server_side, reply) as seen:
        with pytest.raises(FetchFailed, match="in time"):
            await get(authority, seen, seconds=0.3)
    assert seen.connections == 1


async def test_a_slow_drip_is_ended_by_the_clock(authority: Authority, server_side: ssl.SSLContext) -> None:
    """Each byte comes soon after the last: only the time in all can end it."""
    loop = asyncio.get_running_loop()

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 900\r\n\r\n")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(server_side, drip) as seen:
        begun = loop.time()
        with pytest.raises(FetchFailed, match="in time"):
            await get(authority, seen, seconds=0.3)
        assert loop.time() - begun < 5


async def test_endless_interim_answers_are_ended_by_the_clock(
    authority: Authority, server_side: ssl.SSLContext
) -> None:
    async def interim(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(server_side, interim) as seen:
        with pytest.raises(FetchFailed, match="in time"):
            await get(authority, seen, seconds=0.3)


async def test_a_name_that_is_never_answered_is_ended_by_the_clock(authority: Authority) -> None:
    async def silent(name: str) -> Sequence[Address]:
        await asyncio.Event().wait()
        return ()

    fetcher = Fetcher(silent, tls=authority.client())
    with pytest.raises(FetchFailed, match="in time"):
        await fetcher.get(URL, max_bytes=10, seconds=0.05)


async def test_a_handshake_that_stalls_is_ended_by_the_clock(authority: Authority) -> None:
    async with serving(None, answering()) as plain:
        with pytest.raises(FetchFailed):
            await get(authority, plain, seconds=0.3)


async def test_nobody_at_home_has_failed(authority: Authority) -> None:
    async with serving(None, answering()) as seen:
        pass
    with pytest.raises(FetchFailed):
        await get(authority, seen)


async def test_who_gives_up_waiting_is_not_told_of_a_failure(authority: Authority, server_side: ssl.SSLContext) -> None:
    """A cancellation stays one, and the connection is closed."""
    async with serving(server_side, holding(OK + b"Content-Length: 5\r\n\r\nhe")) as seen:
        task = asyncio.create_task(get(authority, seen))
        await asyncio.wait_for(seen.came.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(seen.gone.wait(), 10)


# Whatever a stranger writes


@given(st.text(max_size=60) | st.text(alphabet="htps:/@.[]#?%\\0127x\u3002 a", max_size=40).map("https://".__add__))
async def test_any_text_is_refused_or_has_a_name_for_a_host(url: str) -> None:
    names = Names([])
    try:
        await Fetcher(names, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).get(url, max_bytes=1, seconds=SECONDS)
    except FetchRefused:
        assert names.asked == []
    except FetchFailed:
        (host,) = names.asked
        assert host.isascii()
        assert host.rpartition(".")[2][0].isalpha()


@pytest.mark.parametrize(
    "url",
    [
        "https://" + "a." * (MAX_URL // 2),
        "https://" + "a" * MAX_URL,
        "https://" + "a-" * (MAX_URL // 2),
        "https://" + ("a" * 63 + ".") * 120,
        "https://" + ("-" * 63 + ".") * 120,
        "https://" + "a.b" * 2000 + ":443",
        "https://a.b/" + "a" * 8000 + "#",
    ],
    ids=lambda url: url[:20],
)
def test_the_worst_url_costs_little(url: str) -> None:
    async def refused() -> None:
        with pytest.raises((FetchRefused, FetchFailed)):
            await fetcher.get(url, max_bytes=1, seconds=SECONDS)

    fetcher = Fetcher(Names([]), tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert_cheap(lambda: asyncio.run(refused()), seconds=0.02)
