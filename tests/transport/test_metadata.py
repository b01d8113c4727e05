"""ingester.transport.metadata: what a provider says beside a mail, within what jsonb can keep."""

from typing import Any

import msgspec
import pytest

from ingester.transport.metadata import MAX_BYTES, checked, read_metadata
from ingester.web.problem import Problem
from tests.cost import assert_cheap


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def test_any_object_is_kept() -> None:
    value = {"a": [1, 2.5, None, True, {"b": "\u00e9\U0001f600\n"}], "": {}}
    assert read_metadata(msgspec.json.encode(value)) == value
    assert read_metadata(b"null") == {}
    assert read_metadata(nested(15)) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"1",
        b'"x"',
        b'{"a":"\\u0000"}',
        b'{"\\u0000":1}',
        b'{"a":[{"b":["\\u0000"]}]}',
        b'{"a":"\\ud800 xxxxxxxxxx"}',
        b'{"a":"\xff"}',
        b"{",
        nested(25),
        nested(10_000),
        b'{"a":' + b"[" * 30_000,
        msgspec.json.encode({"a": "x" * MAX_BYTES}),
        b'{"a":1e999}',
    ],
)
def test_what_cannot_be_kept_is_unprocessable(text: bytes) -> None:
    problem = read_metadata(text)
    assert isinstance(problem, Problem)
    assert (problem.status, problem.field) == (422, "metadata")


@pytest.mark.parametrize("value", [{"a": "\ud800"}, {"\0": 1}, {"a": b"\xff" * MAX_BYTES}, {"a": object()}])
def test_values_of_a_form_are_checked_too(value: dict[str, Any]) -> None:
    assert isinstance(checked(value), Problem)


def test_a_hostile_object_is_cheap() -> None:
    wide = b'{"a":[' + b"[]," * 20_000 + b"[]]}"
    assert_cheap(lambda: read_metadata(wide), seconds=0.2)
    assert_cheap(lambda: read_metadata(b"[" * (30 << 20)), seconds=0.2)
