"""How messages read before anybody gets them: a rule's matter on each channel, or any single text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.domain.appointment import Service, Workshop
from gateway.domain.device import Device
from gateway.domain.moments import DAY_MS, HOUR_MS
from gateway.domain.policy import RuleInfo
from gateway.domain.texts import Texts
from gateway.domain.touchpoint import Slot, State, Touchpoint
from gateway.domain.wording import Words, touchpoint_words
from rules import Catalogue, Rule

CHANNELS = ("push", "email", "display")
PUSH_BYTES = 3_993
"""what RFC 8030 services take once it is encrypted (RFC 8291 section 4)"""
SHOWN = {"push": {"title": 90, "body": 200}, "email": {"title": 100, "body": 2_000}, "display": {"title": 60}}
"""characters that are about shown without unfolding"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """One message on one channel in one language."""

    language: str
    channel: str
    title: str
    body: str
    actions: tuple[str, ...] = ()
    bytes: int | None = None
    """of the push's payload"""
    limits: Mapping[str, int] = field(default_factory=dict)
    """{part: characters that are shown}"""

    @property
    def too_long(self) -> tuple[str, ...]:
        """What will be shortened or cut off, in words."""
        parts = {"title": self.title, "body": self.body}
        long = [
            f"{name}: {len(parts[name])} of {most} characters"
            for name, most in self.limits.items()
            if len(parts[name]) > most
        ]
        if self.bytes is not None and self.bytes > PUSH_BYTES:
            long.append(f"payload: {self.bytes} of {PUSH_BYTES} bytes")
        return tuple(long)


def example_of(rule: Rule) -> dict[str, Any]:
    """What a rule's first example that fires has reported by then."""
    values: dict[str, Any] = {}
    for example in rule.examples:
        if not example.fires_at:
            continue
        for at, given in example.given:
            if at <= example.fires_at[0]:
                values |= {name: value for name, value in given.items() if name in rule.signals}
        return values
    return values


def example_matter(
    rule: Rule, evidence: Mapping[str, Any], texts: Texts, now: int
) -> tuple[Touchpoint, Device, Workshop]:
    """A matter with an example's product, workshop and two times, to be worded."""
    service = rule.touchpoint.service or ""
    key = f"services.{service}.name"
    names = {
        language: texts.say(language, key) if texts.has(key) else service for language in texts.languages()
    }
    workshop = Workshop(
        id="example",
        name="Autohaus Nord",
        services=(Service(id=service, names=names, minutes=60, price_from=180, price_to=220),),
    )
    slots = tuple(Slot(workshop="example", start=at, end=at + HOUR_MS) for at in _times(now))
    device = Device(id="example", kind=rule.kind, name="Arden 5" if rule.kind == "car" else "WashMate 7")
    touchpoint = Touchpoint(
        id="00000000-0000-7000-8000-000000000000",
        finding="example",
        device=device.id,
        owner="example",
        rule=rule.id,
        rule_version=rule.version,
        kind=rule.touchpoint.kind,
        service=rule.touchpoint.service,
        severity=rule.severity,
        purpose=rule.purpose,
        state=State.OPEN,
        created=now,
        evidence=evidence,
        slots=slots if rule.touchpoint.kind == "appointment" else (),
    )
    return touchpoint, device, workshop


def _times(now: int) -> tuple[int, int]:
    """Tuesday 7:00 and Thursday 16:30 (UTC) of next week."""
    days = now // DAY_MS
    monday = days - (days + 3) % 7 + 7  # the epoch began on a Thursday
    return (monday + 1) * DAY_MS + 7 * HOUR_MS, (monday + 3) * DAY_MS + 33 * HOUR_MS // 2


def matter_previews(
    rule: Rule,
    matter: tuple[Touchpoint, Device, Workshop | None],
    texts: Texts,
    signals: Catalogue,
    languages: Sequence[str],
    channels: Sequence[str],
    zone: str,
    now: int,
) -> list[Preview]:
    """A rule's matter as it would read now."""
    touchpoint, device, workshop = matter
    found = []
    for language in languages:
        words = touchpoint_words(
            touchpoint, device, workshop, RuleInfo.of(rule), signals, texts, language, zone, now=now
        )
        found += [_on(channel, language, words) for channel in channels]
    return found


def _on(channel: str, language: str, words: Words) -> Preview:
    labels = tuple(label for _, label in words.actions)
    plain = Preview(
        language=language,
        channel=channel,
        title=words.title,
        body=words.body,
        actions=labels,
        limits=SHOWN[channel],
    )
    if channel == "email":
        return replace(plain, title=f"{words.product}: {words.title}")
    if channel == "display":
        return replace(plain, body=words.short)
    actions = [{"action": action, "title": label} for action, label in words.actions]
    message = {"title": words.title, "body": words.body, "actions": actions, "url": "https://" + "x" * 80}
    return replace(plain, bytes=len(json.dumps(message, ensure_ascii=False).encode()))


def text_previews(texts: Texts, key: str, languages: Sequence[str]) -> list[tuple[str, str, str]]:
    """(language, key, text) of a text, of every form of a plural, and of everything below a key."""
    return [(language, found, text) for language in languages for found, text in texts.below(language, key)]
