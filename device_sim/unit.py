"""A unit: one device of a scenario, who uses it when, what it then sends, and what it really needs.

A unit is one device: a generator of steps in order of time (a trip begins, a reading is due, the network is
back), each of which moves its physics on and gives what it says. Plans are drawn per day and per trip from
seeds made of the scenario's seed, the device and the time, so that nothing depends on what others do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import TypeAlias

from device_sim.faults import DAY_MS, FAULTS, progress
from device_sim.formats import encoder
from device_sim.needs import Meter, Needs
from device_sim.network import Network
from device_sim.physics.places import PLACES
from device_sim.physics.weather import air_temperature
from device_sim.scenario import DevicePart, FaultPart, Scenario
from device_sim.wire import PREFIX, Event, Message, Reading, Said, payload

KEEPALIVE_MS = 90_000
"""How long after a connection broke the broker publishes the will: one and a half keep-alives of 60 s."""

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


def put(thing: object, states: Mapping[str, float]) -> None:
    """Set states of a thing, each as the type that it has."""
    for name, value in states.items():
        setattr(thing, name, type(getattr(thing, name))(value))


class Unit:
    """One device. Subclasses say how it is used and what it then reports."""

    kind = ""

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        self.scenario, self.part, self.id = scenario, part, part.id
        self._seed = f"{seed}/{part.id}"
        self._air_seed = f"{seed}/{scenario.name}"
        self._noise = random.Random(f"{self._seed}/sensors")
        self._air = -1, 0.0
        self._told: dict[str, tuple[object, int]] = {}
        self._repaired: dict[str, int] = {}
        self._appointments: list[tuple[int, int]] = []
        self._seq = 0
        self._held: list[Reading | Event] = []
        self._gaps = sorted((scenario.ms(gap.begin), scenario.ms(gap.end), gap.lost) for gap in part.gaps)
        self._orderly = all(gap.in_order for gap in part.gaps)
        self._network = Network(scenario, part, seed)
        self._encoder = encoder(part.format, part.id)
        self._telemetry = f"{PREFIX}/{part.id}/telemetry"
        self.spoken = False
        """whether messages carry the reading itself, not its bytes: for who would only decode them again"""
        self.place = PLACES[part.place]
        self.full = part.reports == "full"
        self.needs = Needs(device=part.id)
        self._faults = [(fault, scenario.ms(fault.onset)) for fault in part.faults]
        self.used: Callable[[int], None] | None = None
        """told (ms) when a trip or a wash has ended: that is when people look at its display"""
        self.woke: Callable[[Unit], None] | None = None
        """told when somebody gave it something to do"""
        self._steps = self._plan()
        self._unplanned: list[Step] = []
        self._next: Step = next(self._steps)
        for fault, since in self._faults:
            self._expect(fault, since)

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
            if said and not self._gap(at):
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
        for fault, since in self._faults:
            if service in FAULTS[fault.fault].services and since <= at:
                self._repaired[fault.fault] = at
                self.needs.end(fault.fault, at)
        for need in self.needs.open():
            if service in need.services and need.cause in ("wear", "upkeep"):
                self.needs.end(need.what, at)

    def care(self, service: str, at: int) -> None:
        """Its owner does a job themselves at `at` (ms)."""
        self.later(at, lambda: self._cared(service, at))

    def _cared(self, service: str, at: int) -> Said:
        self.repair(service, at)
        return ()

    def later(self, at: int, act: Callable[[], Said]) -> None:
        """Let something happen at `at` (ms) besides the plan."""
        self._unplanned.append((at, act))
        self._unplanned.sort(key=lambda step: step[0])
        if self.woke is not None and self._unplanned[0][0] == at:
            self.woke(self)

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

    def report(self, at: int) -> Said:
        """What it says of itself at `at`, besides its plan."""
        return self._stand(at)

    # --- network

    def cut(self, begin: int, end: int) -> None:
        """Take it off the network from begin to end (ms); what it has to say meanwhile it keeps."""
        self._gaps = sorted([*self._gaps, (begin, end, False)])

    def _gap(self, at: int) -> tuple[int, int, bool] | None:
        return next((gap for gap in self._gaps if gap[0] <= at < gap[1]), None)

    def _sent(self, at: int, said: Said) -> list[Message]:
        if not said:
            return []
        gap = self._gap(at)
        if gap is None:
            return self._network.sent(at, [self._message(item) for item in said])
        if not gap[2]:
            self._held += said
        return []

    def _message(self, item: Reading | Event) -> Message:
        item = self._network.spoilt(item)
        if isinstance(item, Event):
            body = {"ts": item.ts, "event": item.event, "data": item.data}
            return Message(self.id, f"{PREFIX}/{self.id}/event", payload(body))
        self._seq += 1
        if self.spoken:
            return Message(self.id, self._telemetry, item)  # type: ignore[arg-type]  # see `spoken`
        return Message(self.id, *self._encoder(item, self._seq))

    def written(self, readings: Iterable[Reading]) -> list[Message]:
        """Readings of before the start, as it writes them."""
        return [self._message(reading) for reading in readings]

    def status(self, text: str, at: int) -> Message:
        """That it is online, or what its will says, at `at` (ms)."""
        return Message(self.id, *self._encoder.status(text, at))

    def reborn(self) -> None:
        """Somebody asked for a birth (Sparkplug)."""
        self._encoder.reborn()

    def late(self) -> list[Message]:
        """What was held back: in its order, or with some that overtook others and one that comes twice."""
        rng = random.Random(f"{self._seed}/late/{len(self._held)}")
        messages = [self._message(item) for item in self._held]
        self._held = []
        if self._orderly and self.part.gaps:
            return messages
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

    # --- faults and needs

    def course(self, fault: str, at: int) -> float | None:
        """How far a fault has gone at `at`; None when it has none or it was repaired since its onset."""
        found: float | None = None
        for part, since in self._faults:
            if part.fault == fault and since <= at and not self._cured(part, since):
                gone = progress(fault, (at - since) / part.over)
                found = max(found or 0.0, gone * part.to)
        return found

    def courses(self, at: int) -> dict[str, float]:
        """All faults it has at `at`, and how far they have gone."""
        if not self._faults:
            return {}
        gone = ((part.fault, self.course(part.fault, at)) for part, since in self._faults if since <= at)
        return {fault: share for fault, share in gone if share is not None}

    def _cured(self, fault: FaultPart, since: int) -> bool:
        return self._repaired.get(fault.fault, -1) >= since

    def _expect(self, part: FaultPart, since: int) -> None:
        """Note a fault's need at its onset, and what it comes to when nobody acts."""
        fault = FAULTS[part.fault]
        if not fault.services or not self.full:
            return
        share = None if fault.breaks is None else (fault.breaks / part.to) ** (1 / fault.curve)
        fails = None if share is None or share > 1 else since + round(part.over * share)

        def begin() -> Said:
            self.needs.begin(part.fault, "fault", (*fault.services, *fault.eases), since, fails)
            return ()

        def break_down() -> Said:
            if (need := self.needs.get(part.fault)) is not None:
                need.failed = True
                self._mended_late(fault.services[0], fails or since)
            return ()

        self.later(since, begin)
        if fails is not None:
            self.later(fails, break_down)

    def _mended_late(self, service: str, at: int) -> None:
        """It came to the worst: within days somebody sees to it by themselves."""
        rng = random.Random(f"{self._seed}/late/{service}/{at}")
        when = at + round(rng.uniform(2, 9) * DAY_MS)
        self.later(when, lambda: self._cared(service, when))

    def level(self, meter: Meter, value: float, at: int) -> None:
        """Note a level that use has raised."""
        if self.full and self.needs.level(meter, value, at) is not None:
            self._mended_late(meter.services[0], at)

    def news(self, values: Mapping[str, object], at: int) -> dict[str, object]:
        """Of what changes slowly: what has changed, and once a day the rest, as telematics units report."""
        told, new = self._told, {}
        for name, value in values.items():
            last = told.get(name)
            if last is None or last[0] != value or at - last[1] >= DAY_MS:
                told[name] = (value, at)
                new[name] = value
        return new

    def air(self, at: int) -> float:
        """°C outside."""
        if self._air[0] != at:
            self._air = at, air_temperature(self._air_seed, self.scenario.local(at), self.place)
        return self._air[1]
