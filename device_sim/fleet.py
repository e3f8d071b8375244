"""The devices of a scenario, all together: their past, and then one step after the other."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from functools import partial
from itertools import groupby

from device_sim.appliances import (
    CoffeeUnit,
    DishwasherUnit,
    FridgeUnit,
    FullWasherUnit,
    HeatPumpUnit,
    WasherUnit,
)
from device_sim.cars import CarUnit, FullCarUnit
from device_sim.scenario import DevicePart, Scenario, ScenarioError
from device_sim.unit import KEEPALIVE_MS, Unit
from device_sim.wire import PREFIX, Event, Message, Reading, payload

__all__ = ["PREFIX", "Event", "Fleet", "Message", "Reading", "WasherUnit", "payload"]

CAREFUL_WASHES = 35
"""After how many washes machines of the past were descaled: before any rule asks for it."""

KINDS: dict[str, type[Unit]] = {
    "car": CarUnit,
    "washing_machine": WasherUnit,
    "dishwasher": DishwasherUnit,
    "coffee_machine": CoffeeUnit,
    "refrigerator": FridgeUnit,
    "heat_pump": HeatPumpUnit,
}
FULL: dict[str, type[Unit]] = KINDS | {"car": FullCarUnit, "washing_machine": FullWasherUnit}


def solved(scenario: Scenario, part: DevicePart, seed: int) -> Unit:
    """A unit whose states pass through their marks: a first one runs from nothing and shows what use adds
    until then, the second begins with the difference. Raises ScenarioError where use alone adds more."""
    make = partial((FULL if part.reports == "full" else KINDS)[part.kind], scenario, part, seed)
    if not part.marks:
        return make()
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
        self._listed = list(self.units.values())
        self._heap = [(unit.next_at(), order) for order, unit in enumerate(self._listed)]
        heapq.heapify(self._heap)
        self._entries = [1] * len(self._heap)
        for unit in self._listed:
            unit.woke = self.woken

    def history(self) -> Iterator[Message]:
        """What the devices reported before the start: a message for each device and day, by day."""
        rows = [
            (self.scenario.local(reading.ts).date(), self._order[unit.id], reading.ts, unit, reading)
            for unit, readings in self._past
            for reading in readings
        ]
        rows.sort(key=lambda row: row[:3])
        for (_, _, unit), group in groupby(rows, key=lambda row: (row[0], row[1], row[3])):
            if unit.part.format != "native":
                yield from unit.written(row[4] for row in group)
                continue
            items = [{"ts": row[4].ts, "signals": row[4].signals} for row in group]
            yield Message(unit.id, f"{PREFIX}/{unit.id}/telemetry", payload(items))

    def next_at(self) -> int:
        """ms of the next thing that a device or the network does."""
        first = self._first()
        return min(first, self._agenda[0][0]) if self._agenda else first

    def _first(self) -> int:
        """ms of the next step of a device. Who gave a unit something to do has not told the heap: units only
        ever come to act earlier than it says, and are put in anew then (`woken`)."""
        heap, listed = self._heap, self._listed
        while True:
            at, order = heap[0]
            due = listed[order].next_at()
            if due == at:
                return at
            self._put_back(due, order)

    def _put_back(self, due: int, order: int) -> None:
        """The first entry of the heap anew; one for each unit is enough."""
        if self._entries[order] > 1:
            self._entries[order] -= 1
            heapq.heappop(self._heap)
        else:
            heapq.heapreplace(self._heap, (due, order))

    def woken(self, unit: Unit) -> None:
        """A unit was given something to do."""
        order = self._order[unit.id]
        self._entries[order] += 1
        heapq.heappush(self._heap, (unit.next_at(), order))

    def play(self) -> list[Message]:
        """Let it happen; gives what is published."""
        first = self._first()
        if self._agenda and self._agenda[0][0] <= first:
            at, _, device, what = heapq.heappop(self._agenda)
            unit = self.units[device]
            return [unit.status(what, at), *(unit.late() if what == "online" else [])]
        order = self._heap[0][1]
        unit = self._listed[order]
        said = unit.play()
        # Even where it stands in the heap twice: the other entry may be later than what it does next.
        heapq.heapreplace(self._heap, (unit.next_at(), order))
        return said

    def away(self, device: str, start: int, end: int) -> None:
        """A device has an appointment (ms)."""
        if device in self.units:
            self.units[device].away(start, end)

    def repair(self, device: str, service: str, at: int) -> None:
        """A workshop did a service on a device."""
        if device in self.units:
            self.units[device].repair(service, at)

    def cut(self, device: str, begin: int, end: int) -> None:
        """A device loses its network from begin to end (ms): its broker says so, and it catches up after."""
        self.units[device].cut(begin, end)
        for entry in self._without_network(self.units[device], begin, end):
            heapq.heappush(self._agenda, entry)

    def _network(self, unit: Unit) -> None:
        self._agenda.append((self.scenario.start, self._order[unit.id], unit.id, "online"))
        for begin, end, _ in unit.gaps():
            self._agenda += self._without_network(unit, begin, end)

    def _without_network(self, unit: Unit, begin: int, end: int) -> Iterator[tuple[int, int, str, str]]:
        order = self._order[unit.id]
        if begin + KEEPALIVE_MS < end:
            yield begin + KEEPALIVE_MS, order, unit.id, "offline"
        yield end, order, unit.id, "online"
