"""The API's description: OpenAPI 3.1, written from the handlers themselves, and a page made from it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web
from markupsafe import Markup, escape
from pydantic import BaseModel, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gateway.domain.access import Role
from gateway.web.access import public
from gateway.web.api import ENDPOINTS
from gateway.web.api.endpoint import BODY_MOST, PREFIX, Endpoint
from gateway.web.examples import curl, example_of
from gateway.web.problems import MEDIA_TYPE, Fault

REF = "#/components/schemas/{model}"
PROBLEMS = {
    "400": "The request is not well formed: its body is no JSON, or a header cannot be read.",
    "401": "No valid bearer token.",
    "403": "The token's role may not do this.",
    "404": "There is no such thing, or it is somebody else's.",
    "409": "It contradicts what holds (`holds`), or the slot is gone (`next_slots`).",
    "410": "It was there once, and is over.",
    "412": "It is not what the condition (If-Match, If-None-Match) names.",
    "413": f"The body is larger than {BODY_MOST // 1024} KiB.",
    "415": "The body is in none of the formats that are taken here.",
    "422": "Something in the request cannot be taken; `errors` names every place.",
    "429": "Too many requests of this token; go on after `Retry-After` seconds.",
    "503": "A store cannot be used right now; try again after `Retry-After` seconds.",
}

HEADERS: Mapping[str, dict[str, Any]] = {
    "ETag": {
        "description": "Changes when what is shown does; for If-None-Match, and for If-Match of a change.",
        "schema": {"type": "string"},
        "example": '"q1ZcbhVBkdKxXO6cZ5wq"',
    },
    "RateLimit-Policy": {
        "description": "A token may ask q requests in w seconds (draft-ietf-httpapi-ratelimit-headers).",
        "schema": {"type": "string"},
        "example": '"api";q=6000;w=60',
    },
    "RateLimit": {
        "description": "What is left of it (r) and for how many seconds that holds (t).",
        "schema": {"type": "string"},
        "example": '"api";r=5990;t=42',
    },
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}, "example": 5},
    "Idempotency-Replayed": {
        "description": "true: this key was sent before, and this is what was answered then.",
        "schema": {"type": "string", "const": "true"},
    },
}
RATE = {name: {"$ref": f"#/components/headers/{name}"} for name in ("RateLimit-Policy", "RateLimit")}
TAGGED = {"ETag": {"$ref": "#/components/headers/ETag"}}
RETRY = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
REPLAYED = {"Idempotency-Replayed": {"$ref": "#/components/headers/Idempotency-Replayed"}}

Models = Mapping[Any, dict[str, Any]]
"""{(model, mode): reference}, as pydantic gives it"""

routes = web.RouteTableDef()


class ProblemOut(BaseModel):
    """What is refused, and why (RFC 9457)."""

    type: str = Field(
        description="urn:touchpoint:problem:… for what a program may want to tell apart, else about:blank.",
        examples=["urn:touchpoint:problem:invalid-request"],
    )
    title: str = Field(examples=["The request cannot be taken"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["time_zone: 'Europe/Berlln' is no IANA time zone, such as Europe/Berlin."])
    errors: list[Fault] = Field([], description="Every place that is wrong, all at once.")


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemOut, "serialization")]
    wanted += [(e.body, "validation") for e in ENDPOINTS if e.body is not None]
    wanted += [(m, "validation") for e in ENDPOINTS for m in e.accepts.values() if is_model(m)]
    wanted += [(e.answer, "serialization") for e in ENDPOINTS if e.answer is not None]
    models, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(PREFIX + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, models)
    _put_examples(paths, definitions["$defs"])
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
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`touchpoint token create` makes one; its role says what it may do.",
                }
            },
            "headers": HEADERS,
            "responses": {code: _problem(code, models) for code in PROBLEMS},
        },
    }


def _put_examples(paths: Mapping[str, Mapping[str, Any]], known: Mapping[str, Any]) -> None:
    """An example with every body and answer, and the command that sends it."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            parts = [operation["responses"][code] for code in operation["responses"] if code.startswith("2")]
            for part in (operation.get("requestBody", {}), *parts):
                for content in part.get("content", {}).values():
                    if content.get("schema"):
                        content["example"] = example_of(content["schema"], known)
            operation["x-codeSamples"] = [
                {"lang": "Shell", "source": curl(method.upper(), path, operation, known)}
            ]


def is_model(thing: Any) -> bool:
    """Whether it is a model, and not plain bytes."""
    return isinstance(thing, type) and issubclass(thing, BaseModel)


def _problem(code: str, models: Models) -> dict[str, Any]:
    named = {**RATE, **RETRY} if code in ("429", "503") else RATE
    return {
        "description": PROBLEMS[code],
        "headers": named,
        "content": {MEDIA_TYPE: {"schema": models[ProblemOut, "serialization"]}},
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
    if endpoint.method == "GET" and endpoint.media == "application/json":
        operation["responses"]["304"] = {"description": "You have it already.", "headers": TAGGED}
    if endpoint.body is not None:
        operation["requestBody"] = _body({"application/json": endpoint.body}, models)
    elif endpoint.accepts:
        operation["requestBody"] = _body(endpoint.accepts, models)
    return operation


def _body(accepts: Mapping[str, Any], models: Models) -> dict[str, Any]:
    content: dict[str, dict[str, Any]] = {
        media: {"schema": models[model, "validation"]} if is_model(model) else {"schema": {}}
        for media, model in accepts.items()
    }
    return {"required": True, "content": content}


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
            "description": "Why staff look at an owner's data; the ledger says it, the first 200 letters.",
            "schema": {"type": "string"},
        }
    if endpoint.shown_by is not None or (endpoint.method == "GET" and endpoint.answer is not None):
        yield from _conditions(endpoint)
    if endpoint.method == "POST":
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Sent again with the same key and body, the request is answered and not repeated.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }


def _conditions(endpoint: Endpoint) -> Iterable[dict[str, Any]]:
    """What may stand before a change, or spare an answer that is known."""
    schema = {"type": "string", "pattern": CONDITION}
    if endpoint.method == "GET":
        said = "An ETag: if it is still that, the answer is 304 without a body."
        yield {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": said,
            "schema": schema,
        }
        return
    said = "The ETag that GET gave here: if it is not that any more, nothing is done, and 412 says so."
    yield {"name": "If-Match", "in": "header", "required": False, "description": said, "schema": schema}


CONDITION = r'^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$'


def _answer(endpoint: Endpoint, models: Models) -> dict[str, Any]:
    headers = {
        **RATE,
        **(TAGGED if endpoint.answer is not None and endpoint.method in ("GET", "PUT") else {}),
        **(REPLAYED if endpoint.method == "POST" else {}),
    }
    if endpoint.media != "application/json":
        return {"description": endpoint.summary, "headers": headers, "content": {endpoint.media: {}}}
    if endpoint.answer is None:
        return {"description": "Done.", "headers": headers}
    schema = models[endpoint.answer, "serialization"]
    return {
        "description": (endpoint.answer.__doc__ or "").strip().partition("\n")[0],
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
    }


def _refusals(endpoint: Endpoint) -> list[str]:
    with_body = endpoint.body is not None or bool(endpoint.accepts)
    conditions = {
        "409": endpoint.method != "GET",
        "410": endpoint.method != "GET",
        "412": endpoint.method != "POST",
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
    return web.Response(text=_page(), content_type="text/html", headers={"Cache-Control": "no-cache"})


@functools.cache
def _page() -> str:
    return _template().render(api=document(), groups=_groups())


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "api")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.globals.update(resolve=resolve, linked=linked, marked=marked, pretty=pretty)
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


def pretty(example: Any) -> str:
    """An example as people read JSON."""
    return json.dumps(example, ensure_ascii=False, indent=2)


def linked(schema: Mapping[str, Any]) -> Markup:
    """A schema's type in a few words, objects with a link to them."""
    objects = document()["components"]["schemas"]

    def link(found: re.Match[str]) -> str:
        name = found[0]
        return f'<a href="#{name}">{name}</a>' if name in objects and _listed(objects[name]) else name

    return Markup(re.sub(r"\w+", link, str(escape(kind_of(schema)))))


def _listed(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("properties") or schema.get("enum"))


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
