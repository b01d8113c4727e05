"""What the checks make of what they have seen: the parts that no server of a test can be."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingester.auth.validation import Seen
from ingester.doctor.database import judge_clock, judge_commit
from ingester.doctor.examination import Check, examine
from ingester.doctor.finding import Finding, Level, Pen
from ingester.doctor.letters import judge as judge_letters
from ingester.doctor.machine import (
    GIB,
    judge_files,
    judge_memory,
    judge_space,
    judge_synchronised,
    memory_limit,
    surroundings,
)
from ingester.doctor.origins import judge as judge_origins
from ingester.doctor.resolver import judge as judge_resolver
from ingester.settings import load
from ingester.store.letters import Pile
from ingester.store.survey import Origin

pen = Pen("a check")
NOW = datetime(2026, 7, 1, tzinfo=UTC)


async def _fine() -> Sequence[Finding]:
    return [pen.ok("fine")]


async def test_a_check_that_fails_or_hangs_hides_no_other() -> None:
    async def failing() -> Sequence[Finding]:
        raise KeyError("a stranger's text")

    async def hanging() -> Sequence[Finding]:
        await asyncio.Event().wait()
        raise AssertionError

    ended: list[str] = []
    checks = [
        Check(name="failing", look=failing),
        Check(name="hanging", look=hanging, seconds=0.01),
        Check(name="fine", look=_fine),
    ]
    found = await examine(checks, ended.append)
    assert [(one.check, one.level) for one in found] == [
        ("failing", Level.FAULT),
        ("hanging", Level.FAULT),
        ("a check", Level.OK),
    ]
    assert found[0].what == "the check itself failed (KeyError)"
    assert sorted(ended) == ["failing", "fine", "hanging"]


async def test_checks_run_side_by_side() -> None:
    """Each waits for the other: one after the other would hang."""
    barrier = asyncio.Barrier(2)

    async def meeting() -> Sequence[Finding]:
        await barrier.wait()
        return [pen.ok("met")]

    found = await examine([Check(name=name, look=meeting, seconds=10) for name in ("one", "other")])
    assert [one.what for one in found] == ["met", "met"]


@pytest.mark.parametrize(
    ("free", "total", "level"),
    [
        (0, 100 * GIB, Level.FAULT),
        (2 * GIB, 100 * GIB, Level.FAULT),
        (5 * GIB, 100 * GIB, Level.WARNING),
        (15 * GIB, 100 * GIB, Level.OK),
        (25 * GIB, 2000 * GIB, Level.OK),
    ],
)
def test_a_full_disk(free: int, total: int, level: Level) -> None:
    finding = judge_space("the database", free, total)
    assert finding.level is level
    assert ("Make room" in finding.advice) == (level is not Level.OK)


def test_too_little_memory_and_too_few_files() -> None:
    assert judge_memory(800 << 20, 512 << 20).level is Level.FAULT
    assert "INGESTER_MAX_BYTES_IN_FLIGHT" in judge_memory(800 << 20, 512 << 20).advice
    assert judge_memory(400 << 20, 512 << 20).level is judge_memory(1, None).level is Level.OK
    assert "LimitNOFILE=" in judge_files(2100, 1024).advice
    assert judge_files(2100, 4096).level is judge_files(2100, -1).level is Level.OK


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"sys/fs/cgroup/memory.max": "536870912\n"}, 512 << 20),
        ({"sys/fs/cgroup/memory.max": "max\n", "proc/meminfo": "MemFree: 1 kB\nMemTotal:  2048 kB\n"}, 2 << 20),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456"}, 256 << 20),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, None),
    ],
)
def test_the_limit_of_memory(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == limit


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("var/run/secrets/kubernetes.io", "externalTrafficPolicy: Local"),
        (".dockerenv", "this is a container"),
        ("run/.containerenv", "this is a container"),
        ("run/systemd/system", "systemd runs this host"),
    ],
)
def test_what_it_runs_under(tmp_path: Path, place: str, words: str) -> None:
    assert list(surroundings(tmp_path)) == []
    (tmp_path / place).mkdir(parents=True)
    (said,) = surroundings(tmp_path)
    assert words in said.what


def test_clocks_that_disagree() -> None:
    assert judge_clock(0.3).level is Level.OK
    assert judge_clock(-90.2).what == "this host's clock is 90 s behind the database's"
    assert judge_clock(4).what == "this host's clock is 4 s ahead of the database's"
    assert "chrony" in judge_clock(4).advice
    assert [one.level for one in judge_synchronised(0x40)] == [Level.WARNING]
    assert not list(judge_synchronised(0x2001))
    assert not list(judge_synchronised(None))


def test_a_slow_commit() -> None:
    assert judge_commit(0.004).what == "a commit takes 4.0 ms"
    assert judge_commit(0.08).level is Level.WARNING
    assert "write-ahead log" in judge_commit(0.08).advice


def test_a_slow_resolver() -> None:
    slow = list(judge_resolver(Seen(host="192.0.2.53", seconds=0.7, validates=True), alone=True))
    assert [(one.level, "700 ms" in one.what) for one in slow] == [(Level.WARNING, True)]


def test_letters_of_this_version_and_of_another() -> None:
    old = judge_letters(Pile(reason="ValueError", buried_by="0.0.1", count=3, oldest=NOW - timedelta(hours=30)), NOW)
    assert old.what.startswith("3 wait with the reason ValueError, for up to 30.0 hours; buried by version 0.0.1")
    assert "--buried-by 0.0.1" in old.advice


def origin(ip: str, mails: int) -> Origin:
    return Origin(door="smtp", client_ip=ip, mails=mails)


PUBLIC = [origin(f"93.184.216.{n}", 1) for n in range(1, 20)]


@pytest.mark.parametrize(
    ("seen", "settings", "level", "words"),
    [
        ([], {}, Level.OK, "nothing to judge by"),
        (PUBLIC, {}, Level.OK, "came from 19 addresses"),
        ([*PUBLIC, origin("10.0.0.9", 8)], {}, Level.OK, "came from 20 addresses"),
        ([origin("10.0.0.9", 500), *PUBLIC], {}, Level.FAULT, "500 of 519 mails"),
        ([origin("10.0.0.9", 3)], {}, Level.WARNING, "3 of 3 mails"),
        ([origin("10.0.0.9", 3), origin("fd00::7", 40)], {}, Level.FAULT, "and 1 more private addresses"),
        ([origin("10.0.0.9", 500)], {"INGESTER_AUTH__RELAYS": "10.0.0.0/8"}, Level.OK, "came from 1 addresses"),
        ([origin("100.64.3.1", 500)], {}, Level.FAULT, "100.64.3.1, a private address"),
        ([origin("93.184.216.1", 500)], {}, Level.OK, "came from 1 addresses"),
    ],
)
def test_where_mail_comes_from(seen: Sequence[Origin], settings: dict[str, str], level: Level, words: str) -> None:
    finding = judge_origins(seen, load(settings))
    assert (finding.level, words in finding.what) == (level, True), finding


def test_a_proxy_that_tells_of_nobody() -> None:
    finding = judge_origins([origin("10.0.0.9", 500)], load({"INGESTER_SMTP__PROXY_NETWORKS": "10.0.0.9"}))
    assert finding.level is Level.FAULT
    assert "send-proxy-v2" in finding.advice
