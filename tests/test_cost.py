"""The bounds of `tests/cost.py` must give way to a slow machine, and to nothing else."""

from time import process_time

import pytest

from tests import pace
from tests.cost import assert_cheap
from tests.pace import QUIET_SECONDS, SLOWEST, slowness


def spin(seconds: float) -> None:
    end = process_time() + seconds
    while process_time() < end:
        pass


@pytest.mark.parametrize(
    ("yardstick", "expected"),
    [(0.5, 1.0), (1.0, 1.0), (1.6, 1.6), (1000, SLOWEST)],
    ids=["fast", "quiet", "busy", "slow"],
)
def test_slowness(yardstick: float, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_measure", lambda: yardstick * QUIET_SECONDS)
    assert slowness() == pytest.approx(expected)


def test_one_run_out_of_step_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([40 * QUIET_SECONDS, *[QUIET_SECONDS] * 4])
    monkeypatch.setattr(pace, "_measure", lambda: next(measured))
    assert slowness() == 1


def test_a_slow_machine_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cost.slowness", lambda: 2.0)
    assert_cheap(lambda: spin(0.015), seconds=0.01)
    with pytest.raises(AssertionError, match=r"best of 5 runs, not below 0\.01 s"):
        assert_cheap(lambda: spin(0.025), seconds=0.01)


def test_a_quick_one_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cost.slowness", lambda: 1.0)
    with pytest.raises(AssertionError):
        assert_cheap(lambda: spin(0.015), seconds=0.01)


def test_the_yardstick_takes_what_it_says() -> None:
    """Else every bound would be another than it seems."""
    assert QUIET_SECONDS / 5 < min(pace._measure() for _ in range(20)) < QUIET_SECONDS * 5
