"""The OpenAPI description: every route is in it, and it says what the code takes."""

import re
from typing import Any

import msgspec
import pytest

from ingester.transport.answers import Answer
from ingester.transport.http.description import operations
from ingester.transport.http.json_mail import InboundMail
from ingester.web.openapi import Operation, document
from ingester.web.problem import No
from ingester.web.server import HttpDoor
from tests.inbound import receiving


async def test_every_route_is_described_and_served_to_anybody(database_url: str) -> None:
    async with receiving(database_url) as house:
        async with house.session.get(f"http://127.0.0.1:{house.port}/openapi.json") as reply:
            assert reply.status == 200
            assert reply.content_type == "application/json"
            described = msgspec.json.decode(await reply.read())
        (door,) = [one for one in house.app._doors if isinstance(one, HttpDoor)]
        served = {
            (route.method, route.resource.canonical)
            for route in door._runner.app.router.routes()
            if route.resource is not None
        }
    assert described["openapi"].startswith("3.1")
    assert {(method.upper(), path) for path, item in described["paths"].items() for method in item} == served
    assert {"/events/inbound", "/openapi.json", "/v1/messages/{id}/sent"} <= set(described["paths"])


def schemas() -> Any:
    return document(operations())["components"]["schemas"]


def test_every_reference_leads_somewhere() -> None:
    text = msgspec.json.encode(document(operations())).decode()
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) <= set(schemas())


def test_bodies_are_those_of_the_code() -> None:
    assert set(schemas()["InboundMail"]["properties"]) == set(InboundMail.__struct_fields__)
    assert schemas()["InboundMail"]["required"] == ["event_id"]
    assert set(schemas()["Answer"]["properties"]) == set(Answer.__struct_fields__)
    assert schemas()["Answer"]["required"] == ["ok", "status"]
    assert set(No.__struct_fields__) <= set(Answer.__struct_fields__)


def test_patterns_are_in_the_dialect_of_json_schema() -> None:
    found = re.findall(r'"pattern":"([^"]*)"', msgspec.json.encode(document(operations())).decode())
    assert found
    assert all(one.startswith("^") and one.endswith("$") for one in found)


@pytest.mark.parametrize("operation", operations(), ids=lambda one: one.path)
def test_every_answer_of_the_issue_is_described(operation: Operation) -> None:
    assert set(operation.answers) == {200, 202, 400, 401, 408, 409, 413, 415, 422, 503}
    responses = document(operations())["paths"][operation.path]["post"]["responses"]
    assert "Retry-After" in responses["503"]["headers"]
    assert "WWW-Authenticate" in responses["401"]["headers"]


def test_a_route_is_described_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        document((*operations(), *operations()))
