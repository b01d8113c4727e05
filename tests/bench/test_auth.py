"""The benchmark of the verdicts: it runs, and sees a bound that is broken."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingester.auth.dns import Resolver
from tests.bench import auth
from tests.bench.__main__ import main

pytestmark = pytest.mark.thorough

REPORT = auth.Report(
    mails=1,
    mean_bytes=10_000,
    spf_ms=0.1,
    dkim_ms=0.1,
    dmarc_ms=0.1,
    whole_ms=0.4,
    dkimpy_ms=5,
    pyspf_ms=1,
    base64=auth.Large(ours=900, dkimpy=30),
    plain=auth.Large(ours=450, dkimpy=15),
)


@pytest.mark.parametrize(
    "broken",
    [
        replace(REPORT, spf_ms=0.2),
        replace(REPORT, dkim_ms=0.2),
        replace(REPORT, dmarc_ms=0.2),
        replace(REPORT, base64=auth.Large(ours=499, dkimpy=30)),
    ],
)
def test_each_bound_is_seen_to_be_broken(broken: auth.Report) -> None:
    assert len(auth.check(broken)) == 1
    assert auth.check(REPORT) == ()


def bench(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setattr(auth, "_LARGE_BYTES", 50_000)
    return CliRunner().invoke(main, ["auth", "--mails", "20", "--runs", "1", "--cache", str(cache)])


def test_the_command_fails_on_a_broken_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MOST_MS", 0.0)
    result = bench(tmp_path, monkeypatch)
    assert result.exit_code == 1
    assert "BROKEN SPF, DKIM and DMARC" in result.output
    assert "the whole check" in result.output


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SPF_RECORD", "v=spf1 -all", "does not pass"),
        ("SMALL", range(0), "has no reply"),
        ("Resolver", partial(Resolver, cache_entries=0), "the cache was not warm"),
    ],
)
def test_figures_of_anything_else_are_refused(
    name: str, value: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, name, value)
    result = bench(tmp_path, monkeypatch)
    assert result.exit_code == 1
    assert reason in result.output
