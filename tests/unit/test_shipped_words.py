"""Every shipped rule has words of its own in every language, and what stands in them can always be filled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from garage import SIGNALS, TEXTS

import config
from gateway.domain.device import Device
from gateway.domain.policy import RuleInfo
from gateway.domain.touchpoint import State, Touchpoint
from gateway.domain.wording import Words, touchpoint_words
from rules import Rule, load

LANGUAGES = ("en", "de")
PARTS = ("name", "title", "body", "why", "found")
SHIPPED = load(
    [(path.name, path.read_text("utf-8")) for path in sorted(config.data_path("rules").glob("*.yaml"))],
    SIGNALS,
)


def fillable(rule: Rule) -> Iterator[str]:
    """What a finding of this rule always brings along: the signals of its condition, and of a first one that
    wears its limit, what it is when new, and what is left."""
    yield "product"
    yield from rule.signals
    charted = SIGNALS.signal(rule.kind, rule.signals[0]) if rule.signals else None
    if charted is not None and charted.wear is not None:
        yield from ("worn_out", "new")
        if charted.display is None:
            yield "left"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("rule", SHIPPED.rules.values(), ids=lambda rule: str(rule.id))
def test_a_rule_has_words_that_its_finding_fills(rule: Rule, language: str) -> None:
    for part in PARTS:
        key = f"touchpoints.{rule.id}.{part}"
        assert TEXTS.has(key), key
        assert TEXTS.needs(language, key) <= set(fillable(rule)), key


def said(rule: Rule, evidence: Mapping[str, object], language: str) -> Words:
    device = Device(id="device", kind=rule.kind, name="Muster 7", owner="jana")
    matter = Touchpoint(
        id="t", finding="f", device="device", owner="jana", rule=rule.id, rule_version=rule.version,
        kind=rule.touchpoint.kind, service=rule.touchpoint.service, severity=rule.severity,
        purpose=rule.purpose, state=State.OPEN, created=0, evidence=evidence,
    )  # fmt: skip
    info = RuleInfo.of(rule)
    return touchpoint_words(matter, device, None, info, SIGNALS, TEXTS, language, "Europe/Berlin")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("rule", SHIPPED.rules.values(), ids=lambda rule: str(rule.id))
def test_its_message_is_whole_and_fits_a_phone(rule: Rule, language: str) -> None:
    """A title of 90 and a text of 200 characters are about what a phone shows without unfolding."""
    evidence = {
        name: value
        for _, signals in next(example for example in rule.examples if example.fires_at).given
        for name, value in signals.items()
        if name in rule.signals
    }
    words = said(rule, evidence, language)
    assert "{" not in f"{words.name}{words.title}{words.body}{words.why}"
    assert len(words.title) <= 90, words.title
    assert len(words.body) <= 200, words.body


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_service_that_a_rule_leads_to_has_a_name(language: str) -> None:
    for service in {rule.touchpoint.service for rule in SHIPPED.rules.values()}:
        assert TEXTS.say(language, f"services.{service}.name") != f"services.{service}.name"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_value_of_signals_that_we_named_is_said_in_words(language: str) -> None:
    """Those of VSS are engineers' words already."""
    ours = {
        value
        for kind in SIGNALS.kinds.values()
        for signal in kind.signals.values()
        if not signal.vss
        for value in signal.values
    }
    speaking = config.messages(language)["signals"]["values"]
    assert sorted(ours - set(speaking)) == []
