"""The API's description: OpenAPI 3.1, written from the handlers themselves, and a page made from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web
from markupsafe import Markup, escape
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gateway.domain.access import Role
from gateway.web.access import public
from gateway.web.api import ENDPOINTS
from gateway.web.api.endpoint import BODY_MOST, PREFIX, Endpoint
from gateway.web.problems import MEDIA_TYPE, Fault

REF = "#/components/schemas/{model}"
PROBLEMS = {
    "400": "The request is not well formed.",
    "401": "No valid bearer token.",
    "403": "The token's role may not do this.",
    "404": "There is no such thing, or it is somebody else's.",
    "409": "It contradicts what holds (`holds`), or the slot is gone (`next_slots`).",
    "413": f"The body is larger than {BODY_MOST // 1024} KiB.",
    "415": "The body is not JSON.",
    "422": "Something in the request cannot be taken; `errors` names every place.",
    "503": "A store cannot be used right now; try again after `Retry-After` seconds.",
}

Models = Mapping[Any, dict[str, Any]]
"""{(model, mode): reference}, as pydantic gives it"""

routes = web.RouteTableDef()


class ProblemOut(BaseModel):
    """What is refused, and why (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Fault] = []


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemOut, "serialization")]
    wanted += [(e.body, "validation") for e in ENDPOINTS if e.body is not None]
    wanted += [(e.answer, "serialization") for e in ENDPOINTS if e.answer is not None]
    models, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(PREFIX + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, models)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Touchpoint",
            "version": version("touchpoint-gateway"),
            "description": "What a connected product knows becomes one contact at the right moment.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": name} for name in dict.fromkeys(e.tag for e in ENDPOINTS)],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {
                code: {
                    "description": text,
                    "content": {MEDIA_TYPE: {"schema": models[ProblemOut, "serialization"]}},
                }
                for code, text in PROBLEMS.items()
            },
        },
    }


def _operation(endpoint: Endpoint, models: Models) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": endpoint.description,
        "x-roles": [str(role) for role in endpoint.roles],
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint), *_headers(endpoint)],
        "responses": {str(endpoint.status): _answer(endpoint, models)}
        | {code: {"$ref": f"#/components/responses/{code}"} for code in _refusals(endpoint)},
    }
    if endpoint.body is not None:
        schema = models[endpoint.body, "validation"]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _path_parameters(endpoint: Endpoint) -> Iterable[dict[str, Any]]:
    for name, kind in endpoint.arguments.items():
        yield {"name": name, "in": "path", "required": True, "schema": kind.json_schema()}


def _query_parameters(endpoint: Endpoint) -> Iterable[dict[str, Any]]:
    if endpoint.query is None:
        return
    schema = endpoint.query.model_json_schema(ref_template=REF)
    known = schema.get("$defs", {})
    for name, field in schema.get("properties", {}).items():
        parameter: dict[str, Any] = {"name": name, "in": "query"}
        parameter["required"] = name in schema.get("required", ())
        parameter["description"] = field.get("description", "")
        parameter["schema"] = _inlined({k: v for k, v in field.items() if k != "description"}, known)
        if field.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        yield parameter


def _inlined(schema: Any, known: Mapping[str, Any]) -> Any:
    """A schema with its few references resolved: parameters stand for themselves."""
    if isinstance(schema, list):
        return [_inlined(part, known) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return known[schema["$ref"].rpartition("/")[2]]
    return {key: _inlined(value, known) for key, value in schema.items()}


def _headers(endpoint: Endpoint) -> Iterable[dict[str, Any]]:
    if not {Role.OPERATOR, Role.INTEGRATION}.isdisjoint(endpoint.roles):
        yield {
            "name": "Access-Reason",
            "in": "header",
            "required": False,
            "description": "Why staff look at an owner's data; the owner's ledger says it.",
            "schema": {"type": "string", "maxLength": 200},
        }
    if endpoint.method == "POST":
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Sent again with the same key and body, the request is answered and not repeated.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }


def _answer(endpoint: Endpoint, models: Models) -> dict[str, Any]:
    if endpoint.media != "application/json":
        return {"description": endpoint.summary, "content": {endpoint.media: {}}}
    if endpoint.answer is None:
        return {"description": "Done."}
    schema = models[endpoint.answer, "serialization"]
    return {
        "description": (endpoint.answer.__doc__ or "").strip().partition("\n")[0],
        "content": {"application/json": {"schema": schema}},
    }


def _refusals(endpoint: Endpoint) -> list[str]:
    with_body = endpoint.body is not None
    conditions = {
        "400": with_body or endpoint.method == "POST",
        "404": bool(endpoint.arguments) or endpoint.query is not None,
        "409": endpoint.method != "GET",
        "413": with_body,
        "415": with_body,
    }
    return [code for code in PROBLEMS if conditions.get(code, True)]


# --- the page -------------------------------------------------------------------------------------


@routes.get(f"{PREFIX}/openapi.json")
@public
async def describe(_: web.Request) -> web.Response:
    """The OpenAPI document."""
    return web.json_response(document(), headers={"Cache-Control": "no-cache"})


@routes.get(f"{PREFIX}/docs")
@public
async def docs(_: web.Request) -> web.Response:
    """The same for people."""
    html = _template().render(api=document(), groups=_groups())
    return web.Response(text=html, content_type="text/html", headers={"Cache-Control": "no-cache"})


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "api")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.globals.update(resolve=resolve, kind_of=kind_of, marked=marked)
    return environment.get_template("docs.html")


def _groups() -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            entry = {"method": method.upper(), "path": path, **operation}
            groups.setdefault(operation["tags"][0], []).append(entry)
    return groups


def resolve(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference means."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = document()["components"]["schemas"].get(name, schema)
    return found


def marked(text: str) -> Markup:
    """A docstring's text, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def kind_of(schema: Mapping[str, Any]) -> str:
    """A schema's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(kind_of(option) for option in options)
    if schema.get("type") == "array":
        return f"list of {kind_of(schema['items'])}" if "items" in schema else "list"
    return str(schema.get("format") or schema.get("type") or "any")
