"""SMTP smuggling: 15 ends of data that some server takes for the true one, each with a mail pipelined behind it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.blobs import NewPlace
from tests.daemon import Daemon, Town, serving, town
from tests.e2e.caller import calling
from tests.postgres import Cluster
from tests.transport.variants import VARIANTS


@dataclass(frozen=True, slots=True)
class Target:
    """A daemon, its rows, and how often it has refused."""

    daemon: Daemon
    town: Town
    refused: list[str] = field(default_factory=list)

    def messages(self) -> set[tuple[str, str]]:
        """Message-ID and sender of the envelope of every row."""
        rows = self.town.ask("SELECT rfc_message_id, envelope_from FROM messages")
        assert len(rows) == len({row[0] for row in rows})
        return {(row[0], row[1]) for row in rows}


@pytest.fixture(scope="module", params=["normalise", "refuse"])
def target(request: pytest.FixtureRequest, postgres: Cluster, lasting_blobs: NewPlace) -> Iterator[Target]:
    """One daemon for all variants, in each mode for bare LF. In the end it must have noted every refusal."""
    with postgres.clone() as url:
        place = town(url)
        with serving(url, settings={"INGESTER_SMTP__BARE_LF": request.param, **lasting_blobs()}) as daemon:
            target = Target(daemon, place)
            yield target
            assert daemon.terminate() == 0
        (row,) = place.ask("SELECT sum(count) AS count FROM refusals WHERE reason = 'malformed_transfer'")
        assert (row["count"] or 0) == len(target.refused)


def content(name: str) -> bytes:
    return (
        f"Date: Mon, 20 Jul 2026 10:00:00 +0000\r\nMessage-ID: <{name}@customer.test>\r\nSubject: {name}\r\n\r\n"
        f"this is {name}"
    ).encode()


def smuggle(target: Target, name: str, end: bytes) -> tuple[list[str], set[tuple[str, str]]]:
    """Send a mail, this end of data and a second mail in one go; give the answers behind 354 and the new rows."""
    second = (
        b"MAIL FROM:<admin@acme.test>\r\nRCPT TO:<sales@acme.test>\r\nDATA\r\n" + content(f"{name}-2") + b"\r\n.\r\n"
    )
    before = target.messages()
    with calling(target.daemon.port) as caller:
        caller.announce()
        caller.send(content(name) + end + second + b"QUIT\r\n")
        answers = [answer[:9] for answer in caller.answers()]
    return answers, target.messages() - before


@pytest.mark.parametrize("number", range(len(VARIANTS)), ids=list(VARIANTS))
def test_never_two_mails(target: Target, number: int) -> None:
    """One message, or none and a refusal; what stands behind is never obeyed."""
    answers, new = smuggle(target, f"first{number}", list(VARIANTS.values())[number])
    if answers[0] == "550 5.6.0":
        target.refused.append(f"first{number}")
        assert answers == ["550 5.6.0"]
        assert not new
    else:
        assert answers in (["250 2.0.0", "221 2.0.0"], ["250 2.0.0", "500 5.5.2"])
        assert new == {(f"first{number}@customer.test", "ada@customer.test")}


def test_the_true_end_lets_the_second_through(target: Target) -> None:
    """The counter-proof: behind CRLF.CRLF what is pipelined is a mail, so that the tests above can fail."""
    answers, new = smuggle(target, "honest", b"\r\n.\r\n")
    assert [answer[:3] for answer in answers] == ["250", "250", "250", "354", "250", "221"]
    assert new == {("honest@customer.test", "ada@customer.test"), ("honest-2@customer.test", "admin@acme.test")}
