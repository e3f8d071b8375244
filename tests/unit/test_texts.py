"""Every sentence in the reader's language, with its numbers, times and units; never one with a hole in it."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from garage import BERLIN, CAR, HOUR, NORD, RULES, SIGNALS, TEXTS, WASHER, at, rule
from hypothesis import given
from hypothesis import strategies as st

import config
from gateway.domain.appointment import Workshop
from gateway.domain.device import Device
from gateway.domain.policy import RuleInfo
from gateway.domain.texts import Texts
from gateway.domain.touchpoint import LedgerLine, Slot, State, Touchpoint
from gateway.domain.wording import Words, ledger_words, touchpoint_words

THURSDAY = at("2026-12-03T17:30+01:00")
LANGUAGES = ("en", "de")


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def touchpoint(rule_id: str = "brake-pads-front-worn", **changes: Any) -> Touchpoint:
    base: dict[str, Any] = {
        "id": "t",
        "finding": "f",
        "device": "car",
        "owner": "jana",
        "rule": rule_id,
        "rule_version": 3,
        "kind": "appointment",
        "service": "brakes-front",
        "severity": "advice",
        "purpose": "maintenance",
        "state": State.OPEN,
        "created": 0,
        "evidence": {"pad_wear_front": 95, "ts": 0},
        "slots": (
            Slot(workshop="nord", start=at("2026-12-01T08:00+01:00"), end=at("2026-12-01T09:00+01:00")),
            Slot(workshop="nord", start=THURSDAY, end=THURSDAY + HOUR),
        ),
    }
    return Touchpoint(**(base | changes))


def words(
    matter: Touchpoint,
    language: str = "en",
    *,
    device: Device = CAR,
    workshop: Workshop | None = NORD,
    info: RuleInfo | None = RULES["brake-pads-front-worn"],
    now: int | None = None,
) -> Words:
    return touchpoint_words(matter, device, workshop, info, SIGNALS, TEXTS, language, BERLIN, now=now)


def test_dates_and_times_as_each_language_writes_them() -> None:
    assert TEXTS.moment("en", THURSDAY, BERLIN) == "Thursday, 3\u00a0December, 17:30"
    assert TEXTS.moment("de", THURSDAY, BERLIN) == "Donnerstag, 3.\u00a0Dezember, 17:30"
    assert TEXTS.when("de", THURSDAY, BERLIN, "moment_short") == "Do., 3.\u00a0Dez., 17:30"
    assert TEXTS.time("en", THURSDAY, "America/New_York") == "11:30"
    assert TEXTS.date("en", THURSDAY, "Asia/Tokyo") == "Friday, 4\u00a0December"


def test_numbers_with_units_and_locale() -> None:
    assert TEXTS.quantity("de", 48_210, "km") == "48.210\u00a0km"
    assert TEXTS.quantity("en", 48_210, "km") == "48,210\u00a0km"
    assert TEXTS.quantity("de", 2.5, "mm") == "2,5\u00a0mm"
    assert TEXTS.quantity("en", 95, "percent") == "95\u00a0%"
    assert TEXTS.number("de", 2, decimals=1) == "2,0"
    assert TEXTS.price("de", 180, 220) == "180–220\u00a0€"
    assert TEXTS.price("en", 180, 180) == "180\u00a0€"
    assert TEXTS.price("en", None, None) is None


def test_nothing_has_no_sign_whichever_was_written_first() -> None:
    """-0.04 °C is rounded to -0.0, which is kept under the same key as every 0.0 of every page."""
    for value in (-0.0, 0.0, -0.001, 0):
        assert TEXTS.number("en", value) == "0"
        assert TEXTS.number("de", value, 1) == "0,0"
    assert TEXTS.number("en", -0.1) == "-0.1"


def test_numbers_beyond_any_measure_are_written_plainly() -> None:
    assert TEXTS.number("en", 10**27) == "1.00e+27"
    assert TEXTS.number("de", 10**400) == "1.00e+400"
    assert TEXTS.number("en", float("nan")) == "NaN"
    assert TEXTS.number("en", float("-inf")) == "-Infinity"


@pytest.mark.parametrize(
    ("minutes", "english", "german"),
    [
        (1, "1 minute", "1 Minute"),
        (45, "45 minutes", "45 Minuten"),
        (60, "1 hour", "1 Stunde"),
        (90, "1½ hours", "1½ Stunden"),
        (120, "2 hours", "2 Stunden"),
        (150, "2.5 hours", "2,5 Stunden"),
        (75, "75 minutes", "75 Minuten"),
    ],
)
def test_durations_have_their_plural(minutes: int, english: str, german: str) -> None:
    assert TEXTS.duration("en", minutes) == english
    assert TEXTS.duration("de", minutes) == german


def test_what_is_missing_falls_back_and_is_reported() -> None:
    texts = Texts({"en": {"a": {"b": "Hello {name}"}, "only": "here"}, "de": {"a": {"b": "Hallo {name}"}}})
    assert texts.say("de", "a.b", name="Jana") == "Hallo Jana"
    assert texts.say("de-AT", "a.b", name="Jana") == "Hallo Jana"
    assert texts.say("fr", "a.b", name="Jana") == "Hello Jana"
    assert texts.say("de", "only") == "here"
    assert texts.say("de", "nowhere") == "nowhere"
    assert texts.missing() == ["de: only", "nowhere"]


def test_values_are_not_read_as_texts() -> None:
    texts = Texts({"en": {"a": "{x} and {y}"}})
    assert texts.say("en", "a", x="{y}", y="{x}") == "{y} and {x}"


def test_our_messages_say_the_same_things_in_every_language() -> None:
    assert Texts({language: config.messages(language) for language in LANGUAGES}).missing() == []


@pytest.mark.parametrize(
    "name", ["ledger", "touchpoints", "services", "signals", "actions", "appliances", "car"]
)
def test_both_languages_fill_in_the_same_values(name: str) -> None:
    def placeholders(language: str) -> dict[str, set[str]]:
        tree = yaml.safe_load(config.data_path("messages", language, f"{name}.yaml").read_text("utf-8"))
        return {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in flat(tree)}

    english, german = placeholders("en"), placeholders("de")
    may_differ = {"product"}  # German often says "sie" where English names the product
    differing = {key for key in english if (english[key] ^ german[key]) - may_differ}
    assert differing == set()


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(tree, dict):
        return [(prefix, str(tree))]
    return [pair for key, value in tree.items() for pair in flat(value, f"{prefix}.{key}")]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["ledger", "touchpoints", "services", "actions", "appliances", "car"])
def test_owners_are_spoken_to_calmly(name: str, language: str) -> None:
    tree = yaml.safe_load(config.data_path("messages", language, f"{name}.yaml").read_text("utf-8"))
    for key, text in flat(tree):
        assert "!" not in text, key
        assert not re.search(r"\b(du|dein|deine|dir)\b", text, re.IGNORECASE) or language == "en", key


def test_worn_pads_are_told_in_millimetres_with_two_times() -> None:
    said = words(touchpoint())
    assert plain(said.title) == "Your front brake pads are worn to 2.5 mm"
    assert said.product == "Arden 5 · HH-JK 482"
    assert plain(said.body) == (
        "2.5 mm left, the limit is 2 mm (new: 12 mm)."
        " Autohaus Nord has Tuesday, 1 December, 8:00 or Thursday, 3 December, 17:30."
        " Takes about 1 hour, 180–220 €."
    )
    assert [(action, plain(label)) for action, label in said.actions] == [
        (f"book:nord@{at('2026-12-01T08:00+01:00')}", "Book Tuesday, 1 Dec, 8:00"),
        (f"book:nord@{THURSDAY}", "Book Thursday, 3 Dec, 17:30"),
        ("other_time", "Other time"),
        ("not_now", "Not now"),
    ]


def test_the_same_in_german() -> None:
    said = words(touchpoint(), "de")
    assert plain(said.title) == "Die vorderen Bremsbeläge haben noch 2,5 mm"
    assert said.severity_word == "Hinweis"
    assert plain(said.actions[1][1]) == "Donnerstag, 3. Dez., 17:30 buchen"


def test_a_time_that_has_passed_is_not_offered_any_more() -> None:
    said = words(touchpoint(), now=at("2026-12-02T12:00+01:00"))
    assert [action for action, _ in said.actions] == [f"book:nord@{THURSDAY}", "other_time", "not_now"]
    assert said.offer is not None
    assert "Tuesday" not in said.offer


def test_where_no_price_is_stated_none_is_shown() -> None:
    free = replace(NORD, services=(replace(NORD.services[0], price_from=None, price_to=None),))
    assert plain(words(touchpoint(), workshop=free).promise or "") == "Takes about 1 hour."
    assert words(touchpoint(), workshop=None).promise is None


def test_without_times_the_owner_can_ask_to_be_called() -> None:
    assert [action for action, _ in words(touchpoint(slots=())).actions] == ["call_me", "not_now"]


def test_a_reminder_counts_down_and_can_be_ticked_off() -> None:
    matter = touchpoint(
        "descale-due", kind="reminder", service="descale", slots=(), evidence={"washes_since_descale": 41}
    )
    said = words(matter, device=WASHER, workshop=None, info=RULES["descale-due"])
    assert said.title == "Your WashMate 7 needs descaling in 9 washes"
    assert said.evidence.startswith("41 washes since the last time.")
    assert [action for action, _ in said.actions] == ["noted", "already_done", "not_now"]
    last = replace(matter, evidence={"washes_since_descale": 49})
    assert words(last, device=WASHER, workshop=None, info=RULES["descale-due"]).title.endswith("in 1 wash")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["appointment", "reminder", "hint", "notice"])
def test_a_rule_that_nobody_wrote_texts_for_is_worded_from_what_it_is(kind: str, language: str) -> None:
    matter = touchpoint("accept-control", kind=kind)
    said = words(matter, language, info=rule("accept-control", touchpoint_kind=kind))
    for text in (said.name, said.title, said.body, said.short, said.why):
        assert text
        assert "{" not in text
        assert "touchpoints." not in text
    assert "2.5\u00a0mm" in said.body or "2,5\u00a0mm" in said.body


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_value_that_is_missing_leaves_no_hole(language: str) -> None:
    for evidence in ({}, {"pad_wear_front": None}, {"ts": 5}):
        said = words(touchpoint(evidence=evidence), language)
        assert "{" not in f"{said.title} {said.body} {said.why} {said.name}"


@given(
    st.dictionaries(
        st.sampled_from(["pad_wear_front", "dtc", "water_in_base", "ts", "odd", "trip"]),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(max_size=5)) | st.floats(),
    ),
    st.sampled_from([*RULES, "unknown"]),
    st.sampled_from(LANGUAGES),
)
def test_whatever_a_device_reported_can_be_worded(
    evidence: dict[str, Any], rule_id: str, language: str
) -> None:
    info = RULES.get(rule_id)
    said = words(touchpoint(rule_id, evidence=evidence), language, info=info)
    assert said.title
    line = LedgerLine(
        id="l", at=0, code="found", params={"rule": rule_id, "kind": "car", "evidence": evidence}
    )
    assert ledger_words(line, TEXTS, language, BERLIN, SIGNALS)


CODES = [key.removeprefix(".") for key, _ in flat(config.messages("en")["ledger"]) if key.count(".") == 1]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", [code for code in CODES if code not in ("nth_only", "other_matter")])
def test_every_line_of_the_ledger_is_a_whole_sentence(code: str, language: str) -> None:
    params = {
        "rule": "brake-pads-front-worn",
        "kind": "car",
        "evidence": {"pad_wear_front": 95},
        "signals": ["pad_wear_front"],
        "product": "Arden 5",
        "workshop": "Autohaus Nord",
        "channels": ["web_push", "display"],
        "channel": "page",
        "reason": "not_sent_driving",
        "until": THURSDAY,
        "start": THURSDAY,
        "new_start": THURSDAY,
        "score": 4,
        "highest": 5,
    }
    line = LedgerLine(id="l", at=THURSDAY - HOUR, code=code, params=params)
    sentence = ledger_words(line, TEXTS, language, BERLIN, SIGNALS)
    assert sentence.endswith(".")
    assert "{" not in sentence
    assert "ledger." not in sentence


def test_a_line_nobody_knows_is_still_a_sentence() -> None:
    line = LedgerLine(id="l", at=THURSDAY, code="from_the_future", params={})
    assert ledger_words(line, TEXTS, "en", BERLIN) == "Something was noted at 17:30."


@pytest.mark.parametrize(
    ("nth", "budget", "says"),
    [
        (1, 1, "The one service message you allow a week."),
        (2, 3, "Second of three service messages you allow a week."),
        (5, 9, "One of 9 service messages you allow a week."),
        (3, 2, ""),
    ],
)
def test_the_week_is_counted_in_words(nth: int, budget: int, says: str) -> None:
    params = {"channels": ["web_push"], "product": "Arden 5", "nth": nth, "budget": budget}
    line = LedgerLine(id="l", at=THURSDAY, code="sent", params=params)
    assert ledger_words(line, TEXTS, "en", BERLIN) == f"Sent at 17:30 to your phone. {says}".strip()


def test_times_are_those_of_the_reader() -> None:
    line = LedgerLine(id="l", at=THURSDAY, code="parked", params={})
    assert ledger_words(line, TEXTS, "en", "America/New_York") == "It parked at 11:30."


@pytest.mark.parametrize(
    ("language", "unit", "value", "says"),
    [
        ("en", "km", 48_210, "48,210 km"),
        ("de", "km", 48_210, "48.210 km"),
        ("en-GB", "km", 48_210, "29,956 mi"),
        ("en-GB", "celsius", 21, "21 °C"),
        ("en-US", "km/h", 100, "62.1 mph"),
        ("en-US", "°C", 90, "194 °F"),
        ("en-US", "bar", 2.3, "33.4 psi"),
        ("de", "bar", 2.3, "2,3 bar"),
        ("de", "l", 12.5, "12,5 l"),
        ("en", "litre", 12.5, "12.5 l"),
        ("de-AT", "celsius", -4.5, "-4,5 °C"),
        ("en", "washes", 3, "3 washes"),
        ("en", "percent", 95, "95 %"),
    ],
)
def test_units_are_those_of_the_reader(language: str, unit: str, value: float, says: str) -> None:
    assert TEXTS.quantity(language, value, unit).replace("\u00a0", " ") == says


def test_a_matter_is_told_in_the_readers_units() -> None:
    info = rule("too-hot", signals=("coolant_temperature",), severity="warning", touchpoint_kind="notice")
    matter = touchpoint("too-hot", kind="notice", evidence={"coolant_temperature": 110})
    assert "230\u00a0°F" in words(matter, "en-US", info=info).body
    assert "110\u00a0°C" in words(matter, "en", info=info).body
