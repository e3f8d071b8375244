"""What is wrong with messages is told, what is missing falls back, and how they read can be seen before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from garage import SIGNALS, TEXTS

import config
from gateway.cli import main
from gateway.domain import message_check, previewing
from gateway.domain.texts import Texts
from rules import Rule, load

RULES = load(
    [(path.name, path.read_text("utf-8")) for path in sorted(config.data_path("rules").glob("*.yaml"))],
    SIGNALS,
)
PADS = RULES.rules["brake-pads-front-worn"]
NOW = 1_795_420_800_000


def texts(de: Any = None, **en: Any) -> Texts:
    return Texts({"en": en, "de": de if de is not None else en})


def kinds(found: list[message_check.MessageFault]) -> list[tuple[str, str, str]]:
    return [(fault.kind, fault.language, fault.key) for fault in found]


def test_what_is_shipped_is_whole() -> None:
    assert message_check.check(TEXTS, list(RULES.rules.values()), SIGNALS) == []


def test_what_one_language_lacks_is_told_and_falls_back() -> None:
    some = texts(de={"a": "A"}, a="A", b="B")
    assert kinds(message_check.check(some, [], SIGNALS)) == [("missing", "de", "b")]
    assert some.say("de", "b") == "B"
    assert all(fault.falls_back for fault in message_check.check(some, [], SIGNALS))


def test_a_plural_needs_every_form_of_its_language() -> None:
    some = texts(de={"n": {"other": "{count} Tage"}}, n={"one": "{count} day", "other": "{count} days"})
    [fault] = message_check.check(some, [], SIGNALS)
    assert (fault.kind, fault.language, fault.key) == ("plural", "de", "n")
    assert "lacks one" in fault.problem


def test_a_form_that_the_language_never_asks_for_is_told() -> None:
    some = texts(n={"one": "a", "few": "b", "other": "c"})
    assert {(f.kind, "few" in f.problem) for f in message_check.check(some, [], SIGNALS)} == {
        ("plural", True)
    }


def test_a_word_called_other_is_no_plural() -> None:
    assert message_check.check(texts(who={"workshop": "W", "other": "O"}), [], SIGNALS) == []


def test_a_placeholder_that_english_does_not_have_is_a_slip() -> None:
    some = texts(de={"a": "{nmae} kommt"}, a="{name} comes")
    assert kinds(message_check.check(some, [], SIGNALS)) == [("differs", "de", "a")]


def of_pads(**parts: str) -> Texts:
    every = {"name": "Pads", "title": "T", "body": "B", "why": "W", "found": "F"} | parts
    return texts(touchpoints={PADS.id: every})


def test_a_placeholder_that_no_finding_fills_is_a_fault_with_what_to_write() -> None:
    found = list(message_check.check_rule(of_pads(body="{pad_wear} mm of {new}"), PADS, SIGNALS))
    assert {(fault.kind, fault.language) for fault in found} == {("placeholder", "en"), ("placeholder", "de")}
    assert "pad_wear_front" in found[0].problem
    assert not found[0].falls_back


def test_what_every_finding_brings_may_stand_in_a_text() -> None:
    body = "{product} {workshop} {service} {minutes} {signal} {value} {pad_wear_front} {worn_out} {new}"
    assert list(message_check.check_rule(of_pads(body=body), PADS, SIGNALS)) == []


def test_a_rule_without_texts_of_its_own_is_one_note() -> None:
    [note] = message_check.check_rule(texts(a="A"), PADS, SIGNALS)
    assert note.falls_back
    assert "worded from its kind" in note.problem


# --- previews -------------------------------------------------------------------------------------


def previews(rule: Rule = PADS, *channels: str) -> list[previewing.Preview]:
    matter = previewing.example_matter(rule, previewing.example_of(rule), TEXTS, NOW)
    wanted = channels or previewing.CHANNELS
    return previewing.matter_previews(
        rule, matter, TEXTS, SIGNALS, ["en", "de"], wanted, "Europe/Berlin", NOW
    )


def test_a_rule_is_previewed_on_every_channel_in_every_language() -> None:
    found = previews()
    assert {(one.language, one.channel) for one in found} == {
        (language, channel) for language in ("en", "de") for channel in previewing.CHANNELS
    }
    push = found[0]
    assert "front brake pads" in push.title.lower()
    assert push.bytes is not None
    assert push.bytes < previewing.PUSH_BYTES
    mail = next(one for one in found if one.channel == "email")
    assert mail.title == f"Arden 5: {push.title}"


@pytest.mark.parametrize("rule", RULES.rules.values(), ids=lambda rule: str(rule.id))
def test_no_shipped_rule_is_cut_off(rule: Rule) -> None:
    for one in previews(rule, "push"):
        assert "{" not in one.title + one.body
        assert one.bytes is not None
        assert one.bytes <= previewing.PUSH_BYTES


def test_what_does_not_fit_is_told() -> None:
    one = previewing.Preview(
        language="en",
        channel="push",
        title="x" * 91,
        body="b",
        bytes=4_000,
        limits={"title": 90, "body": 200},
    )
    assert one.too_long == ("title: 91 of 90 characters", "payload: 4000 of 3993 bytes")


# --- the commands ---------------------------------------------------------------------------------


def test_the_command_previews_a_rule_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["messages", "preview", PADS.id, "--language", "de", "--channel", "push", "--json"]) == 0
    [one] = json.loads(capsys.readouterr().out)
    assert (one["language"], one["channel"], one["too_long"]) == ("de", "push", [])
    assert "Bremsbeläge" in one["title"]
    assert one["actions"]


def test_the_command_prints_a_text_and_what_lies_below_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["messages", "preview", "units.minutes", "--language", "en", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["key"] for row in rows] == ["units.minutes.one", "units.minutes.other"]


def test_what_is_neither_rule_nor_text_cannot_be_previewed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["messages", "preview", "no.such.thing"]) == 2
    assert "no.such.thing" in capsys.readouterr().err


def test_the_check_is_silent_when_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["messages", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_rules_check_notes_a_rule_without_texts_and_is_good_all_the_same(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        """
- id: my-own-rule
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: coolant_temperature > 110
  touchpoint: {kind: notice}
  examples:
    - given: {coolant_temperature: [[0m, 111]]}
      expect: {fires_at: 0m}
"""
    )
    assert main(["rules", "check", str(file)]) == 0
    out = capsys.readouterr().out
    assert "note: messages/en: touchpoints.my-own-rule: no text of its own" in out
    assert "all sound" in out or "sound" in out
