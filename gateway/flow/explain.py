"""explain: why a rule is, or is not, true for a device: as the rules see it now, or as history says it was.

Now is what was saved of the device last, and what the journal holds of it since. For a time
past the time series is played through fresh rules; what it does not hold is missing there: resets by jobs,
signals that devices share, and the other devices that `fleet` compares with.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.domain.device import Device
from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.messages import Batch, ContextReading
from gateway.flow.assess import APPLIED, DECODER, READ_LIMIT, in_order
from gateway.ports import Database, Journal, Records, RuleState, TimeSeries
from rules import Engine, RuleSet
from rules.explain import RuleExplanation
from rules.places import Geography
from rules.readings import Value
from rules.texts import LONGEST_SPAN

PAGE = 10_000
KNOWN = 5_000
"""Devices among which one is looked for that was meant."""
MOST_BEHIND = 500_000
"""Entries of the journal that are looked through for what came since the state was saved."""
PLACE = ("latitude", "longitude")
ASKS_PLACE = ("inside(", "country(", "distance(", "context(")

Moments = dict[int, dict[str, Value]]
"""{ts: {signal: value}}"""


class UnknownDeviceError(NotFoundError):
    """Nobody registered such a device, and it never reported; `near` is the one that was perhaps meant."""

    def __init__(self, device: str, near: str | None) -> None:
        super().__init__(f"There is no device {device}{f'; did you mean {near}?' if near else '.'}")
        self.near = near


class OtherKindError(InvalidError):
    """The rule is for another kind of device."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What is known and written nearly so."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def meant(word: str, known: Iterable[str]) -> str:
    """ "; did you mean …?" where something known is near."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else "."


def known_rule(rules: RuleSet, rule: str) -> None:
    """Raises NotFoundError, with the rule that was perhaps meant."""
    if rule not in rules.rules:
        raise NotFoundError(f"There is no rule {rule}{meant(rule, rules.rules)}")


def known_device(records: Records, device_id: str, kind: str | None = None) -> tuple[Device, str | None]:
    """(the device, its owner's time zone); `kind` is what its name suggests where nobody registered it.

    Raises UnknownDeviceError."""
    found = records.devices.find(device_id)
    if found is None:
        facts = records.devices.facts(device_id)
        if not facts.last_seen:
            known = [device.id for device in records.devices.page(limit=KNOWN)]
            known += [row.device for row in records.devices.unclaimed(limit=KNOWN)]
            raise UnknownDeviceError(device_id, nearest(device_id, known))
        found = Device(id=device_id, kind=facts.kind or kind or "unknown")
    zone = records.owners.get(found.owner).time_zone if found.owner else None
    return found, zone


def fits(rules: RuleSet, rule: str, device: Device) -> None:
    """Raises OtherKindError."""
    kind = rules.rules[rule].kind
    if device.kind != kind:
        wanted, found = kind.replace("_", " "), device.kind.replace("_", " ")
        raise OtherKindError(f"rule: {rule} is for the kind {wanted}; {device.id} is of the kind {found}.")


async def explain_now(
    rules: RuleSet,
    rule: str,
    device_id: str,
    *,
    database: Database,
    state: RuleState,
    journal: Journal,
    now: int,
    kind: str | None = None,
    geography: Geography | None = None,
) -> tuple[Device, RuleExplanation]:
    """Raises NotFoundError, InvalidError, DatabaseUnavailableError, JournalWriteError."""
    known_rule(rules, rule)
    device, zone = await database.read(lambda records: known_device(records, device_id, kind))
    fits(rules, rule, device)
    among_peers = "fleet(" in _texts(rules, rule)
    position, states = await (state.load() if among_peers else state.load_one(device_id))

    def restored() -> Engine:
        engine = Engine(rules, geography=geography)
        for name, saved in states:
            if name != APPLIED and not name.startswith(DECODER):
                engine.restore(name, saved)
        if not any(name == device_id for name, _ in states):
            engine.register(0, now, device.id, device.kind, device.model, zone)
        return engine

    engine = await asyncio.to_thread(restored)
    await _catch_up(engine, journal, position, device)
    return device, _given(engine.explain(device_id, rule, now), rule, device_id)


async def _catch_up(engine: Engine, journal: Journal, position: int, device: Device) -> None:
    """What the journal holds of one device behind a position; of very much the beginning only."""
    read_up_to = position + MOST_BEHIND
    while position < read_up_to and (batches := await journal.read(position, limit=READ_LIMIT)):
        for batch in batches:
            _take(engine, batch, position, device)
            position = max(position, batch.last)
            await asyncio.sleep(0)


def _take(engine: Engine, batch: Batch, after: int, device: Device) -> None:
    for position, entry in enumerate(batch.controls, batch.first):
        if position > after:
            _control(engine, position, batch.received, entry, device.id)
    if batch.kind == "messages":
        for message in in_order(batch.decoded):
            if isinstance(message, ContextReading):
                if message.position > after:
                    engine.context(
                        message.position,
                        batch.received,
                        message.name,
                        message.area,
                        message.ts,
                        message.signals,
                    )
            elif message[1] == device.id and message[0] > after:
                engine.readings(message[0], batch.received, device.id, device.kind, (message[2:4],))
    engine.take()


def _control(engine: Engine, position: int, received: int, entry: Mapping[str, Any], device: str) -> None:
    if entry.get("type") == "tick":
        engine.tick(position, received)
    elif entry.get("type") == "erase":
        if device in entry["left"]:
            engine.forget(position, received, device)
    elif entry.get("device") != device:
        return
    elif entry.get("type") == "reset":
        engine.reset(position, received, device, entry["signals"])
    elif entry.get("type") == "device":
        kind, model, zone = entry.get("kind"), entry.get("model"), entry.get("time_zone")
        engine.register(position, received, device, kind, model, zone)


async def explain_at(
    rules: RuleSet,
    rule: str,
    device_id: str,
    at: int,
    *,
    database: Database,
    timeseries: TimeSeries,
    kind: str | None = None,
    geography: Geography | None = None,
) -> tuple[Device, RuleExplanation]:
    """As the history of the rule's signals says it was. Raises NotFoundError, InvalidError,
    StoreUnavailableError."""
    known_rule(rules, rule)
    device, zone = await database.read(lambda records: known_device(records, device_id, kind))
    fits(rules, rule, device)
    moments: Moments = {}
    for signal in await _signals(rules, rule, device, timeseries):
        for ts, value in await _history(timeseries, device_id, signal, at):
            moments.setdefault(ts, {})[signal] = value

    def work() -> RuleExplanation | None:
        engine = Engine(RuleSet({rule: rules.rules[rule]}, rules.catalogue), geography=geography)
        engine.register(0, min(moments, default=at), device.id, device.kind, device.model, zone)
        return _played(engine, device, moments, at).explain(device_id, rule, at)

    return device, _given(await asyncio.to_thread(work), rule, device_id)


def _played(engine: Engine, device: Device, moments: Moments, at: int) -> Engine:
    """What was measured, each when it was measured, and the time between."""
    for position, ts in enumerate(sorted(moments), 1):
        _pass(engine, position, ts)
        engine.readings(position, ts, device.id, device.kind, ((ts, moments[ts]),))
    _pass(engine, len(moments) + 1, at)
    return engine


def _pass(engine: Engine, position: int, until: int) -> None:
    due = engine.next_due()
    while due is not None and due <= until:
        engine.tick(position, due)
        following = engine.next_due()
        if following == due:
            break
        due = following
    engine.take()


async def _signals(rules: RuleSet, rule: str, device: Device, timeseries: TimeSeries) -> Sequence[str]:
    """What the rule looks at; for one that waits for silence everything the device ever said."""
    text, asked = _texts(rules, rule), rules.rules[rule]
    if "silent(" in text:
        return [*await timeseries.latest(device.id)]
    names = [*asked.when.signals, *(asked.clear.signals if asked.clear else ())]
    names += PLACE if any(function in text for function in ASKS_PLACE) else ()
    return list(dict.fromkeys(names))


def _texts(rules: RuleSet, rule: str) -> str:
    asked = rules.rules[rule]
    return f"{asked.when.text} {asked.clear.text if asked.clear else ''}"


async def _history(timeseries: TimeSeries, device: str, signal: str, at: int) -> list[tuple[int, Value]]:
    readings: list[tuple[int, Value]] = []
    after: int | None = None
    while True:
        page = await timeseries.readings(
            device, signal, start=at - LONGEST_SPAN, end=at + 1, after=after, limit=PAGE
        )
        readings += page
        if len(page) < PAGE:
            return readings
        after = page[-1][0]


def _given(found: RuleExplanation | None, rule: str, device: str) -> RuleExplanation:
    if found is None:
        raise InvalidError(f"rule: {rule} does not look at {device}.")
    return found
