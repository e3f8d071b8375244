"""Nothing that can be sent to the API breaks it: whatever stands in any one place is taken or refused."""

import copy
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from web_lab import BODIES, Caller, Lab, cast, filled, web_lab

from gateway.domain.access import Role
from gateway.web.api import ENDPOINTS
from gateway.web.api.endpoint import Endpoint
from gateway.web.openapi import document, resolve

TEXTS = (
    "",
    " ",
    "\x00",
    "x" * 5_000,
    "../..",
    "%00",
    "%",
    "'; DROP TABLE owners; --",
    "🚗",
    "\u202e",
    "-1",
    "٣",
    "1e999",
    "9" * 30,
    "null",
    "2026-11-23T08:00:00+99:99",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999Z",
    "0001-01-01T00:00:00+23:59",
    "1d",
    "999999d",
    "north@0",
    "north@999999999999999",
    "book:north@1",
)
VALUES = (None, True, -1, 2**63, 1.5, [None], {"a": {"b": []}}, [[["x"]]], *TEXTS[:10])

EXAMPLES: dict[str, Any] = {
    **BODIES,
    "POST /owners": {"name": "Jana"},
    "POST /devices": {"id": "car-9", "kind": "car"},
    "POST /workshops": {"name": "Nord", "services": [{"id": "oil", "names": {"en": "Oil"}, "minutes": 30}]},
    "POST /quarantine/replay": {"positions": [1]},
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        yield opened


def operation(endpoint: Endpoint) -> Any:
    return document()["paths"][f"/api/v1{endpoint.path}"][endpoint.method.lower()]


def parameters(endpoint: Endpoint, where: str) -> list[str]:
    return [p["name"] for p in operation(endpoint)["parameters"] if p["in"] == where]


def requests(endpoint: Endpoint, objects: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """(path with query, body), each with one place that holds something else."""
    key = f"{endpoint.method} {endpoint.path}"
    body, path = EXAMPLES.get(key), filled(endpoint.path, objects)[1:]
    for name in parameters(endpoint, "path"):
        for text in TEXTS:
            yield filled(endpoint.path, {**objects, name: quote(text, safe="")})[1:], body
    for name in parameters(endpoint, "query"):
        for text in TEXTS:
            yield f"{path}?{name}={quote(text, safe='')}", body
    if endpoint.body is not None:
        schema = operation(endpoint)["requestBody"]["content"]["application/json"]["schema"]
        for name in resolve(schema)["properties"]:
            for value in VALUES:
                changed = copy.deepcopy(body) or {}
                changed[name] = value
                yield path, changed
        for value in VALUES:
            yield path, value


async def check(caller: Caller, endpoint: Endpoint, path: str, body: Any) -> None:
    answer = await caller(endpoint.method, path, body)
    assert answer.status < 500, (endpoint.method, path[:200], body, answer.body)
    if answer.status >= 400:
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert answer.body["status"] == answer.status
        assert answer.body["detail"]


@pytest.mark.timeout(900)  # some six thousand requests
async def test_one_strange_value_anywhere_is_taken_or_refused(lab: Lab) -> None:
    objects = await cast(lab)
    caller = await lab.caller(Role.OPERATOR)
    for endpoint in ENDPOINTS:
        for path, body in requests(endpoint, objects):
            await check(caller, endpoint, path, body)


async def test_times_at_the_ends_of_the_calendar_are_taken_or_refused(lab: Lab) -> None:
    await cast(lab)
    caller = await lab.caller(Role.OPERATOR)
    ends = ("0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-11-24T00:00:00Z", "9999-12-31T23:59:59Z")
    for path in (
        "devices/car-1/readings?signal=speed",
        "devices/car-1/readings?signal=speed&every=1h",
        "workshops/north/slots?service=brakes-front",
        "appointments?limit=5",
    ):
        for start in ends:
            for end in ends:
                asked = f"{path}&from={start}&to={end}"
                assert (await caller("GET", asked)).status in (200, 422), asked
