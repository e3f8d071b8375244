"""A rule tried on what is recorded, as it is and as somebody would have it: what each would have found.

For the page of a rule, so with an end: of so many products, and of no more readings than can be waited for.
`touchpoint rules backtest` takes all, and rules that compare devices.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from gateway.domain.errors import InvalidError
from gateway.domain.moments import DAY_MS
from gateway.flow.directory import all_devices
from gateway.ports import Database, Records, TimeSeries
from rules import Backtest, Engine, KnownDevice, Rule, RuleSet, Value
from rules.backtest import Report, Row
from rules.expressions import ExpressionFault, check
from rules.places import Geography

MOST_DEVICES = 200
MOST_READINGS = 400_000
PAGE = 5_000
BEFORE_MS = 60 * DAY_MS
"""Of so much time before the days that count readings are taken, too: windows look back."""
NAME = re.compile(r"[a-z_][a-z0-9_]*")


class CannotTryError(InvalidError):
    """It cannot be tried here; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What the rule, and what the changed one, would have found."""

    reports: tuple[Report, ...]
    devices: int
    """whose readings were taken"""
    cut: bool
    """there was more than is taken"""


def changed(rule: Rule, rules: RuleSet, when: str, clear: str) -> Rule:
    """The rule with other conditions. Raises CannotTryError with what is wrong with them."""
    kind = rules.catalogue.kinds[rule.kind]
    zones = rules.catalogue.zones
    try:
        return replace(
            rule,
            when=check(when, kind, zones),
            clear=check(clear, kind, zones) if clear else None,
        )
    except ExpressionFault as fault:
        raise CannotTryError(str(fault)) from fault


async def try_rules(
    variants: Sequence[Rule],
    rules: RuleSet,
    *,
    database: Database,
    series: TimeSeries,
    now: int,
    days: int,
    geography: Geography | None,
) -> Tried:
    """Each of the variants over the same recorded readings of the last `days`."""
    texts = " ".join(e.text for rule in variants for e in (rule.when, rule.clear) if e)
    if "fleet" in texts:
        raise CannotTryError("It compares products with one another; touchpoint rules backtest can try it.")
    known = await database.read(lambda records: _known(records, variants[0].kind))
    backtests = [
        Backtest(
            Engine(RuleSet({rule.id: rule}, rules.catalogue), geography=geography),
            lambda _: None,
            known=known,
            end=now,
        )
        for rule in variants
    ]
    wanted, taken, looked = set(NAME.findall(texts)), 0, 0
    since = now - days * DAY_MS
    for device in sorted(known)[:MOST_DEVICES]:
        rows = await _rows(series, device, wanted, since - BEFORE_MS, now)
        for backtest in backtests:
            await asyncio.to_thread(backtest.feed, rows)
        looked, taken = looked + bool(rows), taken + len(rows)
        if taken > MOST_READINGS:
            break
    return Tried(
        reports=tuple(backtest.report(start=since) for backtest in backtests),
        devices=looked,
        cut=taken > MOST_READINGS or len(known) > MOST_DEVICES,
    )


def _known(records: Records, kind: str) -> dict[str, KnownDevice]:
    found = (device for device in all_devices(records) if device.kind == kind)
    return {
        device.id: KnownDevice(kind=device.kind, model=device.model, time_zone=_zone(records, device.owner))
        for device in found
    }


def _zone(records: Records, owner: str | None) -> str | None:
    return records.owners.get(owner).time_zone if owner else None


async def _rows(series: TimeSeries, device: str, wanted: set[str], start: int, end: int) -> list[Row]:
    """What is recorded of the signals that the conditions name, by time."""
    moments: dict[int, dict[str, Value]] = {}
    for signal in sorted(wanted.intersection(await series.latest(device))):
        after: int | None = None
        while True:
            page = await series.readings(device, signal, start=start, end=end, after=after, limit=PAGE)
            for ts, value in page:
                moments.setdefault(ts, {})[signal] = value
            if len(page) < PAGE or len(moments) > MOST_READINGS:
                break
            after = page[-1][0]
    return sorted(((device, ts, signals) for ts, signals in moments.items()), key=itemgetter(1))
