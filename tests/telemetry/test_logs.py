"""Logging: two forms, one stream, and nothing in it that is mail."""

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
import structlog

from ingester.settings import load
from ingester.telemetry import logs
from ingester.telemetry.logs import AddressHash

Lines = Callable[[], list[dict[str, object]]]
Configure = Callable[..., Lines]


@pytest.fixture
def configured() -> Iterator[Configure]:
    """Sets logging up as asked and gives what was logged; puts everything back at the end."""
    root, mail = logging.getLogger(), logging.getLogger("mail.log")
    before = (root.handlers[:], root.level, mail.level, mail.propagate)

    def configure(**environ: str) -> Lines:
        stream = io.StringIO()
        names = {f"INGESTER_{name}": value for name, value in environ.items()}
        logs.configure(load(names), stream=stream, key=b"k" * 32)
        return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]

    yield configure
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, mail.level, mail.propagate = before
    structlog.reset_defaults()


def test_production_writes_json_lines(configured: Configure) -> None:
    lines = configured()
    structlog.get_logger().info("serving", pid=7, id=UUID(int=5), what=object(), when=None)
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(line.pop("time")))
    assert line == {
        "event": "serving",
        "level": "info",
        "pid": 7,
        "id": "00000000-0000-0000-0000-000000000005",
        "what": "<object>",
        "when": None,
    }


def test_development_writes_for_people(capsys: pytest.CaptureFixture[str], configured: Configure) -> None:
    configured()
    logs.configure(load({"INGESTER_ENV": "development"}))
    structlog.get_logger().info("serving", pid=7)
    assert re.search(r"\[info +\] serving +pid=7\n", capsys.readouterr().err)


def test_the_level_is_kept(configured: Configure) -> None:
    lines = configured(LOG__LEVEL="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines()] == ["loud"]


def test_addresses_are_keyed_hashes(configured: Configure) -> None:
    lines = configured()
    structlog.get_logger().info(
        "mail", mail_from="Ada@Example.test", recipient=["ada@example.test", "b@example.test"], to=""
    )
    (line,) = lines()
    name = AddressHash(b"k" * 32)("ada@example.test")
    assert line["mail_from"] == name
    assert line["recipient"] == [name, AddressHash(b"k" * 32)("b@example.test")]
    assert line["to"] == ""
    assert "example" not in json.dumps(line)


def test_addresses_are_clear_behind_the_setting(configured: Configure) -> None:
    lines = configured(LOG__ADDRESSES="yes")
    structlog.get_logger().info("mail", mail_from="Ada@Example.test")
    assert lines()[0]["mail_from"] == "Ada@Example.test"


def test_another_key_gives_another_name() -> None:
    assert AddressHash(b"k" * 32)("a@b.test") != AddressHash(b"l" * 32)("a@b.test")
    assert re.fullmatch("addr-[a-z2-7]{16}", AddressHash(b"k" * 32)("\udcff@b.test"))
    with pytest.raises(ValueError, match="16 bytes"):
        AddressHash(b"short")


def test_mail_text_and_secrets_do_not_get_through(configured: Configure) -> None:
    lines = configured()
    given = dict.fromkeys(logs.HIDDEN_KEYS, "hushhush")
    structlog.get_logger().warning("careless", **given, bytes_=b"hushhush")
    (line,) = lines()
    assert "hush" not in json.dumps(line)
    assert line["bytes_"] == "<8 bytes>"


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_exception_is_told_by_type_and_place(
    configured: Configure, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    configured()
    logs.configure(load({"INGESTER_LOG__FORMAT": form}))
    try:
        try:
            raise ValueError("hushhush")
        except ValueError as error:
            raise KeyError("hushhush") from error
    except KeyError:
        structlog.get_logger().exception("failed")
        logging.getLogger("asyncio").exception("Task exception was never retrieved\nfuture: <Task exception=hushhush>")
    said = capsys.readouterr().err
    assert "hush" not in said
    assert said.count("KeyError (test_logs.py:") == 2
    assert said.count(" from ValueError (test_logs.py:") == 2
    assert "Task exception was never retrieved" in said


def test_what_strangers_say_is_bounded_and_moves_no_cursor(configured: Configure) -> None:
    lines = configured()
    structlog.get_logger().info("hello", helo="\x1b[2J\n" + "x" * 1000)
    helo = str(lines()[0]["helo"])
    assert len(helo) == logs.TEXT_LIMIT + 3
    assert helo.isprintable()


def test_the_standard_library_is_routed_and_aiosmtpd_silent(configured: Configure) -> None:
    lines = configured(LOG__LEVEL="debug")
    logging.getLogger("asyncio").warning("slow callback %s", "here")
    logging.getLogger("asyncio").info("not for operators")
    logging.getLogger("mail.log").critical("RCPT TO:<ada@example.test>")
    warnings.showwarning("deprecated", DeprecationWarning, "file.py", 1)
    assert [(line["event"].partition(":")[0], line["level"]) for line in lines() if isinstance(line["event"], str)] == [
        ("slow callback here", "warning"),
        ("file.py", "warning"),
    ]
