"""The benchmark of the verdicts: it runs, and sees a bound that is broken."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench import auth
from tests.bench.__main__ import main

REPORT = auth.Report(
    mails=1,
    mean_bytes=10_000,
    spf_ms=0.1,
    dkim_ms=0.1,
    dmarc_ms=0.1,
    dkimpy_ms=5,
    pyspf_ms=1,
    large_mb_s=900,
    large_dkimpy_mb_s=30,
)


@pytest.mark.parametrize("broken", [replace(REPORT, dmarc_ms=0.2), replace(REPORT, large_mb_s=499)])
def test_each_bound_is_seen_to_be_broken(broken: auth.Report) -> None:
    assert len(auth.check(broken)) == 1
    assert auth.check(REPORT) == ()


def test_the_command_fails_on_a_broken_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MOST_MS", 0.0)
    monkeypatch.setattr(auth, "_LARGE_BYTES", 50_000)
    result = CliRunner().invoke(main, ["auth", "--mails", "20", "--runs", "1", "--cache", str(tmp_path)])
    assert result.exit_code == 1
    assert "BROKEN SPF, DKIM and DMARC" in result.output
