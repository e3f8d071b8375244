"""Examples for the API's description, made from its schemas, and the commands that send them.

Every example keeps its schema (a test holds each against it). What a schema says by itself counts first
(`examples`, `const`, `enum`, `default`), then what a field of that name usually holds, then its type.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

NAMES: Mapping[str, Any] = {
    "id": "018f3c1e-7a10-7c3b-9c55-2f5b8d1e4a90",
    "owner": "jana",
    "owner_id": "jana",
    "subject": "device:car-1",
    "device": "car-1",
    "device_id": "car-1",
    "workshop": "north",
    "workshop_id": "north",
    "person_id": "lisa",
    "purpose": "maintenance",
    "name": "Jana Keller",
    "email": "jana@example.org",
    "phone": "+49 40 5550101",
    "address": "Elbchaussee 1, Hamburg",
    "language": "de",
    "kind": "car",
    "model": "Arden 5",
    "plate": "HH-JK 482",
    "firmware": "4.2.0",
    "rule": "brake-pads-front-worn",
    "rule_id": "brake-pads-front-worn",
    "service": "brakes-front",
    "action": "book",
    "slot": "north@1796112000000",
    "signal": "pad_wear_front",
    "url": "https://hooks.example.org/touchpoint",
    "region": "HH",
    "recipient": "jana@example.org",
    "audience": "manufacturer",
    "postcode": "20",
    "title": "The rear window can come loose",
    "latitude": 53.55,
    "longitude": 9.99,
    "endpoint": "https://push.example.org/abc",
    "currency": "EUR",
    "country": "DE",
    "text": "The brakes squeal.",
    "comment": "In the morning, please.",
    "reason": "The part is late.",
    "severity": "advice",
    "unit": "percent",
    "topic": "touchpoint/v1/car-1/telemetry",
    "next": None,
    "cursor": None,
}
"""{field: what stands in it}; used where the schema allows it"""

PATTERNS: Mapping[str, str] = {
    "^[a-z]{2}(-[A-Z]{2})?$": "de",
    "^[A-Z]{3}$": "EUR",
    "^[A-Z]{2}$": "DE",
    "^[a-z][a-z0-9_-]{0,63}$": "maintenance",
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$": "car-1",
    "^([01][0-9]|2[0-3]):[0-5][0-9]$": "21:30",
    "^[1-9][0-9]{0,5}[smhd]$": "1h",
    "^[0-9a-f]{64}$": "9f" * 32,
    "^[0-9a-f]{1,64}$": "9f86d081884c7d65",
    "^[A-Za-z0-9_-]{86,88}={0,2}$": "B" * 87,
    "^[A-Za-z0-9_-]{22,24}={0,2}$": "a" * 22,
    r"^[a-z_]+\.([a-z_]+|\*)$": "touchpoint.answered",
}
"""{pattern: something that has it}"""

FORMATS: Mapping[str, str] = {
    "date-time": "2026-11-23T07:34:00.000Z",
    "date": "2026-11-23",
    "uri": "https://example.org/systems/crm",
    "uri-reference": "https://example.org/systems/crm",
}
DEEPEST = 6
"""Schemas that hold themselves end here."""


def example_of(schema: Mapping[str, Any], known: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """Something that a schema allows; `known` are the schemas that its references mean."""
    if "$ref" in schema:
        return example_of(known[schema["$ref"].rpartition("/")[2]], known, name, depth)
    if schema.get("examples"):
        return schema["examples"][0]
    for word in ("const", "default"):
        if schema.get(word) not in (None, [], {}):
            return schema[word]
    if "enum" in schema:
        return NAMES[name] if NAMES.get(name) in schema["enum"] else schema["enum"][0]
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return _chosen(options, known, name, depth)
    match schema.get("type"):
        case "object":
            return _object(schema, known, depth)
        case "array":
            return _array(schema, known, name, depth)
        case "string":
            return _text(schema, name)
        case "integer" | "number":
            return _number(schema, name)
        case "boolean":
            return True
    return None if schema.get("type") == "null" else NAMES.get(name, "…")


def _chosen(options: list[Any], known: Mapping[str, Any], name: str, depth: int) -> Any:
    real = [option for option in options if option.get("type") != "null"]
    if len(real) < len(options) and (depth >= DEEPEST or name == "next"):
        return None
    return example_of(real[0], known, name, depth)


def _object(schema: Mapping[str, Any], known: Mapping[str, Any], depth: int) -> dict[str, Any]:
    needed = schema.get("required", ())
    made = {
        name: example_of(field, known, name, depth + 1)
        for name, field in schema.get("properties", {}).items()
        if depth < DEEPEST or name in needed
    }
    for pattern, field in schema.get("patternProperties", {}).items():
        if not made and schema.get("minProperties"):
            made[PATTERNS[pattern]] = example_of(field, known, "name", depth + 1)
    extra, names = schema.get("additionalProperties"), schema.get("propertyNames", {}).get("enum")
    if not made and names and isinstance(extra, Mapping):
        made[names[0]] = example_of(extra, known, "name", depth + 1)
    return made


def _array(schema: Mapping[str, Any], known: Mapping[str, Any], name: str, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [example_of(part, known, name, depth + 1) for part in schema["prefixItems"]]
    if depth >= DEEPEST and not schema.get("minItems"):
        return []
    return [example_of(schema.get("items", {}), known, name.removesuffix("s"), depth + 1)]


def _text(schema: Mapping[str, Any], name: str) -> str:
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]]
    if schema.get("pattern") in PATTERNS:
        return PATTERNS[schema["pattern"]]
    said = NAMES.get(name)
    text = said if isinstance(said, str) else "…"
    return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), "x")


def _number(schema: Mapping[str, Any], name: str) -> float:
    if isinstance(NAMES.get(name), float):
        return float(NAMES[name])
    lowest = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
    return int(max(lowest, min(1, schema.get("maximum", 1))))


# --- how it is sent ---------------------------------------------------------------------------------


def curl(method: str, path: str, operation: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """The command that calls an operation; $HOST and $TOKEN are the reader's."""
    query = []
    for parameter in operation["parameters"]:
        value = example_of(parameter["schema"], known, parameter["name"])
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(value))
        elif parameter["in"] == "query" and parameter.get("required"):
            query.append(f"{parameter['name']}={value}")
    lines = [
        f'curl "$HOST{path}{"?" + "&".join(query) if query else ""}"',
        '-H "Authorization: Bearer $TOKEN"',
    ]
    if method != "GET":
        lines[0] += f" -X {method}"
    if method == "POST":
        lines.append('-H "Idempotency-Key: $(uuidgen)"')
    content = operation.get("requestBody", {}).get("content", {})
    for media, body in list(content.items())[:1]:
        lines.append(f'-H "Content-Type: {media}"')
        lines.append(
            f"-d {shlex.quote(json.dumps(body['example'], ensure_ascii=False))}"
            if "example" in body
            else "--data-binary @file"
        )
    return " \\\n  ".join(lines)
