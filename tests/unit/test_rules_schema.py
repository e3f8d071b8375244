"""The JSON Schemas that editors use, and what else is generated of the rules' reference."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from rules import Catalogue, catalogue, check, signals
from rules.schema import (
    CONTACT_KEYS,
    EXAMPLE_KEYS,
    EXPECT_KEYS,
    KIND_KEYS,
    RULE_KEYS,
    SIGNAL_KEYS,
    rule_schema,
    signal_schema,
)

ROOT = Path(__file__).parents[2]
RULE = """
- id: hot
  version: 1
  kind: car
  purpose: safety
  severity: critical
  when: coolant_temperature > 115
  for: 1m
  touchpoint: {kind: appointment, service: cooling-system, expires: 1d}
  resets: [pad_wear_front]
  examples:
    - given: {coolant_temperature: [[0m, 120], [2m, 121]]}
      expect: {fires_at: 1m}
"""


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rules_docs", ROOT / "tools" / "rules_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    paths = sorted((ROOT / "config" / "signals").glob("*.yaml"))
    return Catalogue.parse([(path.name, path.read_text("utf-8")) for path in paths])


def faults(schema: Mapping[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Where a value does not fit: the parts of draft-07 that our schemas use."""
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(_is(value, name) for name in types):
        yield f"{path}: is no {types}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not offered"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: is not {schema['const']!r}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{path}: {value!r} does not match"
    if isinstance(value, str | list) and len(value) < schema.get("minLength", schema.get("minItems", 0)):
        yield f"{path}: is too short"
    if _is(value, "number") and value < schema.get("minimum", value):
        yield f"{path}: is too small"
    if isinstance(value, dict):
        yield from _of_object(schema, value, path)
    if isinstance(value, list):
        items = schema.get("items", {})
        for number, item in enumerate(value):
            of = items[number] if isinstance(items, list) else items
            yield from faults(of, item, f"{path}/{number}")
    for inner in schema.get("allOf", []):
        yield from faults(inner, value, path)
    for many, fits in (("anyOf", lambda n: n > 0), ("oneOf", lambda n: n == 1)):
        good = sum(not list(faults(inner, value)) for inner in schema.get(many, []))
        if many in schema and not fits(good):
            yield f"{path}: fits {good} of {many}"
    if "if" in schema:
        branch = "else" if list(faults(schema["if"], value)) else "then"
        yield from faults(schema.get(branch, {}), value, path)


def _is(value: Any, name: str) -> bool:
    python: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": int | float,
    }  # fmt: skip
    return isinstance(value, python[name]) and not (isinstance(value, bool) and name != "boolean")


def _of_object(schema: Mapping[str, Any], value: Mapping[str, Any], path: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}: {name} is missing"
    for name, inner in value.items():
        other = schema.get("additionalProperties", {})
        if name not in known and other is False:
            yield f"{path}: {name} is unknown"
        yield from faults(known.get(name, other or {}), inner, f"{path}/{name}")
        yield from faults(schema.get("propertyNames", {}), name, f"{path}/{name}")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config" / "rules").glob("*.yaml")), ids=lambda path: path.name
)
def test_shipped_rules_fit_the_schema(shipped: Catalogue, path: Path) -> None:
    assert list(faults(rule_schema(shipped), yaml.safe_load(path.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config" / "signals").glob("*.yaml")), ids=lambda path: path.name
)
def test_shipped_signals_fit_the_schema(path: Path) -> None:
    assert list(faults(signal_schema(), yaml.safe_load(path.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("severity: critical", "severity: high"),
        ("kind: car", "kind: cart"),
        ("version: 1", "version: 0"),
        ("version: 1", "version: true"),
        ("id: hot", "id: Hot"),
        ("  for: 1m", "  for: soon"),
        ("  for: 1m", "  four: 1m"),
        ("service: cooling-system, ", ""),
        ("expires: 1d", "expires: tomorrow"),
        ("kind: appointment", "kind: date"),
        ("[pad_wear_front]", "[pad_waer_front]"),
        ("given: {coolant_temperature", "given: {coolant_temprature"),
        ("[0m, 120]", "[0m]"),
        ("[0m, 120]", "[now, 120]"),
        ("{fires_at: 1m}", "{fires_at: 1m, never: true}"),
        ("{fires_at: 1m}", "{}"),
        ("{fires_at: 1m}", "{never: false}"),
        ("  purpose: safety\n", ""),
    ],
)
def test_what_the_checker_refuses_the_schema_refuses(shipped: Catalogue, right: str, wrong: str) -> None:
    assert check([("hot.yaml", RULE)], shipped) == []
    assert list(faults(rule_schema(shipped), yaml.safe_load(RULE))) == []
    broken = RULE.replace(right, wrong)
    assert broken != RULE
    assert check([("hot.yaml", broken)], shipped) != []
    assert list(faults(rule_schema(shipped), yaml.safe_load(broken))) != []


@pytest.mark.parametrize(
    ("wrong", "of"),
    [
        ("kind: oven\nsignals: {heat: {labels: {}}}", "labels"),
        ("kind: oven\nsignals: {heat: {label: {en: Heat}}}", "de"),
        ("kind: oven\nsignals: {heat: {label: {en: Heat, de: Hitze}, type: int}}", "int"),
        ("kind: oven\nsignals: {heat: {label: {en: Heat, de: Hitze}, range: [1]}}", "range"),
        ("zones: {here: {centre: [52]}}", "centre"),
        ("kind: Oven\nsignals: {}", "Oven"),
        ("signals: {}", "kind"),
    ],
)
def test_what_is_wrong_in_a_signal_file_is_marked(wrong: str, of: str) -> None:
    assert check([], [("oven.yaml", wrong)]) != []
    assert of in " ".join(faults(signal_schema(), yaml.safe_load(wrong)))


def test_the_schemas_know_every_key_that_is_read() -> None:
    assert tuple(RULE_KEYS) == catalogue._KEYS
    assert {name for name, key in RULE_KEYS.items() if key.required} == set(catalogue._REQUIRED)
    assert set(EXPECT_KEYS) == set(catalogue._EXPECT)
    assert set(EXAMPLE_KEYS) == {"given", "expect"}
    assert set(CONTACT_KEYS) == {"kind", "service", "expires"}
    assert set(SIGNAL_KEYS) == set(signals._SIGNAL_KEYS)
    assert set(KIND_KEYS) == set(signals._KIND_KEYS)


def test_the_tables_in_the_reference_are_as_the_code_has_it() -> None:
    document = (ROOT / "docs" / "rules.md").read_text("utf-8")
    module = tool()
    assert {part[1] for part in module.MARKED.findall(document)} == set(module.TABLES)
    assert document == module.written(document), "run python tools/rules_docs.py"


def test_the_schemas_beside_the_shipped_files_are_as_the_code_has_it() -> None:
    module = tool()
    for path, of in module.SCHEMAS.items():
        assert path.read_text("utf-8") == module.schema(of), f"{path.name}: run python tools/rules_docs.py"


def test_every_shipped_file_names_its_schema() -> None:
    for of in ("rules", "signals"):
        for path in (ROOT / "config" / of).glob("*.yaml"):
            first = path.read_text("utf-8").split("\n", 1)[0]
            assert first == f"# yaml-language-server: $schema={of}.schema.json", path.name
