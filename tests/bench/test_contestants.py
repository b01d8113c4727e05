"""The baselines do what they are measured for, and what they lose is seen."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.bench import corpus as corpora
from tests.bench import postfix
from tests.bench.contestants import Contestant, Ingester, Plain, Postfix
from tests.bench.corpus import Corpus
from tests.bench.driver import Answer, Plan, run_apart
from tests.bench.e2e import zone_of
from tests.bench.subject import BenchError, fill_directory, query
from tests.nameserver import NameServer, in_thread
from tests.postfix import package

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpora.load(seed=7, count=12, cache=tmp_path_factory.mktemp("corpora"))


def deliver(contestant: Contestant, corpus: Corpus) -> tuple[Answer, ...]:
    with contestant.serve() as subject:
        count = len(corpus.mails)
        plan = Plan(
            host="127.0.0.1", port=subject.port, corpus=corpus, first=0, count=count, connections=3, proxied=True
        )
        return run_apart(plan).answers


def test_the_plain_ingester_checks_and_stores_every_mail(
    corpus: Corpus, empty_database_url: str, tmp_path: Path
) -> None:
    async def spoil(connection: asyncpg.Connection) -> int:
        """Take back one mail, and the verdict on another. Gives the attachments that there were."""
        first, second = (f"<{corpus.mails[number].message_id}>" for number in (0, 1))
        count = await connection.fetchval("SELECT count(*) FROM attachments WHERE octet_length(content) > 10000")
        await connection.execute("DELETE FROM attachments")
        await connection.execute("DELETE FROM mails WHERE message_id = $1", first)
        await connection.execute("UPDATE mails SET spf = 'none' WHERE message_id = $1", second)
        return int(count)

    with in_thread(NameServer(zone=zone_of(corpus))) as names:
        plain = Plain(url=empty_database_url, nameserver=names.address, log=tmp_path / "log")
        answers = deliver(plain, corpus)
    counted = plain.count(corpus, answers)
    assert (counted.stored, counted.problems) == (12, ())
    assert query(empty_database_url, spoil) > 0
    assert plain.count(corpus, answers).problems == (
        f"1 lost (answered yes, no row): {corpus.mails[0].message_id}",
        f"1 with spf not passed: {corpus.mails[1].message_id}",
        "12 mails answered yes, but 11 rows",
    )


def test_bytes_that_went_bad_are_seen_wherever_they_lie(corpus: Corpus, database_url: str, tmp_path: Path) -> None:
    query(database_url, fill_directory)
    with in_thread(NameServer(zone=zone_of(corpus))) as names:
        ingester = Ingester(
            url=database_url,
            workers=1,
            nameserver=names.address,
            log=tmp_path / "log",
            settings={"INGESTER_BLOBS": f"file://{tmp_path}/blobs"},
        )
        answers = deliver(ingester, corpus)
    counted = ingester.count(corpus, answers)
    assert (counted.stored, counted.problems) == (12, ())
    segments = [path.open("r+b") for path in (tmp_path / "blobs").glob("*.seg")]
    for segment in segments:
        segment.seek(2000)  # in the first mail of this segment
        segment.write(b"another octet")
        segment.close()
    assert len(segments) > 0
    (problem,) = ingester.count(corpus, answers).problems
    assert problem.startswith(f"{len(segments)} stored with other bytes: ")


@pytest.fixture
def queue() -> Iterator[Path]:
    package()
    with postfix.queue_directory(Path(tempfile.gettempdir())) as directory:
        yield directory


def test_postfix_holds_every_mail_in_its_queue(corpus: Corpus, queue: Path) -> None:
    baseline = Postfix(queue)
    answers = deliver(baseline, corpus)
    counted = baseline.count(corpus, answers)
    held = list((queue / "queue" / "hold").iterdir())
    assert (counted.stored, counted.problems, len(held)) == (12, (), 12)
    assert sum(path.stat().st_size for path in held) > 0.9 * sum(mail.size for mail in corpus.mails)
    held[0].unlink()
    assert baseline.count(corpus, answers).problems == ("12 mails answered yes, but 11 in the queue",)


def test_a_missing_postfix_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Path:
        pytest.skip("postfix is not installed and cannot be fetched")

    monkeypatch.setattr(postfix, "package", absent)
    with pytest.raises(BenchError, match=r"postfix is not installed .*: leave postfix out of --contestants"):
        postfix.find()
