"""The spam gate, against servers that say what the test wants, and against the real rspamd."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import structlog
from aiohttp import ClientSession, web
from structlog.testing import capture_logs

from ingester.settings import SettingsError, Spam, load
from ingester.spam import (
    MAX_ANSWER,
    MAX_RECIPIENTS,
    MAX_SYMBOLS,
    MAX_SYMBOLS_TEXT,
    SpamAction,
    SpamGate,
    SpamVerdict,
    Symbol,
    request_headers,
)
from tests import rspamd
from tests.cost import assert_loop_goes_on
from tests.ports import free_port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAIL = (
    b"From: Ada <ada@customer.example>\r\nTo: support@acme.example\r\nSubject: %s\r\n"
    b"Date: Mon, 20 Jul 2026 10:00:00 +0000\r\nMessage-ID: <1@customer.example>\r\n\r\n%s\r\n"
)
HAM = MAIL % (b"Hello", b"It works.")


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that no test before has bound to a configuration of its own."""
    monkeypatch.setattr("ingester.spam._log", structlog.get_logger())


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """An HTTP server whose /checkv2 is the handler, and its URL."""
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/checkv2", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/checkv2"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def gate(
    url: str, *, seconds: float = 10, max_bytes: int = 1 << 20, in_flight: int = 20
) -> AsyncIterator[SpamGate]:
    made = SpamGate(Spam(url=url, seconds=seconds, max_bytes=max_bytes, in_flight=in_flight))
    try:
        yield made
    finally:
        await made.close()


async def ask(spam: SpamGate, raw: bytes = HAM, *, mail_from: str = "ada@customer.example") -> SpamVerdict:
    return await spam.judge(
        raw, ip="192.0.2.1", helo="mx.customer.example", mail_from=mail_from, recipients=["support@acme.example"]
    )


def says(answer: object, *, status: int = 200) -> Handler:
    """A server that says the same to everybody: JSON, or bytes as they are."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, status=status, content_type="application/json")

    return handler


def answer(action: str, **more: object) -> dict[str, object]:
    return {"is_skipped": False, "action": action, "score": 7.5, "required_score": 15.0, "symbols": {}} | more


async def verdict_on(said: object, raw: bytes = HAM, *, status: int = 200) -> SpamVerdict:
    async with serving(says(said, status=status)) as url, gate(url) as spam:
        return await ask(spam, raw)


async def test_without_a_url_nobody_is_asked() -> None:
    assert Spam().url == ""
    async with gate("") as spam:
        assert not spam.on
        assert await ask(spam) == SpamVerdict(action=SpamAction.ACCEPT, note="off")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:11333",
        "http://127.0.0.1:11333",
        "http:///checkv2",
        "ftp://127.0.0.1/checkv2",
        "http://127.0.0.1:99999/checkv2",
        "http://[::1/checkv2",
        "http://user:password@127.0.0.1/checkv2",
        "http://127.0.0.1/check v2/checkv2",
    ],
)
def test_a_wrong_url_is_refused_at_start(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"INGESTER_SPAM__URL": url})
    assert str(caught.value) == "INGESTER_SPAM__URL: must be like http://127.0.0.1:11333/checkv2"
    assert load({"INGESTER_SPAM__URL": "http://[::1]:11333/checkv2"}).spam.url == "http://[::1]:11333/checkv2"


@pytest.mark.parametrize(
    ("action", "ours"),
    [
        ("no action", SpamAction.ACCEPT),
        ("greylist", SpamAction.FLAG),
        ("add header", SpamAction.FLAG),
        ("rewrite subject", SpamAction.FLAG),
        ("quarantine", SpamAction.FLAG),
        ("discard", SpamAction.FLAG),
        ("soft reject", SpamAction.DEFER),
        ("reject", SpamAction.REFUSE),
    ],
)
async def test_every_action_of_rspamd_has_its_word(action: str, ours: SpamAction) -> None:
    symbols = {
        "BAYES_HAM": {"name": "BAYES_HAM", "score": -3.0, "options": ["99%"]},
        "MIME_GOOD": {"score": -0.1},
        "R_SPF_FAIL": {"score": 1, "description": "x"},
    }
    assert await verdict_on(answer(action, symbols=symbols)) == SpamVerdict(
        action=ours,
        score=7.5,
        required=15.0,
        symbols=(
            Symbol(name="BAYES_HAM", score=-3.0),
            Symbol(name="R_SPF_FAIL", score=1.0),
            Symbol(name="MIME_GOOD", score=-0.1),
        ),
        note=action,
    )


@pytest.mark.parametrize(
    ("said", "note"),
    [
        (b"", "answer not understood"),
        (b"<html>It works!</html>", "answer not understood"),
        (b"\xff\xfe\x00", "answer not understood"),
        (b"null", "answer not understood"),
        (b"[]", "answer not understood"),
        (b"{}", "answer not understood"),
        (b"[" * 500_000, "answer not understood"),
        (b'{"action": "reject", "score": 1, "x": ' + b"[" * 500_000, "answer not understood"),
        (b'{"action": "reject", "score": NaN}', "answer not understood"),
        (b'{"action": "reject", "score": 1, "required_score": 1e400}', "answer not understood"),
        (b'{"action": "reject", "score": 1, "symbols": {"A": {"score": 1e400}}}', "answer not understood"),
        (b'{"action": "reject", "score": ' + b"9" * 5000 + b"}", "answer not understood"),
        (b'{"action": "reject", "score": "15"}', "answer not understood"),
        (b'{"action": "reject"}', "answer not understood"),
        (b'{"action": "reject", "score": 15, "symbols": ["A"]}', "answer not understood"),
        (b'{"action": "\\ud800", "score": 15}', "answer not understood"),
        (gzip.compress(json.dumps(answer("reject")).encode(), mtime=0), "answer not understood"),
        (answer("accept everything"), "action not known"),
        (answer("REJECT"), "action not known"),
        (answer("no action", filler="x" * MAX_ANSWER), "answer too large"),
    ],
    ids=lambda said: repr(said)[:40],
)
async def test_rubbish_is_unknown(said: object, note: str) -> None:
    assert await verdict_on(said) == SpamVerdict(action=SpamAction.UNKNOWN, note=note)


@pytest.mark.parametrize("status", [204, 301, 400, 403, 404, 429, 500, 503])
async def test_whatever_else_than_200_is_unknown(status: int) -> None:
    assert await verdict_on(answer("reject"), status=status) == SpamVerdict(
        action=SpamAction.UNKNOWN, note=f"http {status}"
    )


async def test_of_many_or_strange_symbols_only_some_are_kept() -> None:
    many = {f"RULE_{number}": {"score": number} for number in range(1000)}
    strange = {"A\0B": {"score": 1e6}, "a mail's words": {"score": 1e6}, "L" * 65: {"score": 1e6}, "": {"score": 1e6}}
    verdict = await verdict_on(answer("reject", symbols=many | strange))
    assert [one.name for one in verdict.symbols] == [f"RULE_{999 - place}" for place in range(MAX_SYMBOLS)]


async def test_what_else_is_in_the_answer_may_be_long_and_the_symbols_are_left_out_when_they_are() -> None:
    urls = [f"host{number}.example" for number in range(10_240)]
    symbols = {"RULE": {"score": 1.0, "options": ["x" * 1000]}}
    verdict = await verdict_on(answer("reject", symbols=symbols, urls=urls))
    assert verdict.symbols == (Symbol(name="RULE", score=1.0),)
    verdict = await verdict_on(answer("reject", symbols={"RULE": {"options": ["x" * MAX_SYMBOLS_TEXT]}}))
    assert (verdict.action, verdict.score, verdict.symbols) == (SpamAction.REFUSE, 7.5, ())


async def test_an_endless_answer_is_cut_off() -> None:
    gone = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        finally:
            gone.set()

    async with serving(handler) as url, gate(url) as spam:
        tracemalloc.start()
        try:
            assert (await ask(spam)).note == "answer too large"
            assert tracemalloc.get_traced_memory()[1] < 3 * MAX_ANSWER
        finally:
            tracemalloc.stop()
        async with asyncio.timeout(10):
            await gone.wait()


async def test_a_compressed_answer_is_not_unpacked() -> None:
    """64 MiB of blanks are 64 KiB on the wire."""

    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        packed = gzip.compress(json.dumps(answer("reject")).encode() + b" " * (64 << 20))
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with serving(handler) as url, gate(url) as spam:
        assert (await ask(spam)).note == "answer not understood"


async def test_a_redirection_is_not_followed() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(status=307, headers={"Location": "/checkv2?again"})

    async with serving(handler) as url, gate(url) as spam:
        assert (await ask(spam)).note == "http 307"
    assert asked == ["/checkv2"]


async def test_one_who_does_not_answer_is_given_up_in_time() -> None:
    gone = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    async with serving(handler) as url, gate(url, seconds=0.2) as spam:
        before = asyncio.get_running_loop().time()
        assert await ask(spam) == SpamVerdict(action=SpamAction.UNKNOWN, note="timeout")
        assert 0.2 <= asyncio.get_running_loop().time() - before < 5


async def test_one_who_drips_is_given_up_in_time() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    async with serving(handler) as url, gate(url, seconds=0.3) as spam:
        assert (await ask(spam)).note == "timeout"


async def test_a_closed_port_is_unknown_and_said_once() -> None:
    with capture_logs() as logs:
        async with gate(f"http://127.0.0.1:{free_port()}/checkv2") as spam:
            for _ in range(3):
                assert await ask(spam) == SpamVerdict(action=SpamAction.UNKNOWN, note="unreachable")
    assert logs == [{"event": "spam.no_verdict", "reason": "unreachable", "log_level": "warning"}]


async def test_when_it_answers_again_that_is_said() -> None:
    answers = iter([500, 500, 200, 200])

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answer("no action"), status=next(answers))

    with capture_logs() as logs:
        async with serving(handler) as url, gate(url) as spam:
            said = [(await ask(spam)).action.value for _ in range(4)]
    assert said == ["unknown", "unknown", "accept", "accept"]
    assert [entry["event"] for entry in logs] == ["spam.no_verdict", "spam.verdicts_again"]


@asynccontextmanager
async def bare(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A TCP server that need not speak HTTP, and its URL."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/checkv2"


async def request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One HTTP request off the wire: its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return head, await reader.readexactly(int(length.partition(b":")[2]))


def reply(said: dict[str, object]) -> bytes:
    body = json.dumps(said).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    "line", [b"", b"220 mx.acme.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", b"\0" * 100]
)
async def test_what_is_no_http_is_unknown(line: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(line)

    async with bare(talk) as url, gate(url) as spam:
        assert await ask(spam) == SpamVerdict(action=SpamAction.UNKNOWN, note="unreachable")


async def test_an_old_connection_that_was_just_given_up_costs_no_verdict() -> None:
    """aiohttp does not bring a POST again by itself: it cannot know that asking twice does no harm."""
    asked: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(reply(answer("no action")))
        await request(reader)  # the second one is heard, and the connection ends
        asked.append(2)

    async with bare(talk) as url, gate(url) as spam:
        said = [(await ask(spam)).action.value for _ in range(2)]
    assert (said, asked) == (["accept", "accept"], [2])


async def test_connections_are_used_again_and_never_more_than_allowed() -> None:
    peers: set[object] = set()
    together = asyncio.Barrier(3)
    now = most = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal now, most
        assert request.transport
        peers.add(request.transport.get_extra_info("peername"))
        now += 1
        most = max(most, now)
        await request.read()
        await together.wait()
        now -= 1
        return web.json_response(answer("no action"))

    async with serving(handler) as url, gate(url, in_flight=3) as spam:
        verdicts = await asyncio.gather(*(ask(spam) for _ in range(30)))
    assert {verdict.action for verdict in verdicts} == {SpamAction.ACCEPT}
    assert most == len(peers) == 3


async def test_closing_ends_the_questions_on_their_way() -> None:
    asked = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(handler) as url, gate(url, in_flight=1) as spam:
        questions = [asyncio.create_task(ask(spam)) for _ in range(3)]  # one asks, two wait for a place
        await asked.wait()
        await spam.close()
        closed = SpamVerdict(action=SpamAction.UNKNOWN, note="closed")
        assert await asyncio.gather(*questions) == [closed] * 3
        assert await ask(spam) == closed


async def test_one_who_goes_away_takes_the_question_along() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    async with serving(handler) as url, gate(url) as spam:
        question = asyncio.create_task(ask(spam))
        await asked.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        async with asyncio.timeout(10):
            await gone.wait()


async def heard(raw: bytes = HAM, *, max_bytes: int = 1 << 20, **facts: object) -> tuple[list[bytes], bytes]:
    """What stands on the wire for one question: the lines of the head, and the body."""
    found: list[tuple[bytes, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.append(await request(reader))
        writer.write(reply(answer("no action")))

    given = {"ip": "192.0.2.1", "helo": None, "mail_from": "", "recipients": ()} | facts
    async with bare(talk) as url, gate(url, max_bytes=max_bytes) as spam:
        verdict = await spam.judge(raw, **given)  # type: ignore[arg-type]  # the table's rows
    assert verdict.action is SpamAction.ACCEPT
    [(head, body)] = found
    return head.split(b"\r\n"), body


async def test_rspamd_is_told_the_envelope_and_given_the_bytes() -> None:
    lines, body = await heard(
        ip="::ffff:192.0.2.9",
        helo="mx.customer.example",
        mail_from="ada@customer.example",
        recipients=["support@acme.example", "sales@acme.example"],
        queue_id="0198-7",
    )
    assert body == HAM
    assert lines[0] == b"POST /checkv2 HTTP/1.1"
    ours = [line for line in lines if line.partition(b":")[0] in (b"IP", b"Helo", b"From", b"Rcpt", b"Queue-Id")]
    assert ours == [
        b"IP: 192.0.2.9",
        b"Helo: mx.customer.example",
        b"From: <ada@customer.example>",
        b"Rcpt: <support@acme.example>",
        b"Rcpt: <sales@acme.example>",
        b"Queue-Id: 0198-7",
    ]


@pytest.mark.parametrize(("ip", "line"), [("fe80::1%eth0", b"IP: fe80::1"), ("2001:db8::1", b"IP: 2001:db8::1")])
async def test_an_address_is_told_without_its_zone(ip: str, line: bytes) -> None:
    assert line in (await heard(ip=ip))[0]


@pytest.mark.parametrize("ip", ["", "unknown", "192.0.2.1\r\nSettings-ID: x", "/run/socket"])
async def test_a_peer_without_an_address_has_none(ip: str) -> None:
    assert not [line for line in (await heard(ip=ip))[0] if line.startswith((b"IP:", b"Settings-ID:"))]


@pytest.mark.parametrize(
    "text",
    [
        "a\r\nSettings-ID: trusted",
        "a\nSettings-ID: trusted",
        "a\rSettings-ID: trusted",
        "a\r\n\r\nGET / HTTP/1.1",
        "a\0b",
        "a\x0b\x0c\x1b\x7f\x85\u2028\u2029",
        "\ud800\udfff",
        "jürgen@例え.example",
        "x" * 100_000,
    ],
)
async def test_strangers_text_stays_in_its_header(text: str) -> None:
    plain, _ = await heard(helo="h", mail_from="m", recipients=["r"], queue_id="q")
    lines, body = await heard(helo=text, mail_from=text, recipients=[text], queue_id=text)
    names = [line.partition(b":")[0] for line in lines]
    assert names == [line.partition(b":")[0] for line in plain]
    assert body == HAM
    assert max(map(len, lines)) < 2100
    assert not [line for line in lines if any(octet < 32 or octet == 127 for octet in line)]


async def test_of_many_recipients_the_first_are_told() -> None:
    lines, _ = await heard(recipients=[f"r{number}@acme.example" for number in range(1000)])
    told = [line for line in lines if line.startswith(b"Rcpt:")]
    assert told == [b"Rcpt: <r%d@acme.example>" % number for number in range(MAX_RECIPIENTS)]


async def test_of_a_large_mail_the_beginning_is_sent_and_turns_nothing_away() -> None:
    large = HAM + b"x" * 5000
    _, body = await heard(large, max_bytes=2000)
    assert body == large[:2000]
    for action, ours in (("reject", "flag"), ("soft reject", "flag"), ("add header", "flag"), ("no action", "accept")):
        async with serving(says(answer(action))) as url, gate(url, max_bytes=2000) as spam:
            verdict = await ask(spam, large)
            assert (verdict.action, verdict.score, verdict.note) == (ours, 7.5, f"{action}, of the first bytes")
            assert (await ask(spam, large[:2000])).note == action
    async with serving(says(b"")) as url, gate(url, max_bytes=2000) as spam:
        assert (await ask(spam, large)).note == "answer not understood"


async def test_a_mail_of_the_largest_size_does_not_hold_the_loop() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = 25 << 20
        while left:
            left -= len(await reader.read(65536))
        writer.write(reply(answer("no action")))

    async with bare(talk) as url, gate(url, max_bytes=25 << 20) as spam:
        mail = b"x" * (25 << 20)
        verdict = await assert_loop_goes_on(lambda: ask(spam, mail), seconds=0.25)  # ten times what is allowed
    assert verdict.action is SpamAction.ACCEPT


@pytest.fixture(scope="module")
def real_rspamd() -> Iterator[str]:
    with rspamd.running() as url:
        yield url


async def test_the_real_rspamd_rejects_gtube_and_takes_ham(real_rspamd: str) -> None:
    async with gate(real_rspamd) as spam:
        refused = await ask(spam, MAIL % (b"Hello", rspamd.GTUBE.encode()))
        assert (refused.action, refused.required, refused.note) == (SpamAction.REFUSE, 15.0, "reject")
        assert "GTUBE" in [one.name for one in refused.symbols]
        taken = await ask(spam)
        assert (taken.action, taken.score, taken.note) == (SpamAction.ACCEPT, 0.0, "no action")


@pytest.mark.parametrize(
    ("action", "ours", "symbol"),
    [
        ("greylist", SpamAction.FLAG, Symbol(name="SUBJECT_GREYLIST", score=5.0)),
        ("add header", SpamAction.FLAG, Symbol(name="SUBJECT_ADD_HEADER", score=7.0)),
        ("rewrite subject", SpamAction.FLAG, Symbol(name="SUBJECT_REWRITE", score=9.0)),
        ("soft reject", SpamAction.DEFER, None),
    ],
)
async def test_the_real_rspamd_says_the_words_that_we_know(
    real_rspamd: str, action: str, ours: SpamAction, symbol: Symbol | None
) -> None:
    async with gate(real_rspamd) as spam:
        verdict = await ask(spam, MAIL % (action.encode(), b"It works."))
    assert (verdict.action, verdict.note) == (ours, action)
    assert symbol is None or (verdict.symbols[0] == symbol and verdict.score == symbol.score)


async def test_the_real_rspamd_understands_the_envelope_that_it_is_told(real_rspamd: str) -> None:
    """Asked without the gate, which keeps nothing of what rspamd quotes."""
    told = [
        ("ada@customer.example", ["support@acme.example", '"a, b"@acme.example'], "from=ada@customer.example"),
        ("", ["support@acme.example"], "from="),
        ("x>\r\nRcpt: <evil@acme.example", ["support@acme.example"], "from="),
    ]
    async with ClientSession() as session:
        for mail_from, recipients, sender in told:
            headers = request_headers(
                ip="::ffff:192.0.2.9",
                helo="mx\r\nIP: 9.9.9.9",
                mail_from=mail_from,
                recipients=recipients,
                queue_id="q-1",
            )
            async with session.post(real_rspamd, data=HAM, headers=headers) as response:
                said = await response.json()
            rcpt = " ".join(recipients).replace('"', "")
            assert said["symbols"]["ENVELOPE"]["options"] == [
                "ip=192.0.2.9",
                "helo=mx??IP: 9.9.9.9",
                sender,
                f"rcpt={rcpt}",
                "queue_id=q-1",
            ]


async def test_a_mail_of_many_links_does_not_escape_the_real_rspamd(real_rspamd: str) -> None:
    """It names them in its answer, two hundred kilobytes of it."""
    links = b"".join(b"http://host%d.example/ and m%d@host%d.example\r\n" % (one, one, one) for one in range(20_000))
    async with gate(real_rspamd, max_bytes=1 << 22) as spam:
        assert (await ask(spam, MAIL % (b"add header", links))).note == "add header"


@pytest.mark.parametrize("raw", [b"", b"\0" * 5000, bytes(range(256)) * 100, b"\r\n" * 10_000], ids=len)
async def test_the_real_rspamd_has_a_verdict_on_what_is_no_mail(real_rspamd: str, raw: bytes) -> None:
    async with gate(real_rspamd) as spam:
        assert (await ask(spam, raw)).action is SpamAction.ACCEPT
