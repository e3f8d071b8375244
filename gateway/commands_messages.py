"""The commands about messages: how they read, and what is missing in them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import config
from gateway.commands import settings_of, show, with_stores
from gateway.domain import message_check, previewing
from gateway.domain.appointment import Workshop
from gateway.domain.device import Device
from gateway.domain.errors import CannotStartError
from gateway.domain.policy import Policy, RuleInfo
from gateway.domain.texts import Texts
from gateway.domain.touchpoint import Touchpoint
from gateway.flow import book, outgoing
from gateway.parts import Stores
from gateway.ports import Records
from gateway.sources import LANGUAGES, load_rules, load_signals, rule_texts, signal_texts
from rules import Catalogue, Rule, RuleSet

ZONE = "Europe/Berlin"


def texts_of() -> Texts:
    """The messages of every language."""
    return Texts({language: config.messages(language) for language in LANGUAGES})


def sources(arguments: argparse.Namespace) -> tuple[RuleSet, Catalogue]:
    """The rules and signals of the settings, or of the paths that were named."""
    settings = settings_of(arguments)
    signals = load_signals(signal_texts([*settings.signals.paths, *map(str, arguments.signals)]))
    paths = [*map(str, arguments.rules)] or settings.rules.paths
    return load_rules(rule_texts(paths), signals), signals


# --- check ------------------------------------------------------------------------------------


def check(arguments: argparse.Namespace) -> int:
    """0 when every text is there and whole, 1 with everything that is not."""
    rules, signals = sources(arguments)
    faults = message_check.check(texts_of(), list(rules.rules.values()), signals)
    table = [dataclasses.asdict(fault) for fault in faults]
    if faults or arguments.json:
        show(table, as_json=arguments.json, empty="")
        return 1 if faults else 0
    count = sum(len(texts_of().keys(language)) for language in LANGUAGES)
    print(f"{count} texts in {len(LANGUAGES)} languages, all there and whole")
    return 0


# --- preview ----------------------------------------------------------------------------------


def preview(arguments: argparse.Namespace) -> int:
    """How a rule's matter, or any text, reads."""
    rules, signals = sources(arguments)
    texts = texts_of()
    languages = arguments.language or texts.languages()
    rule = rules.rules.get(arguments.what)
    if rule is None:
        return _texts(texts, arguments.what, languages, as_json=arguments.json)
    now = time.time_ns() // 1_000_000
    zone = ZONE
    if arguments.device:
        matter, zone = _of_device(arguments, rule, signals, now)
    else:
        matter = previewing.example_matter(rule, previewing.example_of(rule), texts, now)
    found = previewing.matter_previews(
        rule, matter, texts, signals, languages, arguments.channel or previewing.CHANNELS, zone, now
    )
    _show(found, as_json=arguments.json)
    return 1 if any(one.too_long for one in found) else 0


def _texts(texts: Texts, key: str, languages: Sequence[str], *, as_json: bool) -> int:
    rows = [
        {"language": language, "key": found, "text": text}
        for language, found, text in previewing.text_previews(texts, key, languages)
    ]
    if not rows:
        raise CannotStartError(
            f"{key} is no rule, and no text: the key of one is its path in config/messages, as ledger.sent"
        )
    show(rows, as_json=as_json, empty="")
    return 0


def _show(found: Sequence[previewing.Preview], *, as_json: bool) -> None:
    if as_json:
        rows = [{**dataclasses.asdict(one), "too_long": list(one.too_long)} for one in found]
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for one in found:
        size = f", {one.bytes} of {previewing.PUSH_BYTES} bytes" if one.bytes is not None else ""
        print(f"--- {one.language} · {one.channel} ({len(one.title)} + {len(one.body)} characters{size})")
        print(one.title)
        print(one.body)
        for label in one.actions:
            print(f"[{label}]")
        for problem in one.too_long:
            print(f"! too long, {problem}")
        print()


def _of_device(
    arguments: argparse.Namespace, rule: Rule, signals: Catalogue, now: int
) -> tuple[tuple[Touchpoint, Device, Workshop | None], str]:
    """The matter with a device's own values, workshop and next times, and its owner's zone."""
    example = previewing.example_matter(rule, previewing.example_of(rule), texts_of(), now)[0]

    def work(records: Records) -> tuple[tuple[Touchpoint, Device, Workshop | None], str]:
        device = records.devices.get(arguments.device)
        if device.kind != rule.kind:
            raise CannotStartError(f"{device.id} is a {device.kind}, {rule.id} is about a {rule.kind}")
        latest: Mapping[str, Any] = {
            name: value for name, (_, value) in records.devices.facts(device.id).latest.items()
        }
        evidence = {**example.evidence, **{name: latest[name] for name in rule.signals if name in latest}}
        owner = records.owners.get(device.owner) if device.owner else None
        touchpoint = dataclasses.replace(
            example, device=device.id, owner=device.owner or "", evidence=evidence, slots=()
        )
        workshop = outgoing.workshop_of(records, device, touchpoint)
        policy = Policy(rules={rule.id: RuleInfo.of(rule)})
        slots = book.proposals(records, touchpoint, now, policy) if workshop and owner else ()
        touchpoint = dataclasses.replace(touchpoint, slots=slots)
        return (touchpoint, device, workshop), owner.time_zone if owner else ZONE

    async def read(stores: Stores) -> tuple[tuple[Touchpoint, Device, Workshop | None], str]:
        return await stores.database.read(work)

    return with_stores(arguments, read)
