"""The status of a message of ours: the strongest of what is told of it stands, in whatever order it comes."""

from itertools import permutations

import pytest

from ingester.core.outbound_status import EventKind, outranked_by, status_of_event, strongest

ORDER = ("registered", "sent", "delayed", "delivered", "bounced", "complained")


def test_a_status_takes_the_place_of_weaker_ones_only() -> None:
    for place, status in enumerate(ORDER):
        assert outranked_by(status) == ORDER[:place]
    assert outranked_by(None) == outranked_by("received") == ()


@pytest.mark.parametrize("told", [*permutations(("delayed", "delivered", "bounced", "complained"))])
def test_the_order_of_events_does_not_matter(told: tuple[str, ...]) -> None:
    now = "registered"
    for status in told:
        now = status if now in outranked_by(status) else now
    assert now == strongest(told) == "complained"


def test_the_strongest_of_nothing_is_nothing() -> None:
    assert strongest([]) is None
    assert strongest([None, "what"]) is None
    assert strongest([None, "delayed"]) == "delayed"


def test_what_events_say() -> None:
    assert status_of_event(EventKind.DELIVERY, for_good=False) == "delivered"
    assert status_of_event(EventKind.DELAY, for_good=False) == "delayed"
    assert status_of_event(EventKind.COMPLAINT, for_good=False) == "complained"
    assert status_of_event(EventKind.BOUNCE, for_good=True) == "bounced"
    assert status_of_event(EventKind.BOUNCE, for_good=False) is None
