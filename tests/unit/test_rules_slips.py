"""What is said of conditions that are wrong: the place, and what to write instead."""

from __future__ import annotations

import pytest
from rules_case import SIGNALS, rule

from rules import Catalogue, check

PLACES = """  latitude: {unit: °, label: {en: Latitude, de: Breite}}
  longitude: {unit: °, label: {en: Longitude, de: Länge}}
  odometer: {unit: km, label: {en: Odometer, de: Tacho}}
"""
ZONES = "zones: {depot-north: {centre: [52.5, 13.4], radius_km: 2}}"
CATALOGUE = Catalogue.parse([("van.yaml", SIGNALS.rstrip() + "\n" + PLACES), ("zones.yaml", ZONES)])


@pytest.mark.parametrize(
    ("when", "column", "said"),
    [
        ("averge(speed, '10m') > 3", 1, "unknown function averge; did you mean avg?"),
        ("speed > 1 and mean(speed, '1h') > 3", 15, "unknown function mean: write avg(signal, '10m')"),
        ("median(speed, '7d') > 3", 1, "unknown function median: write percentile(signal, 50, '7d')"),
        ("avg(speed) > 3", 1, "write avg(signal, '10m')"),
        ("avg(speed, 600) > 3", 12, "a span of 1s to 400d, whole seconds, in quotes is expected here"),
        ("avg(speed, '10min') > 3", 12, "a span of 1s to 400d, whole seconds, in quotes is expected here"),
        ("avg(speed, 10m) > 3", 13, "a span of time stands in quotes: '10m'"),
        ("age(speed) > 6h", 14, "a span of time stands in quotes: '6h'"),
        ("age(speed) > '6 hours'", 14, "'6 hours' is no span of time: write '90s', '10m', '6h', '30d'"),
        ("age('speed') > '6h'", 5, "a signal stands without quotes: speed"),
        ("odometer > '15000km'", 12, "a number stands without quotes and unit: 15000"),
        ("speed > 50 km/h", 12, "leave out km/h: a number has the unit of what it is compared with"),
        ("speed > temperature", 9, "km/h and °C do not go together: compare each with a number"),
        ("speed > 12,5", 1, "write a point, not a comma, in a number: 12.5"),
        ("speed > 1 & pads > 3", 9, "write and instead of &"),
        ("speed > 1 | pads > 3", 9, "write or instead of |"),
        ("speed => 1", 7, "write >= instead of =>"),
        ("inside('depot-nord')", 8, "there is no zone 'depot-nord'; did you mean depot-north?"),
        ("inside(depot)", 8, "the name of a zone in quotes is expected here"),
        ("distance('moon') > 3", 10, "there is no zone 'moon'; known: depot-north"),
        ("country() == 'de'", 14, "it gives two capital letters of ISO 3166; did you mean 'DE'?"),
        ("country() in ('DE', 'Austria')", 21, "country() is never 'Austria': it gives two capital letters"),
        ("country() == 'UK'", 14, "country() is never 'UK'; did you mean 'GB'?"),
        ("country == 'DE'", 1, "country is a function: write country() == 'DE'"),
        ("code(P0300)", 6, "a code stands in quotes: code('P0300')"),
        ("'P03*' in dtc", 1, "in compares whole codes; with * and ? write code(dtc, 'P03*')"),
        ("dtc == 'P0300'", 8, "dtc is a list of codes: write 'P0300' in dtc, or code(dtc, 'P03*')"),
        ("gear == 'revers'", 9, "gear is never 'revers'; did you mean reverse?"),
        ("speeed > 3", 1, "van has no signal speeed; did you mean speed?"),
    ],
)
def test_a_slip_is_told_with_its_place_and_what_to_write(when: str, column: int, said: str) -> None:
    (fault,) = check([("van.yaml", rule(when))], CATALOGUE)
    assert said in fault.message
    line = rule(when).split("\n")[fault.line - 1]
    assert line.startswith("  when: ")
    assert fault.column - len('  when: "') == column


@pytest.mark.parametrize(
    "when",
    ["country() == 'DE'", "country() in ('DE', 'AT')", "age(speed) > '6h'", "code('P03*')", "'P0300' in dtc"],
)
def test_what_is_right_is_no_slip(when: str) -> None:
    assert check([("van.yaml", rule(when))], CATALOGUE) == []


@pytest.mark.parametrize(
    "when",
    [
        ">-\n    speed > 3 and\n    speeed > 4\n    and speed < 5",
        "|\n    speed > 3 and\n      speeed > 4",
        "speed > 3 and\n    speeed > 4",
        '"speed > 3 and\n    speeed > 4"',
        "'speed > 3 and speeed > 4'",
        ">-\n\n    speed > 1 and\n\n    speeed > 1",
        "speed > 3 and speeed > 4   # too fast",
    ],
)
def test_the_place_is_the_one_in_the_file_however_the_condition_is_folded(when: str) -> None:
    text = rule("WHEN").replace('"WHEN"', when)
    (fault,) = check([("van.yaml", text)], CATALOGUE)
    assert "van has no signal speeed" in fault.message
    assert text.split("\n")[fault.line - 1][fault.column - 1 :].startswith("speeed")


@pytest.mark.parametrize("when", [">-\n    speed >", "''", '"speed \\x3e 3 and speeed > 4"', "speed >"])
def test_where_the_place_cannot_be_told_it_is_the_condition(when: str) -> None:
    text = rule("WHEN").replace('"WHEN"', when)
    (fault,) = check([("van.yaml", text)], CATALOGUE)
    assert 6 <= fault.line <= 7
