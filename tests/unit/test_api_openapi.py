"""The API's description says what is served, and is what it claims to be."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from web_lab import HOUR, NOW, Lab, web_lab

from gateway.domain.access import Role
from gateway.web.access import marked_routes
from gateway.web.api import ENDPOINTS
from gateway.web.openapi import document


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        yield opened


def test_it_describes_exactly_the_routes_that_are_served(lab: Lab) -> None:
    described = {
        (method.upper(), path) for path, methods in document()["paths"].items() for method in methods
    }
    served = {key for key in marked_routes(lab.app) if key[1].startswith("/api/v1/") and key[0] != "HEAD"}
    assert described == served - {("GET", "/api/v1/openapi.json"), ("GET", "/api/v1/docs")}


def test_it_is_valid_openapi_3_1_by_an_independent_judge() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document()).iter_errors()] == []


def test_every_body_and_answer_has_an_example_that_keeps_its_schema() -> None:
    whole = document()
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            for content in contents(operation):
                schema = content["schema"]
                assert "example" in content or not schema, (method, path)
                judge = Draft202012Validator({**schema, "components": whole["components"]})
                faults = [f"{list(e.path)}: {e.message}" for e in judge.iter_errors(content.get("example"))]
                assert not schema or faults == [], (method, path)


def test_every_whole_number_that_is_sent_has_an_end() -> None:
    """Beyond 64 bits no database takes it, and the answer would be 500."""
    whole = document()
    endless = [
        (method, path, number)
        for path, methods in whole["paths"].items()
        for method, operation in methods.items()
        for number in whole_numbers([operation.get("parameters"), operation.get("requestBody")], whole)
        if not {"maximum", "enum", "const"} & set(number)
    ]
    assert endless == []


def whole_numbers(part: Any, whole: Any, within: frozenset[str] = frozenset()) -> Iterator[Any]:
    """The schemas of whole numbers in a part of the document; `within`: what is followed already."""
    if isinstance(part, dict):
        reference = part.get("$ref")
        if reference is not None and reference not in within:
            *_, name = reference.split("/")
            yield from whole_numbers(whole["components"]["schemas"][name], whole, within | {reference})
        if part.get("type") == "integer":
            yield part
        for key, inner in part.items():
            yield from whole_numbers(inner, whole, within) if key not in ("example", "default") else ()
    elif isinstance(part, list):
        for inner in part:
            yield from whole_numbers(inner, whole, within)


def contents(operation: Any) -> Iterator[Any]:
    answers = [answer for code, answer in operation["responses"].items() if code.startswith("2")]
    for part in (operation.get("requestBody", {}), *answers):
        yield from (content for media, content in part.get("content", {}).items() if "json" in media)


def test_every_operation_says_how_it_refuses() -> None:
    for methods in document()["paths"].values():
        for method, operation in methods.items():
            codes = set(operation["responses"])
            assert {"400", "401", "403", "404", "422", "429", "503"} <= codes
            assert ("409" in codes) is (method != "get")
            assert ("413" in codes) is ("requestBody" in operation)
            assert operation["x-codeSamples"][0]["source"].startswith("curl ")


def test_every_operation_says_what_it_does_and_is_named_once() -> None:
    operations = [op for methods in document()["paths"].values() for op in methods.values()]
    names = [op["operationId"] for op in operations]
    assert len(set(names)) == len(names)
    assert all(op["summary"].endswith(".") for op in operations)


def test_every_reference_leads_somewhere() -> None:
    whole = document()
    for reference in set(references(whole)):
        assert reference.startswith("#/"), reference
        place: Any = whole
        for part in reference[2:].split("/"):
            place = place[part]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            yield from references(value)
    elif isinstance(node, list):
        for part in node:
            yield from references(part)


def test_path_parameters_are_those_of_the_path() -> None:
    for path, methods in document()["paths"].items():
        for operation in methods.values():
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))


def test_every_post_takes_an_idempotency_key_and_lists_take_limit_and_cursor() -> None:
    for endpoint in ENDPOINTS:
        operation = document()["paths"][f"/api/v1{endpoint.path}"][endpoint.method.lower()]
        names = {p["name"] for p in operation["parameters"]}
        assert ("Idempotency-Key" in names) is (endpoint.method == "POST")
        fields = endpoint.answer.model_fields if endpoint.answer else {}
        if {"items", "next"} <= set(fields):
            assert {"limit", "cursor"} <= names, endpoint.path


async def test_the_document_and_its_page_are_served_to_everybody_without_another_host(lab: Lab) -> None:
    async with lab.client.get("/api/v1/openapi.json") as response:
        assert (await response.json())["openapi"].startswith("3.1")
    async with lab.client.get("/api/v1/docs") as response:
        html = await response.text()
    assert response.status == 200
    for path in document()["paths"]:
        assert path in html
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", html)
    assert not re.findall(
        r"<script(?! src=\"/static/docs\.js\" defer></script>)|<style| style=| on\w+=", html
    )
    assert all(f'href="#{model}"' in html for model in ("OwnerOut", "ProblemOut", "AppointmentOut"))


async def test_what_is_answered_has_the_shape_that_is_described(lab: Lab) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    await lab.worn_pads("car-1", "jana")
    await lab.measured("car-1", "speed", (NOW - HOUR, 50.0))
    await lab.measured("car-1", "dtc", (NOW - HOUR, ["P0301"]))
    api = await lab.caller(Role.OPERATOR)
    by_path = {e.path: e.answer for e in ENDPOINTS if e.method == "GET"}
    for path, asked in {
        "/owners": "owners",
        "/owners/{owner_id}/ledger": "owners/jana/ledger",
        "/devices": "devices",
        "/devices/{device_id}": "devices/car-1",
        "/devices/{device_id}/readings": "devices/car-1/readings?signal=dtc",
        "/touchpoints": "touchpoints",
        "/workshops/{workshop_id}/slots": "workshops/north/slots?service=brakes-front",
        "/rules": "rules",
        "/outbox": "outbox",
        "/journal": "journal",
        "/analytics/feedback": "analytics/feedback",
        "/analytics/funnel": "analytics/funnel",
        "/analytics/measures": "analytics/measures",
        "/cases": "cases",
    }.items():
        answer = by_path[path]
        assert answer is not None
        body = await api.get(asked)
        schema = answer.model_json_schema(mode="serialization")
        assert set(schema.get("required", ())) <= set(body), path
        assert set(body) <= set(schema["properties"]), path
        assert json.dumps(body)
