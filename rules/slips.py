"""What people write in conditions by mistake, and what to write instead."""

from __future__ import annotations

import re

from rules.functions import FUNCTIONS
from rules.texts import did_you_mean, span_ms

ALSO_CALLED = {
    "mean": "avg(signal, '10m')", "average": "avg(signal, '10m')",
    "median": "percentile(signal, 50, '7d')", "quantile": "percentile(signal, 90, '7d')",
    "std": "stddev(signal, '1d')", "stdev": "stddev(signal, '1d')", "sd": "stddev(signal, '1d')",
    "maximum": "max(signal, '10m')", "minimum": "min(signal, '10m')", "total": "sum(signal, '1d')",
    "delta": "change(signal, '1h')", "diff": "change(signal, '1h')", "difference": "change(signal, '1h')",
    "derivative": "rate(signal, '1h')", "trend": "slope(signal, '30d')", "regression": "slope(signal, '30d')",
    "forecast": "days_until(signal, 100, over='30d')", "predict": "days_until(signal, 100, over='30d')",
    "latest": "last(signal)", "newest": "last(signal)", "current": "last(signal)", "value": "last(signal)",
    "lag": "previous(signal)", "before": "previous(signal)",
    "duration": "held(speed > 120, '10m')",
    "offline": "silent('6h')", "missing": "silent('6h')", "hour": "local_hour()", "time": "local_hour()",
    "geofence": "inside('zone')", "within": "inside('zone')", "zone": "inside('zone')",
    "dtc": "code('P030?')", "codes": "code('P030?')", "occurrences": "times(door_open, '1d')",
    "zscore": "baseline(signal, '30d')", "anomaly": "baseline(signal, '30d')", "peers": "fleet(signal)",
    "weather": "context('weather', 'temperature')", "abs": "signal < -3 or signal > 3",
}  # fmt: skip
"""How other languages call what ours has."""

MISNAMED_COUNTRIES = {"UK": "GB", "EL": "GR"}
"""Usual two letters that ISO 3166 does not use."""

_BARE_SPAN = re.compile(r"(?<![\w'\".])(\d+(?:\.\d+)?(?:ms|s|m|h|d|w))(?![\w'\"])")
_UNIT_AFTER_NUMBER = re.compile(r"\d\s*(?!and\b|or\b|not\b|in\b)([A-Za-z°%][\w/°%]*)")


def unknown_function(name: str) -> str:
    """What to write instead of a function that there is none of."""
    if name.lower() in ALSO_CALLED:
        return f"unknown function {name}: write {ALSO_CALLED[name.lower()]}"
    return f"unknown function {name}{did_you_mean(name, FUNCTIONS) or '; known: ' + ', '.join(FUNCTIONS)}"


def bare_span(text: str, offset: int) -> str | None:
    """A span of time without quotes, where the grammar ends at it."""
    for found in _BARE_SPAN.finditer(text):
        if found.start() <= offset <= found.end() and span_ms(found[1]):
            return f"a span of time stands in quotes: '{found[1]}'"
    return None


def unit_after_number(text: str, offset: int) -> str | None:
    """50 km/h, where the grammar ends behind the number."""
    for found in _UNIT_AFTER_NUMBER.finditer(text):
        if found.start() <= offset <= found.end():
            return f"leave out {found[1]}: a number has the unit of what it is compared with"
    return None


def number_in_quotes(text: str, *, time: bool) -> str:
    """A text was compared with a number, or with a time."""
    if time:
        return f"{text!r} is no span of time: write '90s', '10m', '6h', '30d'"
    number = re.match(r"\s*(-?\d+(?:\.\d+)?)", text)
    if number is None:
        return "a number is not compared with a string"
    return f"a number stands without quotes and unit: {number[1]}"


def no_country(text: str) -> str | None:
    """Why country() is never this text."""
    if text in MISNAMED_COUNTRIES:
        return f"country() is never {text!r}; did you mean {MISNAMED_COUNTRIES[text]!r}?"
    if re.fullmatch(r"[A-Z]{2}", text):
        return None
    hint = f"; did you mean {text.upper()!r}?" if re.fullmatch(r"[A-Za-z]{2}", text) else ", such as 'DE'"
    return f"country() is never {text!r}: it gives two capital letters of ISO 3166{hint}"
