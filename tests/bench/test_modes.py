"""The modes beside `e2e`: their bounds, their arithmetic, their drivers; and a short run of each."""

import json
import threading
from array import array
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import process_time

import pytest
from click.testing import CliRunner, Result

from ingester.store.messages import LARGE_BYTES
from tests.bench import big, crafted, http_driver, post, probe, sheet, soak, stages
from tests.bench import corpus as corpora
from tests.bench.__main__ import main
from tests.bench.corpus import Corpus
from tests.bench.driver import Plan
from tests.bench.driver import run as run_smtp
from tests.bench.post import Door
from tests.bench.sheet import Figure, Sheet
from tests.bench.sink import sink
from tests.bench.turns import growth, take_turns

SEED = 7


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpora")


@pytest.fixture
def replies(cache: Path) -> Corpus:
    corpus = corpora.load(seed=SEED, count=40, cache=cache)
    return replace(corpus, mails=tuple(mail for mail in corpus.mails if mail.shape == "reply"))


def plan(corpus: Corpus, port: int, connections: int = 3) -> Plan:
    return Plan(host="127.0.0.1", port=port, corpus=corpus, first=0, count=len(corpus.mails), connections=connections)


# Sheets


def made(**figure: float) -> Sheet:
    one = Figure(group="a", name="speed", value=10.0, unit="MB/s", least=figure.get("least"), most=figure.get("most"))
    return Sheet(mode="big", format=sheet.FORMAT, setting={"seed": 1}, machine={}, figures=(one,))


def test_a_bound_is_broken_on_its_own_side_only() -> None:
    assert made(least=10.0, most=10.0).problems == []
    assert made(least=10.1).problems == ["a speed: 10.0 MB/s, not 10.1"]
    assert made(most=9.9).problems == ["a speed: 10.0 MB/s, more than 9.90"]


def test_what_is_lost_is_a_problem_whatever_the_figures_say() -> None:
    assert replace(made(), lost=("1 mail",)).problems == ["1 mail"]


def test_a_sheet_is_read_as_it_was_kept_and_only_by_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "sheet.json"
    sheet.save(made(least=10.1), file)
    assert sheet.load(file, "big") == made(least=10.1)
    with pytest.raises(ValueError, match="of mode big"):
        sheet.load(file, "soak")
    file.write_text("{}")
    with pytest.raises(ValueError, match="is not a stored run"):
        sheet.load(file, "big")


@pytest.mark.parametrize(
    ("value", "least", "colour"),
    [(12.0, 1.0, "green"), (12.0, None, "red"), (8.0, 1.0, "red"), (8.0, None, "green"), (10.2, None, "white")],
)
def test_a_ratio_is_green_where_it_is_better(value: float, least: float | None, colour: str) -> None:
    figure = Figure(name="x", value=value, unit="", least=least)
    assert f"[{colour}]" in sheet._ratio(figure, 10.0)


# Growth


def burn(steps: int) -> None:
    begun = process_time()
    while process_time() - begun < steps * 1e-7:
        pass


def test_a_quadratic_cost_is_seen_and_a_linear_one_is_not() -> None:
    assert growth(lambda size: size, lambda size: burn(size * size // 1000), 2000, most=1.3).exponent > 1.7
    assert growth(lambda size: size, burn, 2000, most=1.3).exponent < 1.3


def test_a_step_between_two_linear_costs_is_no_growth() -> None:
    found = growth(lambda size: size, lambda size: burn(size if size <= 4000 else 4 * size), 2000, most=1.3)
    assert found.exponent < 1.3


def test_a_quadratic_cost_is_seen_that_a_cap_ends() -> None:
    found = growth(lambda size: size, lambda size: burn(min(size, 8000) ** 2 // 1000), 2000, most=1.3)
    assert found.exponent > 1.5


def test_a_quadratic_cost_is_seen_that_begins_late() -> None:
    found = growth(lambda size: size, lambda size: burn(max(size, 2000) ** 2 // 1000), 2000, most=1.3)
    assert found.exponent > 1.5


def test_every_room_has_shapes_and_each_grows_with_the_size() -> None:
    shapes = list(crafted.every())
    assert {one.room for one in shapes} >= {
        "receiving", "content", "DKIM header", "SPF record", "DMARC record", "addresses", "reply text", "tokens",
    }  # fmt: skip
    assert len(shapes) > 300
    for one in shapes:
        if one.room != "content":  # `hostile` has its own test
            assert len(one.make(4 * one.size)) > 3 * len(one.make(one.size))


def test_of_a_room_the_steepest_is_shown_and_all_that_are_broken() -> None:
    figures = [Figure(group="a", name=str(value), value=value, unit="", most=1.3) for value in (0.5, 1.4, 1.0, 2.0)]
    assert [one.name for one in crafted.worst(figures)] == ["1.4", "2.0"]
    assert [one.name for one in crafted.worst(figures[::2])] == ["1.0"]


def test_readers_take_turns_over_everything() -> None:
    seen: list[tuple[str, int]] = []
    taken = take_turns((lambda one: seen.append(("a", one)), lambda one: seen.append(("b", one))), range(5), 2, chunk=3)
    once = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2), ("a", 3), ("a", 4), ("b", 3), ("b", 4)]
    assert seen == 3 * once
    assert [len(row) for row in taken] == [2, 2]


# Stages


def test_both_sides_of_a_stage_read_the_same(cache: Path) -> None:
    corpus = corpora.load(seed=SEED, count=20, cache=cache)
    for mail, wire in zip(corpus.mails, stages._wires(corpus), strict=True):
        raw = corpus.raw(mail)
        assert stages.receive(wire) == stages.receive_by_lines(wire) == raw
        if mail.shape != "forward":  # they enter the embedded message
            assert stages.read_policy_default(raw) > 0
    for fields in stages._address_fields(corpus):
        assert stages.read_addresses(fields) == stages.read_by_headerregistry(fields) != []
        assert stages.read_addresses(fields) == stages.read_by_getaddresses(fields)


def test_a_stage_slower_than_its_library_is_a_broken_bound(cache: Path) -> None:
    corpus = corpora.load(seed=SEED, count=4, cache=cache)
    slow, quick = (lambda _: burn(2000)), (lambda _: burn(1000))

    def problems(ours: object, theirs: object) -> list[str]:
        stage = stages.Stage(name="x", ours=ours, inputs=lambda _: range(4), theirs=(("y", theirs),))  # type: ignore[arg-type]
        return [figure.problem for figure in stages.measure(stage, corpus, 1) if figure.problem]

    assert problems(quick, slow) == []
    assert len(problems(slow, quick)) == 1


# The POST door's driver


def test_the_http_driver_hands_in_every_mail_once(replies: Corpus) -> None:
    with http_driver.sink() as port:
        result = http_driver.run(plan(replies, port))
    assert sorted(result.accepted) == list(range(len(replies.mails)))
    assert result.bytes_accepted == sum(mail.size for mail in replies.mails)
    assert not result.stalled


def test_a_request_says_what_the_envelope_would(replies: Corpus) -> None:
    mail = replies.mails[1]
    request = http_driver.request(plan(replies, 1), 1)
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == replies.raw(mail)
    assert mail.recipient.replace("@", "%40").encode() in head
    assert f"Content-Length: {mail.size}".encode() in head


def test_a_server_that_nobody_reaches_ends_the_http_driver(replies: Corpus) -> None:
    with http_driver.sink() as port:
        pass
    result = http_driver.run(plan(replies, port))
    assert (result.accepted, result.stalled) == ([], True)


def run_post(door: Door, rate: float, problems: tuple[str, ...] = ()) -> post.Measured:
    return post.Measured(
        door=door,
        connections=10,
        rate=rate,
        p50_ms=1,
        p99_ms=1,
        daemon_ms=1,
        postgres_ms=1,
        driver_ms=1,
        problems=problems,
    )


@pytest.mark.parametrize(("rate", "broken"), [(1190, 1), (1210, 0)])
def test_the_post_door_is_to_be_faster(rate: float, broken: int) -> None:
    runs = [run_post(Door.SMTP, 1000), run_post(Door.HTTP, rate)]
    figures = post.figures(runs, 10, dict.fromkeys(Door, 9999.0))
    assert sum(bool(figure.problem) for figure in figures) == broken


# A steady rate


def test_a_mail_is_counted_from_when_it_is_due(replies: Corpus) -> None:
    with sink() as port:
        result = run_smtp(replace(plan(replies, port, connections=2), rate=200.0))
    begun = sorted(answer.started for answer in result.answers)
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert len(result.accepted) == len(replies.mails)
    assert gaps == pytest.approx([1 / 200] * len(gaps), abs=1e-6)


# The probe


def test_beats_are_read_of_all_workers_within_the_time(tmp_path: Path) -> None:
    for name, rows in (("1", (1.0, 0.5, 0.3, 7, 2.0, 0.25, 0.2, 8, 9, 9, 9, 9)), ("2", (1.5, 0.125, 0, 3))):
        (tmp_path / f"{name}.beats").write_bytes(array("d", rows).tobytes() + b"torn")
    beats = probe.read(tmp_path, 0.5, 2.5)
    assert (sorted(beats.lags), sorted(beats.held), beats.tasks) == ([0.125, 0.25, 0.5], [0.0, 0.2, 0.3], 11)


# Big mails


MEASURED = big.Measured(
    mb_per_second=61,
    memory=3.9,
    idle_mib=100,
    peak_mib=400,
    small_p50_ms=10,
    small_p99_ms=249,
    small_mails=100,
    lag_p50_ms=1,
    lag_p999_ms=24,
    lag_most_ms=100,
    held_p999_ms=20,
    daemon_ms_per_mb=5,
    postgres_ms_per_mb=5,
    problems=(),
)


@pytest.mark.parametrize(
    ("broken", "count"),
    [
        (MEASURED, 0),
        (replace(MEASURED, mb_per_second=59), 1),
        (replace(MEASURED, memory=4.1), 1),
        (replace(MEASURED, small_p99_ms=251), 1),
        (replace(MEASURED, lag_p999_ms=26), 1),
    ],
)
def test_each_bound_of_big_mails_is_seen_to_be_broken(broken: big.Measured, count: int) -> None:
    assert sum(bool(figure.problem) for figure in big.figures([broken], "postgres")) == count


def test_segments_are_to_take_twice_as_much() -> None:
    assert len([one for one in big.figures([MEASURED], "segments") if one.problem]) == 1


# Soak


ROUND = soak.Round(mails=100, rate=300, daemon_ms=2, postgres_ms=1, pss=100, descriptors=80, tasks=20, problems=())


@pytest.mark.parametrize(
    ("last", "broken"),
    [
        (ROUND, 0),
        (replace(ROUND, rate=284), 1),
        (replace(ROUND, daemon_ms=2.2), 1),
        (replace(ROUND, pss=105), 1),
        (replace(ROUND, descriptors=83), 1),
        (replace(ROUND, tasks=23), 1),
    ],
)
def test_each_growth_is_seen(last: soak.Round, broken: int) -> None:
    rounds = [ROUND, ROUND, ROUND, ROUND, last, last]
    assert sum(bool(figure.problem) for figure in soak.figures(rounds, steady=False)) == broken


def test_one_busy_moment_decides_nothing() -> None:
    rounds = [ROUND] * 8 + [replace(ROUND, rate=10, pss=200)]
    assert [figure.problem for figure in soak.figures(rounds, steady=False) if figure.problem] == []


# Short runs, from the command line to the rows


def bench(mode: str, cache: Path, *arguments: str) -> tuple[Result, dict[str, float]]:
    """Run a command; figures by name. On a busy machine bounds may break: loss must not."""
    file = cache / f"{mode}.json"
    result = CliRunner().invoke(main, [mode, "--cache", str(cache), "--json", str(file), *arguments])
    assert result.exit_code in (0, 1), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    stored = json.loads(file.read_bytes())
    assert stored["lost"] == [], result.output
    assert result.exit_code == int("BROKEN" in result.output)
    return result, {one["name"]: one["value"] for one in stored["figures"]}


@pytest.mark.thorough
def test_big_mails_are_stored_and_the_loop_is_watched(cache: Path) -> None:
    _, figures = bench("big", cache, "--mails", "4", "--size", "1000000", "--workers", "1", "--runs", "1")
    assert figures["through the door into rows"] > 0
    assert 0 < figures["loop lag, p50"] <= figures["loop lag, most"]
    again = CliRunner().invoke(main, ["big", "--compare", str(cache / "big.json"), "--mails", "0"])
    assert again.exit_code == 2


@pytest.mark.thorough
def test_both_doors_take_the_replies(cache: Path) -> None:
    _, figures = bench("http", cache, "--mails", "60", "--connections", "5", "--workers", "1", "--runs", "1")
    assert figures["HTTP"] > 0
    assert figures["HTTP, driver"] < figures["HTTP, daemon"]


@pytest.mark.thorough
def test_a_soak_counts_its_rounds(cache: Path) -> None:
    result, figures = bench("soak", cache, "--minutes", "0.3", "--mails", "60", "--workers", "1")
    assert "to warm up" in result.output
    assert figures["tasks at the end"] > 1
    assert abs(figures["descriptors"]) <= soak.MOST_MORE


@pytest.mark.thorough
def test_every_stage_has_its_figure(cache: Path) -> None:
    large = corpora.load(seed=8, count=20, cache=cache)
    assert max(mail.size for mail in large.mails) > LARGE_BYTES  # it goes a way of its own
    result, _ = bench("stages", cache, "--seed", "8", "--mails", "20", "--runs", "1", "--no-crafted")
    for name in ("receiving", "MIME", "DKIM", "SPF", "DMARC", "judging", "building the rows", "log line", "12 mails"):
        assert name in result.output
    assert threading.active_count() < 20
