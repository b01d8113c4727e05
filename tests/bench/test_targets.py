"""The ratios, the bounds and the rule on void runs: pure."""

from dataclasses import fields, replace
from io import StringIO

import pytest
from rich.console import Console

from tests.bench import targets
from tests.bench.contestants import Name
from tests.bench.report import Figures, Medians, Run, medians

ZERO = Figures(**dict.fromkeys((one.name for one in fields(Figures)), 0.0))


def figures(rate: float, *, cpu: float = 1.0, p50: float = 1.0, p99: float = 1.0) -> Figures:
    return replace(ZERO, mails_per_second=rate, cpu_daemon=cpu, cpu_postgres=cpu / 2, p50_ms=p50, p99_ms=p99)


@pytest.fixture
def good() -> Medians:
    return {
        Name.POSTGRES: {1: figures(200), 10: figures(500), 50: figures(600)},
        Name.SEGMENTS: {1: figures(200), 10: figures(500), 50: figures(800)},
        Name.PLAIN: {10: figures(45), 50: figures(40, cpu=20)},
        Name.POSTFIX: {10: figures(520), 50: figures(500)},
    }


def test_ratios_are_of_medians_within_the_run() -> None:
    def run(name: Name, number: int, rate: float) -> Run:
        return Run(
            contestant=name, connections=50, number=number, figures=figures(rate), stored=1, rows=None, problems=()
        )

    ours, theirs = (600.0, 900.0, 300.0), (500.0, 100.0, 600.0)
    runs = [run(Name.POSTGRES, at, rate) for at, rate in enumerate(ours)]
    runs += [run(Name.POSTFIX, at, rate) for at, rate in enumerate(theirs)]
    assert targets.rate_ratio(medians(runs), Name.POSTGRES, Name.POSTFIX, 50) == pytest.approx(600 / 500)


def test_every_bound_is_met_or_missed_by_its_own_figure(good: Medians) -> None:
    assert [target.met for target in targets.judge(good)] == [True] * 9
    spoiled = (
        (0, Name.POSTGRES, 50, figures(479)),
        (1, Name.POSTGRES, 50, figures(549)),
        (2, Name.SEGMENTS, 50, figures(624)),
        (3, Name.POSTGRES, 50, figures(600, cpu=1.61)),
        (4, Name.SEGMENTS, 50, figures(800, cpu=1.34)),
        (5, Name.POSTGRES, 10, figures(500, p99=121)),
        (6, Name.SEGMENTS, 10, figures(500, p99=121)),
        (7, Name.POSTGRES, 1, figures(200, p50=3.1)),
        (8, Name.SEGMENTS, 1, figures(200, p50=3.1)),
    )
    for place, name, connections, worse in spoiled:
        judged = targets.judge({**good, name: {**good[name], connections: worse}})
        assert judged[place].met is False


def test_what_was_not_measured_is_neither_met_nor_missed(good: Medians) -> None:
    del good[Name.POSTFIX], good[Name.SEGMENTS]
    judged = targets.judge(good)
    assert [target.met for target in judged] == [True, None, None, True, None, True, None, True, None]


@pytest.mark.parametrize(("plain", "postfix", "reasons"), [(35, 400, 0), (34.9, 400, 1), (35, 399.9, 1), (3, 4, 2)])
def test_a_run_with_slow_baselines_is_void(good: Medians, plain: float, postfix: float, reasons: int) -> None:
    good[Name.PLAIN][50], good[Name.POSTFIX][50] = figures(plain), figures(postfix)
    assert len(targets.find_void(good)) == reasons


def test_baselines_that_did_not_run_make_nothing_void(good: Medians) -> None:
    good[Name.PLAIN] = {10: figures(1)}
    del good[Name.POSTFIX]
    assert targets.find_void(good) == []


def test_the_tables_show_ratios_and_the_word_void(good: Medians) -> None:
    good[Name.POSTFIX][50] = figures(390)
    shown = StringIO()
    targets.show(good, Console(file=shown, width=130))
    text = shown.getvalue()
    assert "15.00" in text  # 600 of 40
    assert "20.00" in text  # 30 CPU-seconds to 1.5
    assert "VOID postfix reached 390 mails/s at 50 connections, less than 400" in text
    assert text.count("met") == 9
