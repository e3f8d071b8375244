"""Why a rule is, or is not, true, in words that an after-sales engineer can check."""

import pytest
from garage import BERLIN, HOUR, MINUTE, TEXTS, at

from gateway.domain.explaining import ToldRule, told
from rules import FUNCTIONS, Catalogue, Engine, load

SIGNALS = Catalogue.parse(
    [
        (
            "car.yaml",
            """
kind: car
signals:
  pad_wear_front: {unit: percent, range: [0, 100], label: {en: Front pads worn, de: Beläge vorn}}
  odometer: {unit: km, range: [0, 2000000], label: {en: Mileage, de: Kilometerstand}}
  dtc: {type: codes, label: {en: Trouble codes, de: Fehlercodes}}
""",
        )
    ]
)
BEGAN = at("2026-11-20T08:00+01:00")


def explained(
    when: str,
    readings: list[tuple[int, dict[str, float]]],
    *,
    after: int = 0,
    language: str = "en",
    for_: str = "0s",
) -> ToldRule:
    text = f"""
- id: pads
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: {when}
  for: {for_}
  touchpoint: {{kind: hint}}
"""
    engine = Engine(load([("pads.yaml", text)], SIGNALS))
    engine.register(1, BEGAN, "van", "car", None)
    now = BEGAN
    for position, (ago, signals) in enumerate(readings, 2):
        now = BEGAN + ago
        engine.readings(position, now, "van", "car", ((now, signals),))
    found = engine.explain("van", "pads", now + after)
    assert found is not None
    return told(found, "car", SIGNALS, TEXTS, language, BERLIN)


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_a_true_rule_says_since_when_and_by_what() -> None:
    rule = explained(
        "pad_wear_front >= 80 or odometer > 100000",
        [(0, {"odometer": 10.0}), (HOUR, {"pad_wear_front": 91.5})],
    )
    assert rule.holds is True
    assert plain(rule.headline) == "True: its episode has been open since Friday, 20 November, 9:00."
    assert plain(rule.because) == "What decides it: Front pads worn at least 80 % (91.5 %)."
    assert [(depth, plain(part.words), plain(part.value)) for depth, part in rule.when.all()] == [
        (0, "at least one of these", "yes"),
        (1, "Front pads worn at least 80 %", "yes"),
        (2, "Front pads worn", "91.5 %"),
        (1, "Mileage above 100,000 km", "no"),
        (2, "Mileage", "10 km"),
    ]
    assert rule.when.parts[1].parts[0].note == "measured Friday, 20 November, 8:00".replace("20 ", "20\u00a0")


def test_a_rule_that_is_not_true_names_the_part_that_keeps_it_from_being_so() -> None:
    rule = explained(
        "pad_wear_front >= 80 and odometer > 100", [(0, {"pad_wear_front": 85.0, "odometer": 10.0})]
    )
    assert (rule.holds, rule.headline) == (False, "Not true.")
    assert plain(rule.because) == "What decides it: Mileage above 100 km (10 km)."


def test_what_waits_for_its_time_says_since_when_and_how_long_it_takes() -> None:
    rule = explained("pad_wear_front >= 80", [(0, {"pad_wear_front": 85.0})], for_="10m")
    assert (
        plain(rule.headline)
        == "True since Friday, 20 November, 8:00, but not yet for 10 minutes, as it asks."
    )


@pytest.mark.parametrize(
    ("when", "value", "note"),
    [
        ("odometer > 5", "not known", "this signal has not been reported yet"),
        ("last(pad_wear_front, '1h') > 5", "not known", "its newest value is too old, or cannot be used"),
        (
            "days_until(pad_wear_front, 100, over='30d') < 21",
            "not known",
            "too few readings yet, or its trend leads away from there",
        ),
    ],
)
def test_what_is_not_known_says_why(when: str, value: str, note: str) -> None:
    rule = explained(when, [(0, {"pad_wear_front": 85.0})], after=3 * HOUR)
    (_, _), (_, part) = rule.when.all()
    assert rule.holds is None
    assert rule.headline.startswith("It cannot be told")
    assert (part.value, part.note) == (value, note)


def test_it_is_said_in_german_with_german_numbers_and_spans() -> None:
    rule = explained(
        "max(odometer, '30d') > 48210 and age(odometer) < '2h'",
        [(0, {"odometer": 12_500.0})],
        after=90 * MINUTE,
        language="de",
    )
    said = [(plain(part.words), plain(part.value)) for _, part in rule.when.all()]
    assert rule.headline == "Trifft nicht zu."
    assert said == [
        ("alles davon", "nein"),
        ("Kilometerstand (höchster Wert über 30 Tage) über 48.210 km", "nein"),
        ("Kilometerstand (höchster Wert über 30 Tage)", "12.500 km"),
        ("wie lange Kilometerstand nicht gemessen wurde unter 2 Stunden", "ja"),
        ("wie lange Kilometerstand nicht gemessen wurde", "1,5 Stunden"),
    ]


def test_every_function_of_the_rules_has_words_in_both_languages() -> None:
    for language in ("en", "de"):
        for name in FUNCTIONS:
            assert TEXTS.has(f"explain.functions.{name}"), name
            assert TEXTS.say(language, f"explain.functions.{name}") != f"explain.functions.{name}"
