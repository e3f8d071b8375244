"""Appliances, and the households that use them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from functools import partial

from device_sim.needs import Meter
from device_sim.physics import coffee_machine, dishwasher, heat_pump, refrigerator, washing_machine
from device_sim.scenario import WEEKDAYS, DevicePart, RunPart, Scenario, WashPart
from device_sim.unit import Step, Unit, Use, put
from device_sim.wire import Event, Reading, Said

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
        for begins, act in self._use(self.use("descale", at)):
            self.later(begins, act)

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


# --- washing machines that report fully -------------------------------------------------------------

HOT_EVERY = 40
"""Washes after which a household of today runs a hot one, if its habits have none."""


class FullWasherUnit(WasherUnit):
    """A washing machine of today: everything that the shipped rules ask for, and its needs."""

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        super().__init__(scenario, part, seed)
        rng = random.Random(f"{seed}/{part.id}/unit")
        self.machine.spread = rng.lognormvariate(0, 0.06)
        for state, value in part.begins.items():
            name = _WASHER_STATES.get(state, state)
            setattr(self.machine, name, type(getattr(self.machine, name))(value))
        self._meters = [
            Meter(what="descaling", services=("descale",), begin=36, limit=52, cause="upkeep"),
            Meter(what="pump_filter", services=("clean-filter",), begin=72, limit=100, cause="upkeep"),
            Meter(what="door_seal", services=("door-seal",), begin=80, limit=100),
        ]
        uses = {run.program for run in part.runs} | {wash.program for wash in part.washes}
        if "eco_40_60" not in uses and self.machine.washes < 5:
            self.needs.begin("eco_never_used", "state", ("eco-program",), scenario.start)
        if "cotton_60" not in uses:
            self.needs.begin("never_hot", "state", ("hot-wash",), scenario.start)

    def _drawn(self, day: date, rng: random.Random) -> Iterator[Use]:
        if not _at_home(self.scenario, self.part, day):
            return
        yield from super()._drawn(day, rng)
        for run in self.part.runs:
            habit, happens = rng.gauss(0, 1), rng.random() < run.chance
            if run.on == day or (WEEKDAYS[day.weekday()] in run.days and happens):
                start = (
                    self.scenario.ms(datetime.combine(day, run.at)) + round(habit * run.spread / 1000) * 1000
                )
                yield self.use(run.program, start, fixed=run.on is not None)

    def _suffer(self, at: int) -> None:
        gone = self.courses(at)
        machine = self.machine
        if "pump_clogging" in gone:
            machine.clogging = max(machine.clogging, min(0.95, gone["pump_clogging"]))
        machine.dampers = 1.0 + 2.8 * gone.get("dampers_worn", 0.0)
        machine.scaled = gone.get("heater_scaled", 0.0)
        machine.bearing = gone.get("bearing_worn", 0.0)
        machine.stiff = gone.get("pump_stiff", 0.0)
        machine.strainer = gone.get("inlet_strainer", 0.0)
        machine.leaking = "water_leak" in gone

    def _begin(self, use: Use) -> Said:
        said = super()._begin(use)
        return [_more(item, self.news(self.machine.more_state(), use.start)) for item in said]

    def _heat(self, use: Use) -> Said:
        return [_more(item, self.machine.more_heating(self._noise)) for item in super()._heat(use)]

    def _stand(self, at: int) -> Said:
        self._suffer(at)
        return [_more(item, self.machine.more_state()) for item in super()._stand(at)]

    def _finish(self, use: Use) -> Said:
        said = super()._finish(use)
        if not said:
            return said
        machine = self.machine
        levels = {
            "descaling": machine.washes_since_descale,
            "pump_filter": machine.since_filter,
            "door_seal": machine.seal,
        }
        for meter in self._meters:
            self.level(meter, levels[meter.what], use.end)
        spin, done, *rest = said
        return [
            _more(spin, machine.more_spinning(self._noise)),
            _more(done, self.news(machine.more_state(), use.end)),
            *rest,
        ]


_WASHER_STATES = {"wash_cycles": "washes"}


def _more(item: Reading | Event, values: Mapping[str, object]) -> Reading | Event:
    """The reading with more signals; an event as it is."""
    return Reading(ts=item.ts, signals={**item.signals, **values}) if isinstance(item, Reading) else item


def _at_home(scenario: Scenario, part: DevicePart, day: date) -> bool:
    """Whether the household is there."""
    return not any(journey.leave.date() <= day <= journey.back.date() for journey in part.away)


# --- dishwashers and coffee machines ------------------------------------------------------------------


class RunUnit(Unit):
    """An appliance that is used in runs."""

    def _drawn(self, day: date, rng: random.Random) -> Iterator[Use]:
        home = _at_home(self.scenario, self.part, day)
        for number, run in enumerate(self.part.runs):
            habit, happens = rng.gauss(0, 1), rng.random() < run.chance
            if home and (run.on == day or (WEEKDAYS[day.weekday()] in run.days and happens)):
                start = (
                    self.scenario.ms(datetime.combine(day, run.at)) + round(habit * run.spread / 1000) * 1000
                )
                yield Use(
                    start=start,
                    end=start + self._lasts(run) * 60_000,
                    what=f"{number}",
                    fixed=run.on is not None,
                )

    def _lasts(self, run: RunPart) -> int:
        """min"""
        raise NotImplementedError


class DishwasherUnit(RunUnit):
    """A dishwasher and the household's habits."""

    kind = "dishwasher"

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        rng = random.Random(f"{seed}/{part.id}/unit")
        self.machine = dishwasher.Dishwasher(
            model=dishwasher.MODELS[part.model], hardness=part.hardness, spread=rng.lognormvariate(0, 0.05)
        )
        super().__init__(scenario, part, seed)
        put(self.machine, part.begins)
        self._meters = [
            Meter(what="sieve", services=("clean-dishwasher-filter",), begin=27, limit=45, cause="upkeep"),
            Meter(what="care", services=("machine-care",), begin=72, limit=100, cause="upkeep"),
            Meter(what="salt", services=("refill-salt",), begin=88, limit=100, cause="upkeep"),
            Meter(what="rinse_aid", services=("refill-rinse-aid",), begin=88, limit=100, cause="upkeep"),
        ]
        if all(run.program != "eco_50" for run in part.runs) and self.machine.runs < 5:
            self.needs.begin("eco_never_used", "state", ("eco-program",), scenario.start)

    def _lasts(self, run: RunPart) -> int:
        return dishwasher.PROGRAMS[run.program].minutes

    def _use(self, use: Use) -> Iterator[Step]:
        yield use.start, partial(self._begin, use)
        yield use.start + (use.end - use.start) // 3, partial(self._washing, use)
        yield use.end, partial(self._finish, use)

    def _suffer(self, at: int) -> None:
        gone, machine = self.courses(at), self.machine
        machine.scale = gone.get("dish_heater", 0.0)
        machine.arm_stuck = gone.get("spray_arm", 0.0)
        machine.pump_stiff = gone.get("pump_stiff", 0.0)
        machine.drain_blocked = gone.get("drain_blocked", 0.0)
        machine.leaking = "water_leak" in gone

    def _stand(self, at: int) -> Said:
        self._suffer(at)
        return [Reading(ts=at, signals=self.machine.state())]

    def _begin(self, use: Use) -> Said:
        if self._with_workshop(use):
            return []
        self._suffer(use.start)
        self.machine.program = self.part.runs[int(use.what)].program
        data = {"program": self.machine.program}
        return (
            [Event(ts=use.start, event="program_started", data=data)]
            if use.start > self.scenario.start
            else []
        )

    def _washing(self, use: Use) -> Said:
        at = use.start + (use.end - use.start) // 3
        return [Reading(ts=at, signals=self.machine.washing(self._noise))] if self.machine.program else []

    def _finish(self, use: Use) -> Said:
        machine = self.machine
        if machine.program is None:
            return []
        drained = machine.drained(self._noise)
        data = {"program": machine.program}
        machine.finish()
        levels = {
            "sieve": machine.since_filter,
            "care": machine.since_care,
            "salt": 100 * (1 - machine.salt),
            "rinse_aid": 100 * (1 - machine.rinse_aid),
        }
        for meter in self._meters:
            self.level(meter, levels[meter.what], use.end)
        done = Reading(ts=use.end, signals={**self.news(machine.state(), use.end), **drained})
        if use.end <= self.scenario.start:
            return [done]
        return [done, Event(ts=use.end, event="program_ended", data=data)]

    def repair(self, service: str, at: int) -> None:
        super().repair(service, at)
        self.machine.repair(service)


class CoffeeUnit(RunUnit):
    """A coffee machine and who drinks from it."""

    kind = "coffee_machine"

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        rng = random.Random(f"{seed}/{part.id}/unit")
        self.machine = coffee_machine.CoffeeMachine(
            model=coffee_machine.MODELS[part.model],
            hardness=part.hardness,
            spread=rng.lognormvariate(0, 0.05),
        )
        self._tidy = rng.random()
        """how surely its owner empties and rinses what is full"""
        self._hours = 0.5 + 2.5 * rng.random() ** 3
        """how long it stays ready after a coffee"""
        self._warm: date | None = None
        super().__init__(scenario, part, seed)
        put(self.machine, part.begins)
        degrees = max(1.0, self.machine.hardness)
        self._meters = [
            Meter(
                what="lime", services=("descale",), begin=500 / degrees, limit=750 / degrees, cause="upkeep"
            ),
            Meter(what="filter_age", services=("water-filter",), begin=48, limit=62, cause="upkeep"),
            Meter(what="filter_water", services=("water-filter",), begin=40, limit=52, cause="upkeep"),
            Meter(what="brew_unit", services=("clean-brew-unit",), begin=180, limit=280, cause="upkeep"),
            Meter(what="overhaul", services=("overhaul",), begin=9_700, limit=12_000),
        ]
        if self.machine.model.milk and self.machine.cups < 10 and all(r.program != "milk" for r in part.runs):
            self.needs.begin("milk_never_used", "state", ("milk-drinks",), scenario.start)
        if self._hours > 2.2:
            self.needs.begin("left_on", "state", ("switch-off-time",), scenario.start)

    def _lasts(self, run: RunPart) -> int:
        return 3 + 2 * run.count

    def _use(self, use: Use) -> Iterator[Step]:
        yield use.start, partial(self._brew, use)

    def _suffer(self, at: int) -> None:
        gone, machine = self.courses(at), self.machine
        machine.seal_worn = gone.get("brew_seal", 0.0)
        machine.dull = gone.get("grinder_dull", 0.0)
        machine.jams = gone.get("grinder_jams", 0.0)
        machine.scaled = gone.get("boiler_scaled", 0.0)
        machine.drifting = gone.get("thermostat_drifts", 0.0)

    def _brew(self, use: Use) -> Said:
        if self._with_workshop(use):
            return []
        run, at, machine = self.part.runs[int(use.what)], use.start, self.machine
        self._suffer(at)
        said: list[Reading | Event] = []
        day = self.scenario.local(at).date()
        if self._warm != day:
            self._warm = day
            machine.filter_age += 1
            ready = min(24.0, self._hours * len(self.part.runs) + 0.2)
            warm = machine.warmed_up(self._noise) | {"ready_time": round(ready, 1)}
            said.append(Reading(ts=at, signals=warm))
        for _ in range(run.count):
            machine.brew(run.program == "milk")
        self._tidied()
        levels = {
            "lime": machine.water_since_descale,
            "filter_age": machine.filter_age,
            "filter_water": machine.water_since_filter,
            "brew_unit": machine.since_clean,
            "overhaul": machine.cups,
        }
        for meter in self._meters:
            self.level(meter, levels[meter.what], use.end)
        said.append(
            Reading(ts=use.end, signals=machine.brewing(self._noise) | self.news(machine.state(), use.end))
        )
        return said

    def _tidied(self) -> None:
        if self.machine.tray >= 1 and self._noise.random() < 0.5 + 0.5 * self._tidy:
            self.machine.tray = 0.0
        if self._noise.random() < 0.7 + 0.3 * self._tidy:
            self.machine.since_rinse = 0

    def _stand(self, at: int) -> Said:
        self._suffer(at)
        full, milk = self.machine.tray >= 1, self.machine.since_rinse > 0
        self.needs.state("tray", ("empty-drip-tray",), at, true=full)
        self.needs.state("milk", ("rinse-milk",), at, true=milk)
        return [Reading(ts=at, signals=self.machine.state() | {"state": "off"})]

    def repair(self, service: str, at: int) -> None:
        super().repair(service, at)
        self.machine.repair(service)
        if service == "overhaul":
            self.machine.cups = 0
        elif service == "switch-off-time":
            self._hours = 1.0
            self.needs.end("left_on", at)


# --- those that are always on -------------------------------------------------------------------------


class FridgeUnit(Unit):
    """A fridge-freezer and who opens it."""

    kind = "refrigerator"

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        rng = random.Random(f"{seed}/{part.id}/unit")
        self.fridge = refrigerator.Refrigerator(
            model=refrigerator.MODELS[part.model], spread=rng.lognormvariate(0, 0.06)
        )
        self.fridge.setpoint = rng.choices((3.0, 4.0, 5.0, 6.0, 7.0), (0.06, 0.2, 0.4, 0.2, 0.14))[0]
        self.fridge.fridge = self.fridge.setpoint
        self.fridge.filter_age = rng.uniform(0, 160)
        self._room, self._mean = rng.gauss(20.5, 1.2), 0.0
        self._last = scenario.start
        super().__init__(scenario, part, seed)
        self._meter = Meter(what="filter", services=("water-filter",), begin=155, limit=185, cause="upkeep")
        if self.fridge.setpoint <= 3:
            self.needs.begin("set_too_cold", "state", ("fridge-temperature",), scenario.start)

    def _drawn(self, day: date, rng: random.Random) -> Iterator[Use]:
        if not _at_home(self.scenario, self.part, day):
            self.needs.state("unopened", ("holiday-mode",), self._last, true=True)
            return
        morning = self.scenario.ms(datetime.combine(day, time(7))) + round(rng.gauss(0, 900)) * 1000
        evening = self.scenario.ms(datetime.combine(day, time(18, 40))) + round(rng.gauss(0, 1800)) * 1000
        seconds = (round(rng.uniform(15, 50)), round(rng.uniform(20, 80)))
        ajar = rng.random() < 0.0025
        if ajar:
            seconds = (seconds[0], round(rng.uniform(900, 7200)))
        for start, lasts in zip((morning, evening), seconds, strict=True):
            yield Use(start=start, end=start + lasts * 1000, what="door", fixed=True)

    def _use(self, use: Use) -> Iterator[Step]:
        if use.start > self.scenario.start:
            yield use.start, partial(self._door, use.start, True)
            if use.end - use.start > 600_000:
                yield use.start + 240_000, partial(self._ajar, use.start + 240_000)
            yield use.end, partial(self._door, use.end, False)

    def _ajar(self, at: int) -> Said:
        self.needs.begin("door", "state", ("close-door",), at)
        return ()

    def _door(self, at: int, opened: bool) -> Said:
        self.needs.end("unopened", at)
        if not opened:
            self.needs.end("door", at)
        self.fridge.filter_water += 0.4
        return [Reading(ts=at, signals={"door_open": opened})]

    def _kitchen(self, at: int) -> float:
        """°C of the kitchen: follows the outside a little, more when it is hot there."""
        outside = self.air(at)
        return self._room + 0.05 * (outside - 10) + 0.35 * max(0.0, outside - 22)

    def _stand(self, at: int) -> Said:
        gone, fridge = self.courses(at), self.fridge
        fridge.refrigerant_lost = gone.get("refrigerant_loss", 0.0)
        fridge.dust = gone.get("condenser_dust", 0.0)
        fridge.defrost_fault = gone.get("defrost_heater", 0.0)
        room = self._kitchen(at)
        fridge.advance((at - self._last) / 1000, room)
        self._last = at
        self.level(self._meter, fridge.filter_age, at)
        values = fridge.readings(self._noise, room)
        if "freezer_sensor" in gone:
            del values["freezer_temperature"]
        slow = {name: values.pop(name) for name in _FRIDGE_SLOW}
        said = [Reading(ts=at, signals=values | self.news(slow, at))]
        if self._noise.random() < (self.part.idle / 86_400_000) * (1.0 + 5 * fridge.defrost_fault):
            said += [
                Reading(ts=at + 1_000, signals={"defrosting": True}),
                Reading(ts=at + 1_300_000, signals={"defrosting": False}),
            ]
        return said

    def repair(self, service: str, at: int) -> None:
        super().repair(service, at)
        self.fridge.repair(service)
        if service == "fridge-temperature":
            self.fridge.setpoint = 5.0
            self.needs.end("set_too_cold", at)


_FRIDGE_SLOW = (
    "switched_on", "holiday_mode", "fridge_setpoint", "freezer_setpoint", "days_since_filter",
    "water_since_filter", "fault_codes", "fan_speed", "evaporator_temperature",
)  # fmt: skip


class HeatPumpUnit(Unit):
    """A heat pump and its house."""

    kind = "heat_pump"

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        rng = random.Random(f"{seed}/{part.id}/unit")
        self.pump = heat_pump.HeatPump(
            model=heat_pump.MODELS[part.model],
            spread=rng.lognormvariate(0, 0.05),
            loss=rng.uniform(0.14, 0.24),
        )
        self.pump.curve = rng.gauss(0.55, 0.07)
        self.pump.inspected, self.pump.pressure = rng.uniform(0, 300), rng.uniform(1.5, 1.9)
        self.pump.hours, self.pump.starts = rng.uniform(500, 9_000), rng.uniform(800, 20_000)
        self._last = scenario.start
        super().__init__(scenario, part, seed)
        self._meters = [
            Meter(what="inspection", services=("heat-pump-inspection",), begin=325, limit=366),
            Meter(
                what="pressure",
                services=("refill-heating-water", "heating-leak"),
                begin=55,
                limit=130,
                cause="upkeep",
            ),
        ]

    def _drawn(self, day: date, rng: random.Random) -> Iterator[Use]:
        yield from ()

    def _use(self, use: Use) -> Iterator[Step]:
        yield from ()

    def _stand(self, at: int) -> Said:
        gone, pump = self.courses(at), self.pump
        pump.refrigerant_lost = gone.get("refrigerant_leak", 0.0)
        pump.evaporator_dirty = gone.get("evaporator_dirty", 0.0)
        pump.strainer = gone.get("strainer_clogged", 0.0)
        pump.leak = gone.get("heating_leak", 0.0)
        pump.brine_lost = gone.get("brine_leak", 0.0)
        pump.switch = gone.get("pressure_switch", 0.0)
        pump.advance((at - self._last) / 1000, self.air(at))
        self._last = at
        self.level(self._meters[0], pump.inspected, at)
        self.level(self._meters[1], 100 * (1.7 - pump.pressure), at)
        local = self.scenario.local(at)
        night = local.weekday() == 6 and local.hour * 3_600_000 < self.part.idle + 7_200_000
        values = pump.readings(self._noise, legionella=night)
        slow = {name: values.pop(name) for name in _PUMP_SLOW}
        return [Reading(ts=at, signals=values | self.news(slow, at))]

    def repair(self, service: str, at: int) -> None:
        super().repair(service, at)
        self.pump.repair(service)


_PUMP_SLOW = (
    "hot_water_setpoint", "days_since_inspection", "backup_heater_on", "defrosting", "fault_codes",
    "compressor_hours",
)  # fmt: skip
