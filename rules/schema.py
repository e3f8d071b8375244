"""JSON Schemas (draft-07, which editors know best) of rule files and signal files.

The keys, with what they mean, stand here once: docs/rules.md prints the same. What a schema cannot say, such
as whether a condition is sound, `touchpoint rules check` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from rules.catalogue import CONTACT_KINDS, SEVERITIES
from rules.functions import FUNCTIONS
from rules.signals import LANGUAGES, TYPES, Catalogue, Kind

Schema: TypeAlias = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
PURPOSES = ("maintenance", "usage", "safety", "marketing")
"""The consents that owners are asked for; others are words of the manufacturer's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A key of a file."""

    means: str  # Markdown
    schema: Schema
    required: bool = False


SPAN: Schema = {
    "type": "string",
    "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$",
    "examples": ["90s", "10m", "1h30m", "14d"],
}
SPANS: Schema = {"anyOf": [SPAN, {"type": "array", "items": SPAN}]}
WORD: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
CONDITION: Schema = {"type": ["string", "boolean"]}


def _object(keys: Mapping[str, Key], **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": {name: {"description": key.means, **key.schema} for name, key in keys.items()},
        "required": [name for name, key in keys.items() if key.required],
        "additionalProperties": False,
        **more,
    }


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


CONTACT_KEYS: Mapping[str, Key] = {
    "kind": Key(
        means="appointment: a workshop does it; reminder: the owner does it when it suits; hint: good to "
        "know; notice: has happened",
        schema={"enum": list(CONTACT_KINDS)},
        required=True,
    ),
    "service": Key(
        means="what is done about it, and the words that the owner reads; an appointment needs one",
        schema={**WORD, "examples": ["brakes-front"]},
    ),
    "expires": Key(means="how long after the finding it makes sense", schema=SPAN),
}
EXPECT_KEYS: Mapping[str, Key] = {
    "fires_at": Key(
        means="when the rule is found, one time or a list, from the example's start", schema=SPANS
    ),
    "clears_at": Key(means="when its episodes end; not looked at if absent", schema=SPANS),
    "never": Key(means="true: it is not found at all", schema={"const": True}),
}
GIVEN: Schema = {
    "type": "object",
    "additionalProperties": _list({"type": "array", "items": [SPAN, {}], "minItems": 2, "maxItems": 2}),
}
EXAMPLE_KEYS: Mapping[str, Key] = {
    "given": Key(means="readings by signal, each `[time, value]`", schema=GIVEN, required=True),
    "expect": Key(
        means="what comes of them",
        schema=_object(EXPECT_KEYS, oneOf=[{"required": ["fires_at"]}, {"required": ["never"]}]),
        required=True,
    ),
}
RULE_KEYS: Mapping[str, Key] = {
    "id": Key(
        means="lower case with dashes; findings, ledger and statistics know the rule by it",
        schema={"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,63}$"},
        required=True,
    ),
    "version": Key(
        means="a whole number; count it up when the condition changes",
        schema={"type": "integer", "minimum": 1},
        required=True,
    ),
    "kind": Key(means="the kind of device", schema=WORD, required=True),
    "purpose": Key(
        means=f"the consent that its touchpoints need: {', '.join(PURPOSES)}",
        schema={"anyOf": [{"enum": list(PURPOSES)}, {"type": "string", "pattern": "^[a-z][a-z_-]{0,31}$"}]},
        required=True,
    ),
    "severity": Key(
        means="`advice`, `warning` or `critical`: whether it may wait for the right moment",
        schema={"enum": list(SEVERITIES)},
        required=True,
    ),
    "when": Key(means="the condition", schema=CONDITION, required=True),
    "for": Key(means="how long it has to be true without a break; at once if absent", schema=SPAN),
    "clear": Key(means="what ends an episode; if absent, that `when` is false", schema=CONDITION),
    "touchpoint": Key(
        means="what it leads to: `kind` (appointment, reminder, hint or notice), `service` (what is done "
        "about it, needed for an appointment), `expires` (how long after the finding it makes sense)",
        schema=_object(
            CONTACT_KEYS,
            **{
                "if": {"properties": {"kind": {"const": "appointment"}}, "required": ["kind"]},
                "then": {"required": ["service"]},
            },
        ),
        required=True,
    ),
    "resets": Key(
        means="signals that the job sets back; when that happens the episode is over", schema=_list(WORD)
    ),
    "shadow": Key(means="true: it finds, and sends nothing", schema=FLAG),
    "while_driving": Key(means="true: may be shown on the product's own display while it moves", schema=FLAG),
    "max_age": Key(
        means="how old what was measured may be when it arrives (a replay, a long gap): older, it is told "
        "only if the newest reading says the same; `[moments] max_age_s` if absent",
        schema=SPAN,
    ),
    "source": Key(means="one sentence: where the threshold comes from", schema=WORD),
    "examples": Key(
        means="readings and what comes of them, run as tests", schema=_list(_object(EXAMPLE_KEYS))
    ),
}

SIGNAL_KEYS: Mapping[str, Key] = {
    "label": Key(
        means="what people read, in " + " and ".join(f"`{language}`" for language in LANGUAGES),
        schema=_object({language: Key(means=language, schema=WORD, required=True) for language in LANGUAGES}),
        required=True,
    ),
    "type": Key(
        means="`number` (if absent), `boolean`, `string`, `codes` (a list of texts)",
        schema={"enum": list(TYPES)},
    ),
    "unit": Key(means="of numbers: km/h, °C, percent, V, …", schema=WORD),
    "vss": Key(
        means="the COVESA VSS path, or several, of the same meaning and unit",
        schema={"anyOf": [WORD, _list(WORD)]},
    ),
    "range": Key(
        means="what the sensor can report, `[0, 100]`; `percentile` needs it",
        schema=_list(NUMBER, minItems=2, maxItems=2),
    ),
    "values": Key(
        means="of strings: all that can be reported; a comparison with another text is refused",
        schema={"anyOf": [WORD, _list(WORD)]},
    ),
    "display": Key(
        means="how a percentage is shown: `{unit: mm, at_0: 12, at_100: 2}`",
        schema=_object(
            {
                "unit": Key(means="shown behind the number", schema=WORD, required=True),
                "at_0": Key(means="what 0 percent is", schema=NUMBER, required=True),
                "at_100": Key(means="what 100 percent is", schema=NUMBER, required=True),
            }
        ),
    ),
    "wear": Key(
        means="`{limit: 100}`: it measures wear, and at the limit the part is used up",
        schema=_object({"limit": Key(means="in the signal's unit", schema=NUMBER, required=True)}),
    ),
    "counter": Key(means="true: it counts up until a job sets it back", schema=FLAG),
}
KIND_KEYS: Mapping[str, Key] = {
    "kind": Key(
        means="its name, snake_case",
        schema={"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"},
        required=True,
    ),
    "label": replace(SIGNAL_KEYS["label"], required=False),  # a further file of a kind needs none
    "signals": Key(
        means="by name, snake_case:",
        schema={"type": "object", "additionalProperties": _object(SIGNAL_KEYS)},
        required=True,
    ),
}
_POINT = _list(NUMBER, minItems=2, maxItems=2)
ZONE_KEYS: Mapping[str, Key] = {
    "centre": Key(means="`[latitude, longitude]` in degrees", schema=_POINT),
    "radius_km": Key(means="of the circle around it", schema={"type": "number", "exclusiveMinimum": 0}),
    "corners": Key(means="instead of a circle: three points or more", schema=_list(_POINT, minItems=3)),
}


def rule_schema(catalogue: Catalogue) -> Schema:
    """Of a rule file; the catalogue's kinds and signals are offered where they may stand."""
    rule = _object(RULE_KEYS)
    rule["properties"]["kind"] = {"description": RULE_KEYS["kind"].means, "enum": sorted(catalogue.kinds)}
    for name in ("when", "clear"):
        rule["properties"][name]["description"] = f"{RULE_KEYS[name].means}\n\n{_vocabulary()}"
    rule["allOf"] = [_of_kind(kind) for _, kind in sorted(catalogue.kinds.items())]
    return {"$schema": DRAFT, "title": "Rules", **_list(rule)}


def _of_kind(kind: Kind) -> Schema:
    """What a rule of this kind may name."""
    readings = {name: _reading(kind, name) for name in sorted(kind.signals)}
    paths = sorted(path for signal in kind.signals.values() for path in signal.vss)
    given = {
        "properties": readings,
        "propertyNames": {"enum": [*readings, *paths]},
    }
    return {
        "if": {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]},
        "then": {
            "properties": {
                "resets": {"items": {"enum": [*readings, *paths]}},
                "examples": {"items": {"properties": {"given": given}}},
            }
        },
    }


def _reading(kind: Kind, name: str) -> Schema:
    signal = kind.signals[name]
    unit = f" in {signal.unit}" if signal.unit else ""
    return {"description": f"{signal.label.get('en', name)}: {signal.type}{unit}"}


def _vocabulary() -> str:
    lines = (f"- `{function.form}`: {function.means}" for function in FUNCTIONS.values())
    return "Signals, numbers, 'texts', `+ - * /`, comparisons, `and or not`, and:\n" + "\n".join(lines)


def signal_schema() -> Schema:
    """Of a signal file: one kind's signals, or zones."""
    zones = {"type": "object", "additionalProperties": _object(ZONE_KEYS)}
    return {
        "$schema": DRAFT,
        "title": "Signals of a kind of device, or zones",
        "if": {"required": ["zones"]},
        "then": {
            "type": "object",
            "properties": {"zones": {"description": "by name, lower case with dashes", **zones}},
            "additionalProperties": False,
        },
        "else": _object(KIND_KEYS),
    }


def key_rows(keys: Mapping[str, Key]) -> Iterable[tuple[str, bool, str]]:
    """(key, whether it is required, what it means), for documents."""
    return ((name, key.required, key.means) for name, key in keys.items())
