"""Counting: connections, bytes in flight, guesses."""

import gc
import weakref

import pytest

from ingester.transport.limits import Connections, Flight, Harvest
from tests.transport.stubs import Clock


def test_connections_are_capped_in_all() -> None:
    connections = Connections(total=2, per_prefix=10)
    assert [connections.enter() for _ in range(3)] == [True, True, False]
    connections.leave()
    assert connections.enter()
    assert len(connections) == 2


def test_connections_are_capped_by_prefix() -> None:
    connections = Connections(total=100, per_prefix=2)
    assert [connections.claim("a") for _ in range(3)] == [True, True, False]
    assert connections.claim("b")
    connections.release("a")
    assert connections.claim("a")


def test_overloaded_above_nine_tenths() -> None:
    connections = Connections(total=10, per_prefix=10)
    for _ in range(9):
        connections.enter()
    assert not connections.overloaded
    connections.enter()
    assert connections.overloaded


def test_the_newest_transfer_is_shed_when_the_bytes_are_spent() -> None:
    flight, shed = Flight(limit=100), list[str]()
    old = flight.open(lambda: shed.append("old"))
    new = flight.open(lambda: shed.append("new"))
    new.grow(30)
    old.grow(70)
    assert (shed, flight.used) == ([], 100)
    old.grow(80)
    assert (shed, flight.used) == (["new"], 80)
    new.grow(50)  # shed transfers count no more
    assert flight.used == 80


def test_a_transfer_that_does_not_fit_beside_complete_ones_sheds_itself() -> None:
    flight, shed = Flight(limit=100), list[str]()
    complete = flight.open(lambda: shed.append("complete"))
    complete.grow(90)
    complete.settle()
    young = flight.open(lambda: shed.append("young"))
    young.grow(20)
    assert (shed, flight.used) == (["young"], 90)
    complete.close()
    complete.close()
    assert flight.used == 0


def test_harvest_allows_the_number_and_forgets_by_the_hour() -> None:
    clock = Clock()
    harvest = Harvest(per_hour=3, clock=clock)
    for _ in range(3):
        harvest.note("a")
    assert not harvest.suspects("a")
    harvest.note("a")
    assert harvest.suspects("a")
    assert not harvest.suspects("b")
    clock.now += 3600
    assert not harvest.suspects("a")


def test_harvest_is_bounded() -> None:
    harvest = Harvest(per_hour=1, clock=Clock())
    for number in range(100_500):
        harvest.note(str(number))
    assert len(harvest._counts) == 100_000


class Holder:
    """What a transfer is to its ticket."""

    def __init__(self, flight: Flight) -> None:
        self.ticket = flight.open(self.drop)

    def drop(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("end", ["settle", "close"])
def test_a_mail_leaves_nothing_for_the_garbage_collector(end: str) -> None:
    """Ticket and transfer know each other only for as long as one may have to tell the other something."""
    holder = Holder(Flight(limit=10))
    gone = weakref.ref(holder)
    getattr(holder.ticket, end)()
    gc.disable()
    try:
        del holder
        assert gone() is None
    finally:
        gc.enable()
