"""What the supervisor knows of its workers, from what they say over their pipes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ingester.settings import Settings, load
from ingester.supervisor.crew import Crew, Place, Worker
from ingester.supervisor.doors import Sockets
from ingester.supervisor.reload import FIXED, changed_in_vain, keep_fixed
from ingester.supervisor.worker import Line, Word

SETTINGS = load({"INGESTER_ENV": "development"})
NOWHERE = Sockets(smtp=(), http=(), lmtp=(), metrics=())


@contextmanager
def hired(crew: Crew, place: Place) -> Iterator[tuple[Worker, Line, int]]:
    """A worker without a process, its end of the pipe, and the number of that."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    worker = Worker(pid=0, place=place, settings=SETTINGS, pipe=reader, born=1, heard=1)
    place.worker = worker
    yield worker, Line(writer), writer
    for worker_left in crew:
        os.close(worker_left.pipe)


def test_what_a_worker_says_is_noted() -> None:
    crew = Crew([NOWHERE, NOWHERE])
    with hired(crew, crew.places[0]) as (worker, line, writer):
        assert crew.served == 0
        assert worker.listen(2)
        assert worker.heard == 1, "nothing was said"
        line.say(Word.ALIVE)
        assert worker.listen(3)
        assert worker.heard == 3
        os.write(writer, b"rea")
        assert worker.listen(4)
        assert crew.served == 0, "half a word"
        os.write(writer, b"dy\nunusable the first\n")
        line.say(Word.UNUSABLE, "the\nsecond")
        assert worker.listen(5)
        assert worker.faults == ["the first", "the second"]
        assert (crew.served, crew.complete) == (1, False)
        line.say(Word.LEAVING)
        os.close(writer)
        assert not worker.listen(6), "it has gone"
        assert worker.leaving
        assert worker.deaf


def test_who_leaves_has_no_place_and_is_known_until_its_end() -> None:
    crew = Crew([NOWHERE])
    (place,) = crew.places
    with hired(crew, place) as (worker, _, writer):
        crew.see_off(worker)
        assert place.worker is None
        assert list(crew) == [worker]
        assert worker.leaving
        os.close(writer)
        crew.forget(worker)
        assert list(crew) == []
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(worker.pipe)


def test_a_supervisor_that_does_not_read_stops_nobody() -> None:
    """The pipe is full; when the supervisor is gone, the worker is told."""
    reader, writer = os.pipe()
    lost: list[None] = []
    line = Line(writer, lambda: lost.append(None))
    for _ in range(20_000):
        line.say(Word.ALIVE)
    assert not lost
    os.close(reader)
    line.say(Word.ALIVE)
    assert lost == [None]
    os.close(writer)


def settings(**given: str) -> Settings:
    return load({"INGESTER_ENV": "development", **given})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INGESTER_WORKERS", "5"),
        ("INGESTER_SMTP__LISTEN", "127.0.0.1:26"),
        ("INGESTER_LMTP__LISTEN", "127.0.0.1:27"),
        ("INGESTER_LMTP__SOCKET_MODE", "0600"),
        ("INGESTER_LMTP__SOCKET_GROUP", "postfix"),
        ("INGESTER_HTTP__LISTEN", "127.0.0.1:28"),
        ("INGESTER_METRICS__LISTEN", "127.0.0.1:29"),
    ],
)
def test_what_sockets_are_made_of_stays(name: str, value: str) -> None:
    more = {"INGESTER_INBOUND_TOKEN": "long enough to be taken for one of ours"}
    before, after = settings(**more), settings(**more, **{name: value}, INGESTER_MAX_MESSAGE_BYTES="1000000")
    assert changed_in_vain(before, after) == [name]
    kept = keep_fixed(before, after)
    assert changed_in_vain(before, kept) == []
    assert kept.max_message_bytes == 1_000_000
    assert len(FIXED) == 7
