"""The benchmark itself: a corpus that is what it says, a driver that counts right, an audit that sees a loss."""

import asyncio
import email
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from email.message import Message
from io import StringIO
from pathlib import Path
from uuid import UUID

import asyncpg
import dkim
import pytest
from click.testing import CliRunner
from rich.console import Console

from ingester.transport.proxy import Proxied, parse_proxy
from tests.bench import corpus as corpora
from tests.bench import e2e, report
from tests.bench.__main__ import main
from tests.bench.audit import Rows, audit
from tests.bench.contestants import Name
from tests.bench.corpus import Corpus, Mail
from tests.bench.driver import CLIENTS, Answer, Plan, Result, Retry, introduction, run, run_apart
from tests.bench.shapes import SHARES, Shape
from tests.bench.sign import relax_body, relax_field
from tests.bench.sink import sink
from tests.bench.subject import TENANT, fill_directory

pytestmark = pytest.mark.thorough

SEED = 7
COUNT = 200
FIRST_FORTY = "52331e4b47f10e5e6fa219d5669b3fa1bd260adccb671f04e72926fceccc8a1f"
"""Over the raw hashes of the first 40 mails of seed 7. A change here is a new corpus: raise corpus.VERSION with it."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpora")


@pytest.fixture(scope="module")
def corpus(cache: Path) -> Corpus:
    return corpora.load(seed=SEED, count=COUNT, cache=cache)


def leaves(message: Message) -> int:
    """As the design page counts: message/rfc822 is one leaf."""
    return sum(
        not part.is_multipart() or part.get_content_maintype() == "message"
        for part in walk(message)
        if part.get_content_maintype() != "multipart"
    )


def walk(message: Message) -> list[Message]:
    """Depth first, without entering a message/rfc822."""
    found = [message]
    if message.get_content_maintype() == "multipart":
        for part in message.get_payload():
            assert isinstance(part, Message)
            found += walk(part)
    return found


# The corpus


def test_the_corpus_depends_on_the_seed_alone(corpus: Corpus, tmp_path: Path) -> None:
    again = corpora.load(seed=SEED, count=40, cache=tmp_path)
    other = corpora.load(seed=SEED + 1, count=2, cache=tmp_path)
    digest = hashlib.sha256("".join(mail.sha256 for mail in again.mails).encode()).hexdigest()
    assert again.mails == corpus.mails[:40]
    assert again.zone == corpus.zone
    assert not {mail.message_id for mail in other.mails} & {mail.message_id for mail in corpus.mails}
    assert digest == FIRST_FORTY


def test_a_corpus_comes_from_the_cache_the_second_time(corpus: Corpus, cache: Path) -> None:
    built = corpus.wire.stat()
    assert corpora.load(seed=SEED, count=COUNT, cache=cache) == corpus
    assert corpus.wire.stat().st_ino == built.st_ino
    assert not list(cache.glob("building-*"))


def test_shares_and_sizes_are_those_of_the_speed_issue(corpus: Corpus) -> None:
    shares = Counter(mail.shape for mail in corpus.mails)
    assert shares == {shape: share * COUNT // 100 for shape, share in SHARES.items()}
    assert all(3_000 <= mail.size <= 15_360 for mail in corpus.mails if mail.shape is Shape.REPLY)
    assert all(5_000_000 <= mail.size <= 10_000_000 for mail in corpus.mails if mail.shape is Shape.BIG)
    assert 140_000 < corpus.mean_bytes < 176_000


def test_an_independent_parser_finds_the_parts_and_the_headers(corpus: Corpus) -> None:
    for mail in corpus.mails:
        raw = corpus.raw(mail)
        message = email.message_from_bytes(raw)
        assert hashlib.sha256(raw).hexdigest() == mail.sha256
        assert len(raw) == mail.size
        assert raw.isascii() is not mail.eight_bit
        assert raw.count(b"\n") == raw.count(b"\r") == raw.count(b"\r\n")
        assert leaves(message) == mail.parts
        assert not any(part.defects for part in walk(message))
        assert message["Message-ID"] == f"<{mail.message_id}>"
        assert message["To"] == f"<{mail.recipient}>"
        assert f"<{mail.sender}>" in message["From"]


def test_shapes_are_built_as_named(corpus: Corpus) -> None:
    for mail in corpus.mails:
        types = [part.get_content_type() for part in walk(email.message_from_bytes(corpus.raw(mail)))]
        match mail.shape:
            case Shape.INLINE:
                nested = ["multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html"]
                assert types[:5] == nested
            case Shape.FORWARD:
                assert types[-1] == "message/rfc822"
            case Shape.ATTACHMENTS:
                assert 1 <= sum(not one.startswith(("text/", "multipart/")) for one in types) <= 3
            case Shape.REPLY:
                assert set(types) <= {"text/plain", "text/html", "multipart/alternative"}


def test_replies_cite_earlier_mails_to_the_same_address(corpus: Corpus) -> None:
    seen: dict[str, Mail] = {}
    answering = 0
    for mail in corpus.mails:
        message = email.message_from_bytes(corpus.raw(mail))
        cited = f"{message.get('In-Reply-To', '')} {message.get('References', '')}".replace("<", "").replace(">", "")
        parents = [seen[name] for name in cited.split() if name in seen]
        assert all((one.thread, one.recipient) == (mail.thread, mail.recipient) for one in parents)
        assert bool(parents) is mail.answers
        answering += mail.answers
        seen[mail.message_id] = mail
    assert len(seen) == COUNT
    assert COUNT * 0.4 < answering < COUNT * 0.8


def test_dkimpy_verifies_every_shape_from_every_domain(corpus: Corpus) -> None:
    kinds = {(mail.shape, mail.sender.partition("@")[2]): mail for mail in corpus.mails if mail.shape is not Shape.BIG}

    def txt(name: bytes, timeout: int = 5) -> bytes:
        return corpus.zone[name.decode().rstrip(".")][0].encode()

    assert len({domain for _, domain in kinds}) == 6
    for mail in kinds.values():
        raw = corpus.raw(mail)
        assert dkim.verify(raw, dnsfunc=txt), mail
        assert not dkim.verify(raw.replace(b"Subject: ", b"Subject: x", 1), dnsfunc=txt)


def test_every_sender_has_its_records(corpus: Corpus) -> None:
    for domain in {mail.sender.partition("@")[2] for mail in corpus.mails}:
        assert corpus.zone[domain][0].startswith("v=spf1 ")
        assert corpus.zone[f"_dmarc.{domain}"][0].startswith("v=DMARC1;")
    included = [word.partition("include:")[2] for texts in corpus.zone.values() for word in texts[0].split()]
    assert all(name in corpus.zone for name in included if name)


@pytest.mark.parametrize(
    ("body", "relaxed"),
    [
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),
        (b"a", b"a\r\n"),
        (b"a  \t \r\n \t\r\nb\t\tc\r\n", b"a\r\n\r\nb c\r\n"),
    ],
)
def test_the_body_is_relaxed_as_rfc_6376_says(body: bytes, relaxed: bytes) -> None:
    assert relax_body(body) == relaxed


def test_a_field_is_relaxed_as_rfc_6376_says() -> None:
    assert relax_field(b"SUBJect :  A \t B\r\n\t C  \r\n") == b"subject:A B C"


# The driver


def test_the_driver_delivers_everything_once(corpus: Corpus) -> None:
    with sink() as port:
        plan = Plan(host="127.0.0.1", port=port, corpus=corpus, first=10, count=150, connections=5, reuse=7)
        result = run_apart(plan)
    assert sorted(result.accepted) == list(range(10, 160))
    assert result.bytes_accepted == sum(mail.size for mail in corpus.mails[10:160])
    assert not result.stalled
    assert 0 < result.cpu_seconds < 60
    assert all(0 < answer.started < answer.ended for answer in result.answers)


Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def drive(session: Session, corpus: Corpus, *, count: int, retry: Retry | None = None) -> Result:
    """Run the driver on one connection against a scripted server."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"220 script\r\n")
            await session(reader, writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24) as server:
        port = server.sockets[0].getsockname()[1]
        plan = Plan(host="127.0.0.1", port=port, corpus=corpus, first=0, count=count, connections=1, retry=retry)
        return await asyncio.to_thread(run, plan)


def script(*replies: bytes) -> tuple[Session, list[str]]:
    """A server that answers everything with yes, but the end of each mail with the next of `replies`; b"" hangs up."""
    left, heard = list(replies), list[str]()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while verb := (await reader.readline())[:4]:
            heard.append(verb.decode())
            if verb == b"EHLO":
                writer.write(b"250-script\r\n250 PIPELINING\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                if not (reply := left.pop(0)):
                    return
                writer.write(reply)
            else:
                writer.write(b"250 ok\r\n")

    return session, heard


async def test_without_retry_each_mail_is_tried_once(corpus: Corpus) -> None:
    session, heard = script(b"250 ok\r\n", b"451-later\r\n451 later\r\n", b"", b"554 no\r\n")
    result = await drive(session, corpus, count=4)
    assert [(answer.mail, answer.code) for answer in result.answers] == [(0, 250), (1, 451), (2, 0), (3, 554)]
    assert result.accepted == [0]
    assert heard.count("EHLO") == 2


async def test_with_retry_it_comes_again_until_the_answer_is_final(corpus: Corpus) -> None:
    session, _ = script(b"451 later\r\n", b"", b"421 bye\r\n", b"250 ok\r\n", b"554 no\r\n")
    result = await drive(session, corpus, count=2, retry=Retry(first=0.01, longest=0.02))
    assert Counter(answer.mail for answer in result.answers).total() == 5
    assert [answer.code for answer in result.answers if answer.final] == [250, 554]
    assert {answer.mail for answer in result.answers if answer.final} == {0, 1}


async def test_a_refused_recipient_leaves_the_connection_usable(corpus: Corpus) -> None:
    heard: list[bytes] = []

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipients = iter((b"550 5.1.1 no\r\n", b"550 5.1.1 no\r\n", b"250 ok\r\n"))
        end_of_group = iter((b"503 no recipients\r\n", b"354 go\r\n", b"354 go\r\n"))
        while line := await reader.readline():
            heard.append(line[:4].strip())
            match line[:4]:
                case b"RCPT":
                    writer.write(next(recipients))
                case b"EHLO":
                    writer.write(b"250-script\r\n250 PIPELINING\r\n")
                case b"DATA":
                    writer.write(reply := next(end_of_group))
                    if reply.startswith(b"354"):
                        while await reader.readline() != b".\r\n":
                            pass
                        writer.write(b"250 ok\r\n" if len(heard) > 10 else b"554 no valid recipients\r\n")
                case _:
                    writer.write(b"250 ok\r\n")

    result = await drive(session, corpus, count=3)
    assert [answer.code for answer in result.answers] == [550, 550, 250]
    assert heard.count(b"RSET") == 2


@pytest.mark.parametrize("offered", [True, False])
async def test_commands_go_out_together_only_where_the_server_offers_it(corpus: Corpus, offered: bool) -> None:
    ahead: list[tuple[bytes, bytes]] = []

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipients = iter((b"250 ok\r\n", b"550 5.1.1 no\r\n", b"250 ok\r\n"))
        while verb := (await reader.readline())[:4]:
            ahead.append((verb, bytes(reader._buffer)))  # type: ignore[attr-defined]
            match verb:
                case b"EHLO":
                    writer.write(b"250-script\r\n" + (b"250-PIPELINING\r\n" if offered else b"") + b"250 SIZE\r\n")
                case b"RCPT":
                    writer.write(next(recipients))
                case b"DATA" if not offered or len(ahead) != 7:
                    writer.write(b"354 go\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    writer.write(b"250 ok\r\n")
                case b"DATA":
                    writer.write(b"503 no recipients\r\n")
                case _:
                    writer.write(b"250 ok\r\n")

    result = await drive(session, corpus, count=3)
    assert [answer.code for answer in result.answers] == [250, 550, 250]
    assert any(more for _, more in ahead) is offered
    assert [verb for verb, _ in ahead].count(b"DATA") == (3 if offered else 2)


async def test_a_proxy_header_comes_before_the_greeting_is_read(corpus: Corpus) -> None:
    introduced: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        introduced.append(await reader.readline())
        writer.write(b"220 script\r\n")
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        plan = Plan(
            host="127.0.0.1",
            port=port,
            corpus=corpus,
            first=0,
            count=1,
            connections=1,
            proxied=True,
            stall_seconds=5,
        )
        await asyncio.to_thread(run, plan)
    headers = [parse_proxy(line) for line in introduced[:2]]
    assert headers == [Proxied(length=len(introduction(client)), source=client) for client in CLIENTS[:2]]


async def test_a_silent_server_ends_the_run(corpus: Corpus) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await session(reader, writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        plan = Plan(host="127.0.0.1", port=port, corpus=corpus, first=0, count=1, connections=1, stall_seconds=0.2)
        result = await asyncio.to_thread(run, plan)
    assert result.stalled
    assert result.answers == ()


async def test_a_server_that_is_gone_ends_the_run(corpus: Corpus) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        plan = Plan(host="127.0.0.1", port=port, corpus=corpus, first=0, count=3, connections=2)
        result = await asyncio.to_thread(run, plan)
    assert result.stalled
    assert result.answers == ()


# The audit


def answers(*mails: int, code: int = 250) -> tuple[Answer, ...]:
    return tuple(Answer(mail=mail, code=code, started=0, ended=1) for mail in mails)


async def store(
    connection: asyncpg.Connection,
    mail: Mail,
    raw: bytes,
    *,
    parts: int,
    receipts: int = 1,
    verdicts: tuple[str, str, str] = ("pass", "pass", "pass"),
) -> None:
    """Rows as the daemon would write them, as far as the audit looks."""
    own = UUID(int=TENANT.int + 4096 + int(mail.sha256[:8], 16))
    await connection.execute(
        "INSERT INTO raws (tenant_id, id, sha256, size, data) VALUES ($1, $2, $3, $4, $5)",
        *(TENANT, own, hashlib.sha256(raw).digest(), len(raw), raw),
    )
    await connection.execute(
        """
        INSERT INTO messages (tenant_id, id, mailbox_id, thread_id, direction, kind, status, rfc_message_id,
                              rfc_id_hash, reply_match_status, raw_id, spf, dkim, dmarc, received_at)
        VALUES ($1, $2, $2, $2, 'inbound', 'new', 'received', $3, '', 'unmatched', $2, $4, $5, $6, now())
        """,
        *(TENANT, own, mail.message_id, *verdicts),
    )
    for number in range(parts):
        await connection.execute(
            """
            INSERT INTO parts (tenant_id, message_id, ordinal, path, role, content_type, encoding, "offset", length,
                               decoded_size, sha256)
            VALUES ($1, $2, $3, '1', 'body', 'text/plain', '7bit', 0, 0, 0, '')
            """,
            *(TENANT, own, number + 1),
        )
    for number in range(receipts):
        await connection.execute(
            """
            INSERT INTO receipts (tenant_id, id, arrival_id, message_id, door, envelope_from, envelope_to, raw_sha256,
                                  received_at, duplicate)
            VALUES ($1, $2, $3, $3, 'smtp', '', '{}', '', now(), false)
            """,
            *(TENANT, UUID(int=own.int + (number << 64)), own),
        )


@pytest.fixture
async def connection(database_url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(database_url)
    await fill_directory(connection)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def three(cache: Path) -> Corpus:
    return corpora.load(seed=SEED, count=3, cache=cache)


async def test_the_audit_finds_nothing_where_nothing_is_missing(connection: asyncpg.Connection, three: Corpus) -> None:
    for mail in three.mails:
        await store(connection, mail, three.raw(mail), parts=mail.parts)
    audited = await audit(connection, three, answers(0, 1, 2))
    assert audited.problems == ()
    assert audited.rows
    assert audited.stored == audited.rows.messages == audited.rows.receipts == audited.rows.raws == 3
    assert audited.rows.raw_bytes == sum(mail.size for mail in three.mails)
    assert audited.rows.parts == sum(mail.parts for mail in three.mails)


async def test_the_audit_names_what_was_lost_and_what_was_invented(
    connection: asyncpg.Connection, three: Corpus
) -> None:
    await store(connection, three.mails[1], three.raw(three.mails[1]), parts=three.mails[1].parts)
    audited = await audit(connection, three, answers(0) + answers(1, code=451))
    text = "\n".join(audited.problems)
    assert f"1 lost (answered yes, no row): {three.mails[0].message_id}" in text
    assert f"1 stored but never answered yes: {three.mails[1].message_id}" in text
    assert "1 mails ended with 451" in text
    assert "1 mails were never answered" in text


async def test_the_audit_looks_into_the_rows(connection: asyncpg.Connection, three: Corpus) -> None:
    first, second, third = three.mails
    await store(connection, first, three.raw(first)[:-2] + b"\n\n", parts=first.parts)
    await store(connection, second, three.raw(second), parts=second.parts - 1)
    await store(connection, third, three.raw(third), parts=third.parts, receipts=0)
    text = "\n".join((await audit(connection, three, answers(0, 1, 2))).problems)
    assert f"stored with other bytes: {first.message_id}" in text
    assert f"with other parts: {second.message_id}" in text
    assert f"without a receipt: {third.message_id}" in text
    assert "3 mails answered yes, but 2 receipts" in text
    await connection.execute("UPDATE raws SET data = data || 'x' WHERE size = $1", second.size)
    text = "\n".join((await audit(connection, three, answers(0, 1, 2))).problems)
    assert "2 stored with other bytes" in text


async def test_the_audit_sees_a_check_that_was_skipped_or_failed(connection: asyncpg.Connection, three: Corpus) -> None:
    said = (("pass", "pass", "pass"), ("unknown", "pass", "pass"), ("pass", "fail", "none"))
    for mail, verdicts in zip(three.mails, said, strict=True):
        await store(connection, mail, three.raw(mail), parts=mail.parts, verdicts=verdicts)
    audited = await audit(connection, three, answers(0, 1, 2))
    assert audited.problems == (
        f"1 with spf not passed: {three.mails[1].message_id}",
        f"1 with dkim not passed: {three.mails[2].message_id}",
        f"1 with dmarc not passed: {three.mails[2].message_id}",
    )
    of_dkim = await audit(connection, three, answers(0, 1, 2), passing=("dkim",))
    assert of_dkim.problems == (f"1 with dkim not passed: {three.mails[2].message_id}",)


# The whole


def test_percentiles_are_nearest_rank() -> None:
    assert [e2e.percentile([1, 2, 3, 4], percent) for percent in (0, 25, 50, 99, 100)] == [1, 1, 2, 4, 4]
    assert e2e.percentile([], 50) == 0.0


def test_the_daemon_loses_nothing_and_the_figures_are_kept(cache: Path, tmp_path: Path) -> None:
    options = e2e.Options(
        seed=SEED,
        mails=60,
        warm_up=5,
        contestants=(Name.POSTGRES, Name.PLAIN),
        connections=(1, 5),
        workers=1,
        runs=1,
        reuse=0,
        cache=cache,
        directory=None,
    )
    made = e2e.run(options, Console(file=StringIO()))
    assert made.problems == []
    ran = [(one.contestant, one.connections, one.stored) for one in made.runs]
    assert ran == [(Name.POSTGRES, 1, 65), (Name.POSTGRES, 5, 65), (Name.PLAIN, 5, 17)]
    rows = made.runs[0].rows
    assert rows
    assert (rows.messages, rows.receipts, rows.raws) == (65, 65, 65)
    assert (rows.threads, rows.matched) == (rows.threads_expected, rows.matched_expected)
    figures = made.medians[Name.POSTGRES][5]
    assert made.medians[Name.PLAIN].keys() == {5}
    assert 0 < figures.p50_ms <= figures.p99_ms
    assert figures.cpu_daemon > figures.cpu_driver > 0
    assert figures.cpu_postgres > 0
    assert figures.peak_rss >= figures.peak_pss >= figures.idle_pss > 0
    report.save(made, tmp_path / "run.json")
    assert report.load(tmp_path / "run.json") == made
    shown = StringIO()
    report.show(made, Console(file=shown, width=130))
    report.show_ratios(made, made, Console(file=shown, width=130))
    assert "nothing lost" in shown.getvalue()
    assert "1.00" in shown.getvalue()


def test_a_loss_and_a_void_run_are_the_exit_status(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = report.Figures(**dict.fromkeys((one.name for one in fields(report.Figures)), 1.0))
    rows = Rows(**dict.fromkeys((one.name for one in fields(Rows)), 1))
    setting = report.Setting(
        corpus_version=1,
        seed=1,
        mails=1,
        warm_up=0,
        mean_bytes=1,
        workers=1,
        reuse=0,
        runs=1,
        postgres="18",
        postgres_options={},
    )
    fine_run = report.Run(
        contestant=Name.POSTFIX, connections=50, number=1, figures=figures, stored=1, rows=None, problems=()
    )
    run_of_ours = replace(fine_run, contestant=Name.POSTGRES, rows=rows)
    machine: dict[str, str | int | float] = {"cpus": 2, "filesystem": "ext4", "fdatasync_ms": 1.0, "load_before": 0.0}

    def pretend(problems: tuple[str, ...], postfix: float = 400.0) -> None:
        queued = replace(figures, mails_per_second=postfix)
        made = report.Report(
            mode="e2e",
            format=report.FORMAT,
            setting=setting,
            machine=machine,
            ceilings={1: figures},
            medians={Name.POSTGRES: {50: figures}, Name.POSTFIX: {50: queued}},
            runs=(replace(run_of_ours, problems=problems), fine_run),
        )
        monkeypatch.setattr(e2e, "run", lambda *_: made)

    pretend(("1 lost",))
    lost = CliRunner().invoke(main, ["e2e", "--cache", str(cache)])
    pretend(())
    fine = CliRunner().invoke(main, ["e2e", "--cache", str(cache)])
    pretend((), postfix=399.0)
    void = CliRunner().invoke(main, ["e2e", "--cache", str(cache)])
    assert (lost.exit_code, fine.exit_code, void.exit_code) == (1, 0, 3)
    assert "LOSS postgres, 50 connections, run 1: 1 lost" in lost.output
    assert "VOID" not in fine.output
    assert "VOID postfix reached 399 mails/s" in void.output


def test_the_command_line_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    stored, older = tmp_path / "other.json", tmp_path / "older.json"
    stored.write_text(json.dumps({"format": report.FORMAT}))
    older.write_text(json.dumps({"format": 1, "medians": {"1": {}}}))
    runner = CliRunner()
    assert runner.invoke(main, ["e2e", "--connections", "1,zero"]).exit_code == 2
    unknown = runner.invoke(main, ["e2e", "--contestants", "postgres,exim"])
    assert unknown.exit_code == 2
    assert "choose of postgres,segments,plain,postfix" in unknown.output
    refused = runner.invoke(main, ["e2e", "--compare", str(stored)])
    assert refused.exit_code == 1
    assert "is not a stored report" in refused.output
    assert "has format 1, this benchmark writes 2" in runner.invoke(main, ["e2e", "--compare", str(older)]).output
    assert "--compare" in runner.invoke(main, ["e2e", "--help"]).output
