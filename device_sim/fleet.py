"""The devices of a scenario: who uses them when, what they then send.

A unit is one device: a generator of steps in order of time (a trip begins, a reading is due, the network is
back), each of which moves its physics on and gives what it says. Plans are drawn per day and per trip from
seeds made of the scenario's seed, the device and the time, so that nothing depends on what others do.
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

from device_sim.physics import car, washing_machine
from device_sim.physics.driving import Profile, drive
from device_sim.physics.weather import air_temperature
from device_sim.scenario import (
    WEEKDAYS,
    DevicePart,
    FaultPart,
    Scenario,
    ScenarioError,
    TripPart,
    WashPart,
)

PREFIX = "touchpoint/v1"
CAREFUL_WASHES = 35
"""After how many washes machines of the past were descaled: before any rule asks for it."""
KEEPALIVE_MS = 90_000
"""How long after a connection broke the broker publishes the will: one and a half keep-alives of 60 s."""

Signals: TypeAlias = Mapping[str, Any]


class Message(NamedTuple):
    """What a device publishes. `topic` is whole, `payload` the bytes."""

    device: str
    topic: str
    payload: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Signals of one device at one time (ms)."""

    ts: int
    signals: Signals


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened at one time (ms)."""

    ts: int
    event: str
    data: Mapping[str, Any]


Said: TypeAlias = Sequence[Reading | Event]
Step: TypeAlias = tuple[int, Callable[[], Said]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """One use of a device: a trip or a wash, from start to end (ms)."""

    start: int
    end: int
    what: str
    """route or program"""
    every: int = 120_000
    """ms between two messages while in use"""
    fixed: bool = False
    """on one day of the scenario, not out of a habit"""


def payload(value: Any) -> bytes:
    """JSON without spaces: what our devices send."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Unit:
    """One device. Subclasses say how it is used and what it then reports."""

    kind = ""

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        self.scenario, self.part, self.id = scenario, part, part.id
        self._seed = f"{seed}/{part.id}"
        self._air_seed = f"{seed}/{scenario.name}"
        self._noise = random.Random(f"{self._seed}/sensors")
        self._repaired: dict[str, int] = {}
        self._appointments: list[tuple[int, int]] = []
        self._seq = 0
        self._held: list[Reading | Event] = []
        self._gaps = sorted((scenario.ms(gap.begin), scenario.ms(gap.end), gap.lost) for gap in part.gaps)
        self.used: Callable[[int], None] | None = None
        """told (ms) when a trip or a wash has ended: that is when people look at its display"""
        self._steps = self._plan()
        self._unplanned: list[Step] = []
        self._next: Step = next(self._steps)

    # --- what the player calls

    def next_at(self) -> int:
        """ms of the next step."""
        return min(self._next[0], self._unplanned[0][0]) if self._unplanned else self._next[0]

    def play(self) -> list[Message]:
        """Take the next step; gives what the device publishes with it."""
        at, said = self._step()
        return self._sent(at, said)

    def skip(self) -> None:
        """Take the next step and keep to itself what it says."""
        self._step()

    def history(self) -> list[Reading]:
        """Play up to the scenario's start; gives the readings that the network let through."""
        readings: list[Reading] = []
        while self.next_at() < self.scenario.start:
            at, said = self._step()
            if not self._gap(at):
                readings += [item for item in said if isinstance(item, Reading)]
        return readings

    def _step(self) -> tuple[int, Said]:
        if self._unplanned and self._unplanned[0][0] < self._next[0]:
            at, act = self._unplanned.pop(0)
            return at, act()
        at, act = self._next
        said = act()
        self._next = next(self._steps)
        return at, said

    def repair(self, service: str, at: int) -> None:
        """A service was done: what was wrong before is gone."""
        for fault in self.part.faults:
            if CURES.get(fault.fault) == service:
                self._repaired[fault.fault] = at

    def away(self, start: int, end: int) -> None:
        """It is with a workshop from start to end (ms) and not used then."""
        self._appointments.append((start, end))

    def _with_workshop(self, use: Use) -> bool:
        return any(use.start < end and start < use.end for start, end in self._appointments)

    def begin_with(self, values: Mapping[str, float]) -> None:
        """Set states, by the names that marks have, before the first step."""
        raise NotImplementedError

    def value(self, state: str, at: int) -> float:
        """A state at a time that no step has passed yet."""
        raise NotImplementedError

    def _ended(self, use: Use) -> None:
        if self.used is not None and use.end > self.scenario.start:
            self.used(use.end)

    # --- network

    def _gap(self, at: int) -> tuple[int, int, bool] | None:
        return next((gap for gap in self._gaps if gap[0] <= at < gap[1]), None)

    def _sent(self, at: int, said: Said) -> list[Message]:
        gap = self._gap(at)
        if gap is None:
            return [self._message(item) for item in said]
        if not gap[2]:
            self._held += said
        return []

    def _message(self, item: Reading | Event) -> Message:
        if isinstance(item, Event):
            body = {"ts": item.ts, "event": item.event, "data": item.data}
            return Message(self.id, f"{PREFIX}/{self.id}/event", payload(body))
        self._seq += 1
        body = {"ts": item.ts, "seq": self._seq, "signals": item.signals}
        return Message(self.id, f"{PREFIX}/{self.id}/telemetry", payload(body))

    def status(self, text: str) -> Message:
        """Its status topic: online, or the will's offline."""
        return Message(self.id, f"{PREFIX}/{self.id}/status", text.encode())

    def late(self) -> list[Message]:
        """What was held back: in its order but for a few that overtook each other, and one comes twice."""
        rng = random.Random(f"{self._seed}/late/{len(self._held)}")
        messages = [self._message(item) for item in self._held]
        self._held = []
        for i in range(len(messages) - 1):
            if rng.random() < 0.25:
                messages[i], messages[i + 1] = messages[i + 1], messages[i]
        if messages:
            messages.append(messages[rng.randrange(len(messages))])
        return messages

    def gaps(self) -> list[tuple[int, int, bool]]:
        """(begin, end, lost) of its gaps after the scenario's start, ms."""
        return [gap for gap in self._gaps if gap[1] > self.scenario.start]

    # --- plan

    def _plan(self) -> Iterator[Step]:
        """All steps in order of time, without end: uses, and from the scenario's start on reports while it
        stands idle."""
        last, from_start = self.scenario.history_start, self.scenario.start + self._offset()
        for until, use in self._timeline():
            while (at := max(last + self.part.idle, from_start)) < until - 60_000:
                yield at, partial(self._stand, at)
                last = at
            if use is not None:
                yield from self._use(use)
                last = use.end

    def _use(self, use: Use) -> Iterator[Step]:
        """The steps of one use."""
        raise NotImplementedError

    def _stand(self, at: int) -> Said:
        """What it reports while it stands idle."""
        raise NotImplementedError

    def _timeline(self) -> Iterator[tuple[int, Use | None]]:
        """(ms, what begins then), none overlapping, and the end of every day with None; without end."""
        day, last = self.scenario.local(self.scenario.history_start).date(), self.scenario.history_start
        while True:
            for use in self._day(day):
                if use.start > last:
                    yield use.start, use
                    last = use.end
            day += timedelta(days=1)
            yield max(last, self.scenario.ms(datetime.combine(day, time()))), None

    def _day(self, day: date) -> list[Use]:
        """The uses of one day; those with a date first, then habits that leave them room."""
        rng = random.Random(f"{self._seed}/{day}")
        planned = sorted(self._drawn(day, rng), key=lambda use: (not use.fixed, use.start))
        kept: list[Use] = []
        for use in planned:
            if all(use.start > other.end + 300_000 or use.end < other.start - 300_000 for other in kept):
                kept.append(use)
        return sorted(kept, key=lambda use: use.start)

    def _drawn(self, day: date, rng: random.Random) -> Iterator[Use]:
        raise NotImplementedError

    def _offset(self) -> int:
        return random.Random(f"{self._seed}/idle").randrange(120, self.part.idle // 1000) * 1000

    # --- faults

    def course(self, fault: str, at: int) -> float | None:
        """How far a fault has gone at `at`; None when it has none or it was repaired since its onset."""
        found: float | None = None
        for part in self.part.faults:
            if part.fault == fault and self._since(part) <= at and not self._cured(part):
                gone = min(1.0, (at - self._since(part)) / part.over)
                found = max(found or 0.0, gone * part.to)
        return found

    def _since(self, fault: FaultPart) -> int:
        return self.scenario.ms(fault.onset)

    def _cured(self, fault: FaultPart) -> bool:
        return self._repaired.get(fault.fault, -1) >= self._since(fault)

    def air(self, at: int) -> float:
        """°C outside."""
        return air_temperature(self._air_seed, self.scenario.local(at))


CURES = {
    "coolant_leak": "cooling-system",
    "battery_ageing": "battery",
    "pump_clogging": "drain-pump",
    "dampers_worn": "dampers",
}
"""Fault → the service that mends it."""


@lru_cache(maxsize=8192)
def _profile(seed: str, seconds: float, route: str, briskness: float) -> Profile:
    """A drawn trip; kept, because a unit is played twice where its states have marks."""
    return drive(random.Random(seed), seconds, route, briskness)


# --- cars ------------------------------------------------------------------------------------------


class CarUnit(Unit):
    """A car and the habits of who drives it."""

    kind = "car"

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        spread = random.Random(f"{seed}/{part.id}/unit").lognormvariate(0, 0.08)
        model = car.MODELS[part.model]
        self.car = car.Car(model=model, wear_spread=part.wear * spread, fuel=0.7 * model.tank)
        self.car.now = scenario.history_start / 1000
        super().__init__(scenario, part, seed)

    def _drawn(self, day: date, rng: random.Random) -> Iterator[Use]:
        for trip in self.part.trips:
            habit, happens = rng.gauss(0, 1), rng.random() < trip.chance
            longer = rng.uniform(0.96, 1.08)
            if trip.on == day or (WEEKDAYS[day.weekday()] in trip.days and happens):
                yield self._trip(trip, day, habit if trip.on is None else 0.0, longer)

    def _trip(self, trip: TripPart, day: date, habit: float, longer: float) -> Use:
        leave = self.scenario.ms(datetime.combine(day, trip.leave))
        lasts = self.scenario.ms(datetime.combine(day, trip.arrive)) - leave
        if trip.spread:
            leave += round(habit * trip.spread / 1000) * 1000
            lasts = round(lasts * longer / 1000) * 1000
        return Use(
            start=leave, end=leave + lasts, what=trip.route, every=trip.every, fixed=trip.on is not None
        )

    def _use(self, use: Use) -> Iterator[Step]:
        seconds = (use.end - use.start) / 1000
        profile = _profile(f"{self._seed}/trip/{use.start}", seconds, use.what, self.part.briskness)
        yield use.start, partial(self._depart, use, profile)
        if use.end > self.scenario.start:
            for at in range(use.start + use.every, use.end, use.every):
                yield at, partial(self._under_way, at)
        yield use.end, partial(self._arrive, use)

    def _to(self, at: int) -> None:
        """Let the time pass, in pieces where the air changes much."""
        self._suffer(at)
        self.car.advance(at / 1000, self.air(at))

    def _suffer(self, at: int) -> None:
        self.car.leaked = self.course("coolant_leak", at) or 0.0
        self.car.battery_health = 1.0 - (self.course("battery_ageing", at) or 0.0)
        self.car.codes = tuple(self._codes(at))

    def _codes(self, at: int) -> Iterator[str]:
        for fault in self.part.faults:
            since = self._since(fault)
            if fault.code is not None and since <= at < since + fault.over:
                yield fault.code

    def _stand(self, at: int) -> Said:
        self._to(at)
        return [Reading(ts=at, signals=self.car.readings(self._noise))]

    def _depart(self, use: Use, profile: Profile) -> Said:
        self._to(use.start)
        if self._with_workshop(use):
            return []
        cranking = self.car.cranking(self._noise)
        self.car.start(profile)
        if use.start < self.scenario.start:
            return []
        where = {"odometer": cranking["odometer"]}
        return [
            Event(ts=use.start, event="trip_started", data=where),
            Reading(ts=use.start, signals=cranking),
        ]

    def _under_way(self, at: int) -> Said:
        self._to(at)
        return [] if self.car.profile is None else [Reading(ts=at, signals=self.car.readings(self._noise))]

    def _arrive(self, use: Use) -> Said:
        self._to(use.end)
        if self.car.profile is None:
            return []
        lasted = self.car.stop()
        self._ended(use)
        reading = Reading(ts=use.end, signals=self.car.readings(self._noise))
        if use.end <= self.scenario.start:
            return [reading]
        data = {"odometer": reading.signals["odometer"], "seconds": round(lasted)}
        return [reading, Event(ts=use.end, event="trip_ended", data=data)]

    def repair(self, service: str, at: int) -> None:
        super().repair(service, at)
        self.car.repair(service)

    def begin_with(self, values: Mapping[str, float]) -> None:
        for state, value in values.items():
            setattr(self.car, _CAR_STATES[state], value)

    def value(self, state: str, at: int) -> float:
        self._to(at)
        return float(getattr(self.car, _CAR_STATES[state]))


_CAR_STATES = {
    "odometer": "odometer",
    "pad_wear_front": "pad_front",
    "pad_wear_rear": "pad_rear",
    "oil_wear": "oil",
}


# --- washing machines ------------------------------------------------------------------------------


class WasherUnit(Unit):
    """A washing machine and the household's habits."""

    kind = "washing_machine"

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        self._descaled_before: list[int] = []
        self._running: Use | None = None
        self.begun: list[int] = []
        """when its washes began, ms"""
        self.machine = washing_machine.WashingMachine(
            model=washing_machine.MODELS[part.model], hardness=part.hardness
        )
        super().__init__(scenario, part, seed)

    def _drawn(self, day: date, rng: random.Random) -> Iterator[Use]:
        for wash in self.part.washes:
            habit = rng.gauss(0, 1) if wash.on is None else 0.0
            if wash.on == day or WEEKDAYS[day.weekday()] in wash.days:
                yield self._wash(wash, day, habit)

    def _wash(self, wash: WashPart, day: date, habit: float) -> Use:
        start = self.scenario.ms(datetime.combine(day, wash.at)) + round(habit * wash.spread / 1000) * 1000
        return self.use(wash.program, start, fixed=wash.on is not None)

    def use(self, program: str, start: int, *, fixed: bool = True) -> Use:
        """A run of a program from `start` on."""
        minutes = washing_machine.PROGRAMS[program].minutes
        return Use(start=start, end=start + minutes * 60_000, what=program, fixed=fixed)

    def _use(self, use: Use) -> Iterator[Step]:
        yield use.start, partial(self._begin, use)
        if use.end > self.scenario.start:
            yield use.start + (use.end - use.start) // 4, partial(self._heat, use)
        yield use.end, partial(self._finish, use)

    def _suffer(self, at: int) -> None:
        clogged = self.course("pump_clogging", at)
        if clogged is not None:
            self.machine.clogging = max(self.machine.clogging, min(0.95, clogged))
        self.machine.dampers = max(1.0, self.course("dampers_worn", at) or 1.0)

    def _stand(self, at: int) -> Said:
        return [Reading(ts=at, signals=self.machine.state())]

    def descale(self, at: int) -> None:
        """Let it run its descaling program from `at` on, as its owner chose to."""
        self._unplanned = sorted([*self._unplanned, *self._use(self.use("descale", at))], key=lambda s: s[0])

    def _begin(self, use: Use) -> Said:
        if (
            self._running is not None
        ):  # it is washing: a load waits for another day, descaling until it is done
            if use.what == "descale":
                self.descale(self._running.end + 600_000)
            return []
        if self._with_workshop(use):
            return []
        self._running = use
        self._suffer(use.start)
        self._was_descaled(use.start)
        self.machine.begin(use.what, self._noise)
        self.begun.append(use.start)
        if use.start < self.scenario.start:
            return []
        return [
            Event(ts=use.start, event="program_started", data={"program": use.what}),
            Reading(ts=use.start, signals=self.machine.state()),
        ]

    def _was_descaled(self, at: int) -> None:
        while self._descaled_before and at >= self._descaled_before[0]:
            self._descaled_before.pop(0)
            self.machine.repair("descale")

    def _heat(self, use: Use) -> Said:
        if self._running is not use:
            return []
        at = use.start + (use.end - use.start) // 4
        return [Reading(ts=at, signals=self.machine.heating(self._noise))]

    def _finish(self, use: Use) -> Said:
        """The last spin, a minute before the end, and the counters at the end."""
        if self._running is not use:
            return []
        self._running = None
        self._suffer(use.end)
        spin = Reading(ts=use.end - 60_000, signals=self.machine.spinning(self._noise))
        self.machine.finish()
        self._ended(use)
        done = Reading(ts=use.end, signals=self.machine.state())
        if use.end <= self.scenario.start:
            return [spin, done]
        return [spin, done, Event(ts=use.end, event="program_ended", data={"program": use.what})]

    def begin_with(self, values: Mapping[str, float]) -> None:
        self.machine.washes = int(values.get("wash_cycles", 0))
        self.machine.washes_since_descale = int(values.get("washes_since_descale", 0))

    def descaled_before(self, starts: Sequence[int]) -> None:
        """Its owner descaled it before the washes that begin then (ms, in order)."""
        self._descaled_before = list(starts)

    def value(self, state: str, at: int) -> float:
        values = {
            "wash_cycles": self.machine.washes,
            "washes_since_descale": self.machine.washes_since_descale,
        }
        return float(values[state])

    def repair(self, service: str, at: int) -> None:
        super().repair(service, at)
        self.machine.repair(service)


KINDS: dict[str, type[Unit]] = {"car": CarUnit, "washing_machine": WasherUnit}


def solved(scenario: Scenario, part: DevicePart, seed: int) -> Unit:
    """A unit whose states pass through their marks: a first one runs from nothing and shows what use adds
    until then, the second begins with the difference. Raises ScenarioError where use alone adds more."""
    make = partial(KINDS[part.kind], scenario, part, seed)
    probe, unit = make(), make()
    probe.begin_with(dict.fromkeys(part.marks, 0.0))
    starts: dict[str, float] = {}
    for state, mark in sorted(part.marks.items(), key=lambda item: item[1].at):
        at = scenario.ms(mark.at)
        while probe.next_at() <= at:
            probe.skip()
        starts[state] = mark.value - probe.value(state, at)
        if state == "washes_since_descale" and starts[state] < 0:
            _descaled_in_time(unit, probe, round(mark.value))
            starts[state] = 0.0
        elif starts[state] < 0:
            added = mark.value - starts[state]
            said = f"use since the history began adds {added:.1f}: too much for {mark.value:g}"
            raise ScenarioError(scenario.name, [f"{part.id}.marks.{state}: {said}"])
    unit.begin_with(starts)
    return unit


def _descaled_in_time(unit: Unit, probe: Unit, washes: int) -> None:
    """Let it have been descaled just before the last `washes` of those that the probe ended, and before that
    as often as a careful household does it."""
    assert isinstance(unit, WasherUnit)
    assert isinstance(probe, WasherUnit)
    ended = probe.begun[: probe.machine.washes]
    first = len(ended) - washes
    starts = [ended[n] if n < len(ended) else ended[-1] + 1 for n in range(first, 0, -CAREFUL_WASHES)]
    unit.descaled_before(starts[::-1])


class Fleet:
    """All units of a scenario. Build it, take its history, then play it."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.units = {part.id: solved(scenario, part, seed) for part in scenario.part.devices}
        self._past = [(unit, unit.history()) for unit in self.units.values()]
        self._order = {name: number for number, name in enumerate(self.units)}
        self._agenda: list[tuple[int, int, str, str]] = []
        """(ms, order, device, what): what the network does"""
        for unit in self.units.values():
            self._network(unit)
        heapq.heapify(self._agenda)

    def history(self) -> Iterator[Message]:
        """What the devices reported before the start: a message for each device and day, by day."""
        rows = [
            (self.scenario.local(reading.ts).date(), self._order[unit.id], reading.ts, unit, reading)
            for unit, readings in self._past
            for reading in readings
        ]
        rows.sort(key=lambda row: row[:3])
        for (_, _, unit), group in groupby(rows, key=lambda row: (row[0], row[1], row[3])):
            items = [{"ts": row[4].ts, "signals": row[4].signals} for row in group]
            yield Message(unit.id, f"{PREFIX}/{unit.id}/telemetry", payload(items))

    def next_at(self) -> int:
        """ms of the next thing that a device or the network does."""
        first = min(unit.next_at() for unit in self.units.values())
        return min(first, self._agenda[0][0]) if self._agenda else first

    def play(self) -> list[Message]:
        """Let it happen; gives what is published."""
        at = self.next_at()
        if self._agenda and self._agenda[0][0] == at:
            _, _, device, what = heapq.heappop(self._agenda)
            unit = self.units[device]
            return [unit.status(what), *(unit.late() if what == "online" else [])]
        return next(unit for unit in self.units.values() if unit.next_at() == at).play()

    def away(self, device: str, start: int, end: int) -> None:
        """A device has an appointment (ms)."""
        if device in self.units:
            self.units[device].away(start, end)

    def repair(self, device: str, service: str, at: int) -> None:
        """A workshop did a service on a device."""
        if device in self.units:
            self.units[device].repair(service, at)

    def _network(self, unit: Unit) -> None:
        order = self._order[unit.id]
        self._agenda.append((self.scenario.start, order, unit.id, "online"))
        for begin, end, _ in unit.gaps():
            if begin + KEEPALIVE_MS < end:
                self._agenda.append((begin + KEEPALIVE_MS, order, unit.id, "offline"))
            self._agenda.append((end, order, unit.id, "online"))
