"""Logging: two forms, one stream, and nothing in it that is mail."""

import io
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog

from ingester.arrival import Ending
from ingester.settings import load
from ingester.telemetry import Stage, logs, redaction
from ingester.telemetry.redaction import AddressHash, FloodGate, Redaction

Lines = Callable[[], list[dict[str, Any]]]
Configure = Callable[..., Lines]
SECRET = "a secret of the tokens that is long"
OTHER = "another secret of tokens that is long"


@pytest.fixture
def configured() -> Iterator[Configure]:
    """Sets logging up as asked and gives what was logged; puts everything back at the end."""
    root, mail = logging.getLogger(), logging.getLogger("mail.log")
    before = (root.handlers[:], root.level, mail.level, mail.propagate)
    mail_lines = logs.mail_lines()
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)

    def configure(**environ: str) -> Lines:
        stream = io.StringIO()
        names = {f"INGESTER_{name}": value for name, value in environ.items()}
        logs.configure(load(names), stream=stream)
        return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]

    yield configure
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, mail.level, mail.propagate = before
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    structlog.reset_defaults()
    logs._mail_lines = mail_lines


def test_production_writes_json_lines(configured: Configure) -> None:
    lines = configured()
    structlog.get_logger().info("serving", pid=7, id=UUID(int=5), what=object(), when=None, at=Path("/etc"))
    (line,) = lines()
    assert list(line)[:3] == ["time", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(line.pop("time")))
    assert line == {
        "event": "serving",
        "level": "info",
        "pid": 7,
        "id": "00000000-0000-0000-0000-000000000005",
        "what": "<object>",
        "when": None,
        "at": "/etc",
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


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_addresses_are_keyed_hashes(configured: Configure) -> None:
    lines = configured(REPLY_TOKEN_SECRETS=SECRET)
    given = ["ada@example.test", "b@example.test"]
    structlog.get_logger().info("mail", mail_from="Ada@Example.test", rcpt_to=given, to="", client="192.0.2.7")
    (line,) = lines()
    hide = logs.address_hash(load({"INGESTER_REPLY_TOKEN_SECRETS": SECRET}))
    assert line["mail_from"] == hide("ada@example.test")
    assert line["rcpt_to"] == [hide(one) for one in given]
    assert line["client"] == hide("192.0.2.7")
    assert line["to"] == ""
    assert "example" not in json.dumps(line)


def test_an_address_under_any_key_is_hashed(configured: Configure) -> None:
    lines = configured()
    structlog.get_logger().info(
        "to ada@example.test", why='<ada@example.test> knows "b of us"@example.test', deep=[{"x": "a@b"}]
    )
    text = json.dumps(lines())
    assert "example" not in text
    assert "of us" not in text
    assert "a@b" not in text
    assert len(re.findall("addr-[0-9a-f]{20}", text)) == 4


def test_addresses_are_clear_behind_the_setting(configured: Configure) -> None:
    lines = configured(LOG__ADDRESSES="yes")
    structlog.get_logger().info("mail", mail_from="Ada@Example.test", client="192.0.2.7", why="of ada@example.test")
    (line,) = lines()
    assert (line["mail_from"], line["client"], line["why"]) == ("Ada@Example.test", "192.0.2.7", "of ada@example.test")


FACTS = {
    "arrival_id": UUID(int=7),
    "outcome": Ending.ACCEPTED,
    "bytes": 812,
    "client": "192.0.2.0/24",
    "mail_from": "Ada@Example.test",
    "rcpt_to": ["b@example.test", "\udcff@example.test"],
    "message_ids": [UUID(int=8)],
    "ms": 3.4,
    "stage_ms": {Stage.PARSE: 0.7},
}
"""Of a mail, in the types in which the pipeline tells them."""


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tls": "of ada@example.test"},
        {"tls": "\x1b[2J"},
        {"tls": "\u202e"},
        {"tls": "\x7f"},
        {"tls": "x" * 3000},
        {"tls": None},
    ],
)
def test_the_line_of_a_mail_is_what_the_long_way_makes_of_it(configured: Configure, more: dict[str, Any]) -> None:
    """Word for word, whatever strays into it."""
    lines = configured(REPLY_TOKEN_SECRETS=SECRET)
    assert isinstance(logs.mail_lines(), logs.MailLines)
    logs.mail_lines()({**FACTS, **more})
    logs.log_mail({**FACTS, **more})
    quick, slow = lines()
    assert list(quick)[:3] == ["time", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(quick.pop("time")))
    slow.pop("time")
    assert quick == slow
    assert "example" not in json.dumps(quick)
    assert quick["mail_from"] == logs.address_hash(load({"INGESTER_REPLY_TOKEN_SECRETS": SECRET}))("ada@example.test")


@pytest.mark.parametrize(("settings", "told"), [({"LOG__LEVEL": "warning"}, 0), ({"LOG__ADDRESSES": "yes"}, 1)])
def test_the_line_of_a_mail_heeds_the_settings(configured: Configure, settings: dict[str, str], told: int) -> None:
    lines = configured(**settings)
    logs.mail_lines()(FACTS)
    assert [line["mail_from"] for line in lines()] == ["Ada@Example.test"] * told


def test_names_outlive_a_restart_and_a_new_secret_in_front() -> None:
    def name(**environ: str) -> str:
        return logs.address_hash(load({f"INGESTER_{key}": value for key, value in environ.items()}))("a@b.test")

    assert name(REPLY_TOKEN_SECRETS=SECRET) == name(REPLY_TOKEN_SECRETS=f"{OTHER},{SECRET}")
    assert name(REPLY_TOKEN_SECRETS=SECRET) != name(REPLY_TOKEN_SECRETS=OTHER)
    assert name(INBOUND_TOKEN=SECRET) == name(INBOUND_TOKEN=SECRET)
    assert name() != name(), "without a secret they end with the process"


def test_another_key_gives_another_name() -> None:
    assert AddressHash(b"k" * 32)("a@b.test") != AddressHash(b"l" * 32)("a@b.test")
    assert re.fullmatch("addr-[0-9a-f]{20}", AddressHash(b"k" * 32)("\udcff@b.test"))
    with pytest.raises(ValueError, match="16 bytes"):
        AddressHash(b"short")


# -- the net -----------------------------------------------------------------------------------------------------------


def test_mail_text_and_secrets_do_not_get_through(configured: Configure) -> None:
    lines = configured()
    given = dict.fromkeys(redaction.HIDDEN_KEYS, "hushhush")
    structlog.get_logger().warning("careless", **given, bytes_=b"hushhush", deep={"subject": "hushhush"})
    structlog.get_logger().warning("careless", error=ValueError("hushhush"), deep=[[[["hushhush"]]]])
    careless, worse = lines()
    assert "hush" not in json.dumps([careless, worse])
    assert careless["bytes_"] == "<8 bytes>"
    assert worse["error"] == "<ValueError>"


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
    structlog.get_logger().info("hello", word="\x1b[2J\n" + "x" * 1000, many=list(range(1000)))
    (line,) = lines()
    assert len(line["word"]) == redaction.TEXT_LIMIT + 3
    assert line["word"].isprintable()
    assert len(line["many"]) == redaction.LIST_LIMIT


def test_the_standard_library_is_routed_and_aiosmtpd_silent(configured: Configure) -> None:
    lines = configured(LOG__LEVEL="debug")
    logging.getLogger("asyncio").info("not for operators")
    logging.getLogger("mail.log").critical("RCPT TO:<ada@example.test>")
    warnings.showwarning("deprecated", DeprecationWarning, "file.py", 1)
    logging.getLogger("asyncio").warning("Executing took %.3f seconds", 0.25)
    assert [(line["event"], line["level"], line["logger"]) for line in lines()] == [
        ("file.py:1: DeprecationWarning: deprecated", "warning", "py.warnings"),
        ("Executing took 0.250 seconds", "warning", "asyncio"),
    ]


@pytest.mark.parametrize(
    ("said", "arguments", "told"),
    [
        ("cannot read %s of %d", ("hushhush", 7), "cannot read ... of 7"),
        ("Exception in callback receive(b'hushhush')", (), "Exception in callback receive"),
        ("Task exception was never retrieved\nfuture: hushhush", (), "Task exception was never retrieved"),
        ("no such thing: 'hushhush'", (), "no such thing:"),
        ("%d too many: %s", ("hushhush",), ""),
        ("by name %(name)s", ({"name": "hushhush"},), "by name"),
    ],
)
def test_a_library_is_heard_in_its_own_words(
    configured: Configure, said: str, arguments: tuple[object, ...], told: str
) -> None:
    lines = configured()
    logging.getLogger("library").warning(said, *arguments)
    assert [line["event"] for line in lines()] == [told]


def test_a_line_that_cannot_be_made_is_not_printed_with_its_arguments(
    configured: Configure, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured()

    def fail(*_: object) -> None:
        raise RuntimeError("hushhush")

    monkeypatch.setattr(Redaction, "__call__", fail)
    logging.getLogger("library").warning("hushhush")
    assert "hush" not in capsys.readouterr().err


def test_a_crash_is_told_without_its_text(configured: Configure) -> None:
    lines = configured()
    logs.speak_of_crashes()
    try:
        raise ValueError("hushhush")
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
        sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)

    def crash() -> None:
        raise KeyError("hushhush")

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    first, second = lines()
    assert (first["event"], second["event"]) == ("crashed", "a thread crashed")
    assert "hush" not in json.dumps([first, second])
    assert first["exception"].startswith("ValueError (test_logs.py:")


# -- floods ------------------------------------------------------------------------------------------------------------


def test_a_flood_of_one_event_is_counted(configured: Configure) -> None:
    lines = configured()
    for _ in range(redaction.LINES + 50):
        structlog.get_logger().info("knock")
        logging.getLogger("library").warning("knock again %d", 7)
        structlog.get_logger().info("mail")
    told = [line["event"] for line in lines()]
    assert told.count("knock") == told.count("knock again 7") == redaction.LINES
    assert told.count("mail") == redaction.LINES + 50


def test_the_number_of_what_was_left_out_is_told_later() -> None:
    now = [0.0]
    gate = FloodGate(lambda: now[0])
    assert [gate.left_out("knock") for _ in range(redaction.LINES + 7)] == [0] * redaction.LINES + [None] * 7
    assert gate.left_out("other") == 0
    now[0] = redaction.WINDOW_SECONDS
    assert [gate.left_out("knock"), gate.left_out("knock")] == [7, 0]
    now[0] = 2 * redaction.WINDOW_SECONDS
    assert gate.left_out("knock") == 0


def test_the_net_is_cheap_with_hostile_values() -> None:
    """A text is looked at no further than its bound, whatever stands in it."""
    hide = Redaction(AddressHash(b"k" * 32))
    event = hide(None, "", {"event": "x", "why": "a" * 10_000_000 + "@b"})
    assert len(event["why"]) == redaction.TEXT_LIMIT + 3
    assert "a@b" not in str(hide(None, "", {"event": "x", "why": "a@b" * 500_000}))
