"""The benchmark of reading: it reads what the standard library reads, and sees a bound that is broken."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench import corpus as corpora
from tests.bench import hostile, mime
from tests.bench.__main__ import main
from tests.bench.mime import Crafted, Large, Speed

pytestmark = pytest.mark.thorough

SPEED = Speed(scan_decode_ms=0.2, compat32_ms=2, text_ms=0.1, digest_ms=0.5, ratio=10, mb_per_second=500)
LARGE = Large(name="5 MB", size=5_000_000, scan_decode_mb_s=500, digest_mb_s=300, decode_memory=0.9, digest_memory=0.2)
CRAFTED = Crafted(name="x", seconds=0.1)


def test_both_readers_read_the_same(tmp_path: Path) -> None:
    corpus = corpora.load(seed=7, count=40, cache=tmp_path)
    for mail in corpus.mails:
        if mail.shape != "forward":  # compat32 enters the embedded message
            raw = corpus.raw(mail)
            assert mime.read(raw) == mime.read_compat32(raw) > 0


@pytest.mark.parametrize(
    ("speed", "large", "crafted"),
    [
        (replace(SPEED, ratio=4.9), LARGE, CRAFTED),
        (SPEED, replace(LARGE, scan_decode_mb_s=199), CRAFTED),
        (SPEED, replace(LARGE, decode_memory=1.6), CRAFTED),
        (SPEED, replace(LARGE, digest_memory=1.6), CRAFTED),
        (SPEED, LARGE, replace(CRAFTED, seconds=0.21)),
    ],
)
def test_each_bound_is_seen_to_be_broken(speed: Speed, large: Large, crafted: Crafted) -> None:
    assert len(mime.check(speed, (large,), (crafted,))) == 1
    assert mime.check(SPEED, (LARGE,), (CRAFTED,)) == []


def test_every_shape_is_a_megabyte_at_most() -> None:
    made = {name: len(make()) for name, make in hostile.shapes().items()}
    assert len(made) > 200
    assert max(made.values()) < 1.3 * hostile.MB


def test_the_command_writes_its_figures_and_fails_on_a_broken_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mime, "LARGE", {"small": lambda: mime._attached(100_000, 2)})
    monkeypatch.setattr(mime, "shapes", lambda: {"body": lambda: b"\r\n" + b"x" * 1000})
    monkeypatch.setattr(mime, "MOST_MEMORY", 0.0)
    file = tmp_path / "mime.json"
    command = ["mime", "--mails", "5", "--runs", "1", "--json", str(file), "--cache", str(tmp_path)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "BROKEN small" in result.output
    figures = json.loads(file.read_bytes())
    assert figures["mode"] == "mime"
    assert [one["name"] for one in figures["crafted"]] == ["body"]
