"""The vocabulary of conditions: what each function is called with, gives and means.

docs/rules.md prints this table; the checker reads a call's arguments by `parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Parameter: TypeAlias = Literal[
    "signal",  # the name of one
    "span",  # of time, in quotes
    "span?",  # the same, may be left out
    "limit",  # a number in the signal's unit
    "percent",  # a number from 0 to 100
    "direction?",  # 'up' or 'down', may be left out
    "condition",
    "zone",  # the name of one, in quotes
    "patterns",  # one or more texts in quotes, after the signal if it is named
    "name",  # a word in quotes
]
Gives: TypeAlias = Literal[
    "value", "number", "per hour", "per day", "days", "seconds", "km", "bare", "boolean", "string"
]
"""The result: the signal's own value; a number in its unit, or in that unit per time; a number in a unit
of its own, or without one; true or false; a text."""

ANY = ("number", "boolean", "string", "codes")
NUMBER = ("number",)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that conditions may call."""

    name: str
    form: str  # how it is written
    means: str  # one sentence
    parameters: tuple[Parameter, ...]
    gives: Gives
    types: tuple[str, ...] = NUMBER  # of the signals it takes
    clocked: bool = False  # its value changes by time alone
    needs: tuple[str, ...] = ()  # signals it reads without naming them


_PLACE = ("latitude", "longitude")

FUNCTIONS: Mapping[str, Function] = {
    function.name: function
    for function in (
        Function(
            "last",
            "last(signal) or last(signal, '10m')",
            "The newest value; with a span, unknown when that value is older.",
            ("signal", "span?"),
            "value",
            ANY,
        ),
        Function(
            "age",
            "age(signal)",
            "How long ago the newest usable value was measured.",
            ("signal",),
            "seconds",
            ANY,
            clocked=True,
        ),
        Function(
            "previous",
            "previous(signal)",
            "The value before the newest; unknown after the first.",
            ("signal",),
            "value",
        ),
        Function(
            "change",
            "change(signal, '1h')",
            "The newest value less the oldest in the span.",
            ("signal", "span"),
            "number",
        ),
        Function(
            "avg", "avg(signal, '10m')", "The mean of the readings in the span.", ("signal", "span"), "number"
        ),
        Function(
            "min", "min(signal, '10m')", "The smallest reading in the span.", ("signal", "span"), "number"
        ),
        Function(
            "max", "max(signal, '10m')", "The largest reading in the span.", ("signal", "span"), "number"
        ),
        Function(
            "sum",
            "sum(signal, '1d')",
            "The sum of the readings in the span; 0 if none.",
            ("signal", "span"),
            "number",
        ),
        Function(
            "count",
            "count(signal, '10m')",
            "How many readings came in the span; 0 if none.",
            ("signal", "span"),
            "bare",
            ANY,
        ),
        Function(
            "stddev",
            "stddev(signal, '1d')",
            "The standard deviation of the readings in the span.",
            ("signal", "span"),
            "number",
        ),
        Function(
            "percentile",
            "percentile(signal, 90, '7d')",
            "The value that so many percent of the readings in the span do not exceed, to a "
            "hundredth of the signal's range.",
            ("signal", "percent", "span"),
            "number",
        ),
        Function(
            "rate",
            "rate(signal, '1h')",
            "The change over the span, per hour between its oldest and newest reading.",
            ("signal", "span"),
            "per hour",
        ),
        Function(
            "slope",
            "slope(signal, '30d')",
            "The rise per day of the straight line that fits the span best.",
            ("signal", "span"),
            "per day",
        ),
        Function(
            "days_until",
            "days_until(signal, 100, over='30d')",
            "In how many days that line reaches the limit; 0 once it is reached, unknown while it "
            "leads away or stands on fewer than three parts of the span.",
            ("signal", "limit", "span"),
            "days",
        ),
        Function(
            "held",
            "held(speed > 120, '10m')",
            "Whether the condition has been true for so long without a break.",
            ("condition", "span"),
            "boolean",
            clocked=True,
        ),
        Function(
            "silent",
            "silent('6h')",
            "Whether nothing has come from the device for so long.",
            ("span",),
            "boolean",
            clocked=True,
        ),
        Function(
            "crossed",
            "crossed(signal, 80) or crossed(signal, 80, 'down')",
            "Whether the newest reading is the one that reached the limit from below; or fell below it.",
            ("signal", "limit", "direction?"),
            "boolean",
        ),
        Function(
            "times",
            "times(door_open, '1d')",
            "How often the condition became true in the span.",
            ("condition", "span"),
            "bare",
        ),
        Function(
            "code",
            "code('P030?', 'P0420') or code(dtc, 'P03*')",
            "Whether one of the codes matches: * stands for any characters, ? for one; upper and "
            "lower case are the same.",
            ("patterns",),
            "boolean",
            ("codes",),
        ),
        Function(
            "inside",
            "inside('low-emission-zone')",
            "Whether the device is in the zone.",
            ("zone",),
            "boolean",
            needs=_PLACE,
        ),
        Function(
            "country",
            "country() == 'DE'",
            "The country the device is in, two letters of ISO 3166; unknown at sea.",
            (),
            "string",
            needs=_PLACE,
        ),
        Function(
            "distance",
            "distance('low-emission-zone')",
            "How far the device is from the middle of the zone, along the earth's surface.",
            ("zone",),
            "km",
            needs=_PLACE,
        ),
        Function(
            "local_hour",
            "local_hour() >= 22",
            "The hour of the day where the owner lives, 0 up to 24, with minutes as its fraction.",
            (),
            "bare",
            clocked=True,
        ),
        Function(
            "since",
            "since(door_open)",
            "How long ago the condition was last true; 0 while it is, unknown if it never was.",
            ("condition",),
            "seconds",
            clocked=True,
        ),
        Function(
            "usage",
            "usage(odometer)",
            "What a counter has counted since a job reset it; before the first job, all of it.",
            ("signal",),
            "number",
        ),
        Function(
            "baseline",
            "baseline(signal, '30d')",
            "How many standard deviations the newest value lies above the device's own mean; unknown "
            "with fewer than 30 readings.",
            ("signal", "span"),
            "bare",
        ),
        Function(
            "fleet",
            "fleet(signal)",
            "How many standard deviations the newest value lies above the newest ones of devices of "
            "the same kind and model; unknown with fewer than ten others.",
            ("signal",),
            "bare",
        ),
        Function(
            "context",
            "context('weather', 'temperature')",
            "The newest value that was shared under that name for the device's zone or country, or "
            "for everywhere.",
            ("name", "name"),
            "bare",
        ),
    )
}
"""The vocabulary. docs/rules.md describes each; a test compares."""

WINDOWED = frozenset(
    ("avg", "min", "max", "sum", "count", "stddev", "percentile", "change", "rate", "slope", "days_until",
     "baseline")
)  # fmt: skip
"""Functions of what a signal did over a span."""
