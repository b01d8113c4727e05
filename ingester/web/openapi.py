"""The description of every route over HTTP (OpenAPI 3.1), made of what each door says of its own, served to anybody.

Bodies are described by the Structs that read and write them, so that the two cannot drift apart. Knows nothing of mail.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from ingester import __version__
from ingester.web.problem import No

PATH: Final = "/openapi.json"
_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"

Schema = Mapping[str, Any]
SECURITY: Final[dict[str, Schema]] = {
    "api_key": {"type": "http", "scheme": "bearer", "description": "An API key of a tenant: `ingester key add`."},
    "intake_bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "INGESTER_INBOUND_TOKEN, or an intake token: `ingester intake add`.",
    },
    "intake_basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The same token as the password of any user.",
    },
}
_HEADERS: Final[dict[int, Schema]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    503: {"Retry-After": {"required": True, "schema": {"type": "integer"}, "description": "Seconds."}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One value in the path, the query or a header."""

    name: str
    place: str
    about: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route. `bodies` by media type; `answers` by status, each the Struct of its body and when it is given."""

    method: str
    path: str
    name: str
    summary: str
    about: str = ""
    security: Sequence[str] = ()
    parameters: Sequence[Parameter] = ()
    bodies: Mapping[str, type[msgspec.Struct] | Schema] = field(default_factory=dict)
    answers: Mapping[int, tuple[type[msgspec.Struct] | Schema, str]]


def common(*statuses: int) -> dict[int, tuple[type[msgspec.Struct] | Schema, str]]:
    """The noes that are the same everywhere."""
    return {status: (No, HTTPStatus(status).phrase) for status in statuses}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The whole description. Two operations of one path and method are a mistake: ValueError."""
    described = [_OWN, *operations]
    paths: dict[str, dict[str, Any]] = {}
    for one in described:
        path = paths.setdefault(one.path, {})
        if one.method.lower() in path:
            raise ValueError(f"{one.method} {one.path} is described twice")
        path[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ingester", "version": __version__, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {"schemas": _components(described), "securitySchemes": SECURITY},
    }


def route(operations: Iterable[Operation]) -> web.RouteDef:
    """The route that serves it."""
    body = msgspec.json.encode(document(operations))

    async def get(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=_JSON)

    return web.get(PATH, get, allow_head=False)


_OWN: Final = Operation(
    method="GET",
    path=PATH,
    name="getDescription",
    summary="This description.",
    answers={200: ({"type": "object"}, "The description of every route.")},
)


def _operation(one: Operation) -> dict[str, Any]:
    out: dict[str, Any] = {"operationId": one.name, "summary": one.summary}
    if one.about:
        out["description"] = one.about
    if one.security:
        out["security"] = [{name: []} for name in one.security]
    if one.parameters:
        out["parameters"] = [_parameter(parameter) for parameter in one.parameters]
    if one.bodies:
        content = {media: {"schema": _schema(body)} for media, body in one.bodies.items()}
        out["requestBody"] = {"required": True, "content": content}
    out["responses"] = {str(status): _answer(status, *told) for status, told in sorted(one.answers.items())}
    return out


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": one.place,
        "required": one.place == "path",
        "description": one.about,
        "schema": one.schema,
    }


def _answer(status: int, body: type[msgspec.Struct] | Schema, about: str) -> dict[str, Any]:
    out: dict[str, Any] = {"description": about, "content": {_JSON: {"schema": _schema(body)}}}
    if status in _HEADERS:
        out["headers"] = _HEADERS[status]
    return out


def _schema(body: type[msgspec.Struct] | Schema) -> Schema:
    return body if isinstance(body, Mapping) else {"$ref": _REF.format(name=body.__name__)}


def _components(operations: Iterable[Operation]) -> dict[str, Any]:
    kinds: dict[type[msgspec.Struct], None] = {}
    for one in operations:
        for body in (*one.bodies.values(), *(body for body, _ in one.answers.values())):
            if not isinstance(body, Mapping):
                kinds[body] = None
    _, found = msgspec.json.schema_components(kinds, schema_hook=_custom, ref_template=_REF)
    translated = _translated(found)
    assert isinstance(translated, dict)
    return translated


def _custom(kind: type) -> dict[str, Any]:
    """The schema of a type of ours, which it knows itself."""
    schema = getattr(kind, "SCHEMA", None)
    if not isinstance(schema, dict):
        raise NotImplementedError
    return schema


def _translated(schema: object) -> object:
    """Patterns in the dialect of JSON Schema (ECMA-262), which has no `\\A` and `\\Z`; docstrings as one text."""
    if isinstance(schema, dict):
        return {key: _word(key, value) or _translated(value) for key, value in schema.items()}
    return [_translated(one) for one in schema] if isinstance(schema, list) else schema


def _word(key: str, value: object) -> str | None:
    if not isinstance(value, str):
        return None
    if key == "pattern":
        return value.replace(r"\A", "^").replace(r"\Z", "$")
    return " ".join(value.split()) if key == "description" else None
