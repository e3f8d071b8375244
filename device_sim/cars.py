"""Cars, and the habits of who drives them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from functools import lru_cache, partial

from device_sim.needs import Meter
from device_sim.physics import car, electric_car
from device_sim.physics.car_body import ADBLUE_M, SERVICE_DAYS, SERVICE_KM, Body
from device_sim.physics.driving import Profile, drive
from device_sim.physics.places import PLACES, around, between
from device_sim.scenario import WEEKDAYS, AwayPart, DevicePart, Scenario, TripPart
from device_sim.unit import Step, Unit, Use, put
from device_sim.wire import Event, Reading, Said


@lru_cache(maxsize=8192)
def _profile(seed: str, seconds: float, route: str, briskness: float) -> Profile:
    """A drawn trip; kept, because a unit is played twice where its states have marks."""
    return drive(random.Random(seed), seconds, route, briskness)


# --- cars ------------------------------------------------------------------------------------------


class CarUnit(Unit):
    """A car and the habits of who drives it."""

    kind = "car"

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        self._make(scenario, part, seed)
        self._parked = scenario.history_start / 1000
        """s: when it was last put down"""
        self._start_km = self._start_fuel = 0.0
        super().__init__(scenario, part, seed)

    def _make(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        spread = random.Random(f"{seed}/{part.id}/unit").lognormvariate(0, 0.08)
        model = car.MODELS[part.model]
        self.car = car.Car(model=model, wear_spread=part.wear * spread, fuel=0.7 * model.tank)
        self.car.now = scenario.history_start / 1000

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
        for fault, since in self._faults:
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


# --- cars that report fully --------------------------------------------------------------------------

VARIANTS = 12
"""So many different drives of a route and length there are: people go the same ways again and again."""
NOISE_CODES = ("C0040", "U0140", "P0455", "B1325")
"""Codes that come for one drive and mean nothing."""
ALARM_MS = 60_000
"""How often a car reports that sees something unusual on itself."""


class FullCarUnit(CarUnit):
    """A car of today, burning or electric: everything that the shipped rules ask for, and its needs."""

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        rng = random.Random(f"{seed}/{part.id}/body")
        self.electric = part.model in electric_car.MODELS
        diesel = not self.electric and car.MODELS[part.model].efficiency > 0.35
        self.body = Body(diesel=diesel, combustion=not self.electric, home_country=PLACES[part.place].country)
        self._alarmed = False
        self._position: tuple[float, float] | None = None
        self._side = rng.uniform(0, 2 * math.pi)
        self._month_litres = self._month_km = 0.0
        self._slack = rng.random()
        super().__init__(scenario, part, seed)
        self._flaws(part)
        self.begin_with(part.begins)
        self._meters = _meters(self.electric, diesel)
        self._seasons(rng)
        self._habits()
        for update in part.updates:
            self.later(scenario.ms(update.at), partial(self._updated, scenario.ms(update.at), update.version))

    def _make(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        if part.model not in electric_car.MODELS:
            super()._make(scenario, part, seed)
            return
        spread = random.Random(f"{seed}/{part.id}/unit").lognormvariate(0, 0.08)
        model = electric_car.MODELS[part.model]
        self.ev = electric_car.ElectricCar(model=model, wear_spread=part.wear * spread)
        self.ev.now = scenario.history_start / 1000
        self.car = self.ev  # type: ignore[assignment]  # what units do with a car, both can

    # --- what is wrong with it

    def _flaws(self, part: DevicePart) -> None:
        if part.recalled is not None:
            at = self.scenario.ms(part.recalled)
            self.later(at, partial(self._recalled, at))

    def _recalled(self, at: int) -> Said:
        self.body.recall = True
        self.needs.begin("recall", "fault", ("recall",), at)
        return [Reading(ts=at, signals={"recall_open": True})]

    def _updated(self, at: int, version: str) -> Said:
        return [Event(ts=at, event="update_installed", data={"version": version})]

    def _suffer(self, at: int) -> None:
        gone = self.courses(at)
        get = gone.get
        body, self._alarmed = self.body, False
        body.leaks = get("coolant_leak", 0.0)
        body.trim = get("mixture_lean", 0.0)
        body.gearbox = get("gearbox_wear", 0.0)
        body.oil_lost = get("oil_leak", 0.0)
        body.fluid_lost = get("brake_fluid_leak", 0.0)
        body.lamp = "lamp_failure" in gone
        body.weak_charging = get("alternator_weak", 0.0)
        body.sensor_dead = 2 if "tyre_sensor_dead" in gone else None
        if "tyre_leak" in gone:
            body.tyres[3] = min(body.tyres[3], 240.0 - 90.0 * gone["tyre_leak"])
        self.car.battery_health = 1.0 - get("battery_ageing", 0.0)
        if self.electric:
            self.ev.uneven, self.ev.faded = get("cells_uneven", 0.0), get("pack_fade", 0.0)
        else:
            self.car.leaked, self.car.stuck_open = body.leaks, "thermostat_stuck" in gone
            parked = at / 1000 - self._parked if self.car.profile is None else 0.0
            self.car.drained = min(1.2, 0.28 * get("idle_current", 0.0) * parked / 86_400)
            self._alarmed = body.weak_charging > 0.5 or body.leaks > 0.6
        if "filter_blocked" in gone:
            body.soot = max(body.soot, 60 + 60 * gone["filter_blocked"])
        self.car.codes = tuple(self._fault_codes(at, gone))
        body.blinking = get("misfire", 0.0) > 0.85 and self.car.profile is not None

    def _fault_codes(self, at: int, gone: Mapping[str, float]) -> Iterator[str]:
        if not gone and not self.part.faults:
            return
        misfire = gone.get("misfire", 0.0)
        if misfire > 0.45 or (
            misfire and random.Random(f"{self._seed}/misfire/{at // 3_600_000}").random() < misfire * 2
        ):
            yield "P0301"
        for fault, code, share in _CODES:
            if gone.get(fault, -1.0) >= share:
                yield code
        yield from self._codes(at)

    # --- plan

    def _drawn(self, day: date, rng: random.Random) -> Iterator[Use]:
        for number, journey in enumerate(self.part.away):
            leave, back = journey.leave.date(), journey.back.date()
            if day in (leave, back):
                start = self.scenario.ms(journey.leave if day == leave else journey.back)
                what = f"away {number} {'there' if day == leave else 'back'}"
                yield Use(
                    start=start,
                    end=start + round(journey.hours * 3_600_000),
                    what=what,
                    fixed=True,
                    every=600_000,
                )
            if leave <= day <= back:
                return
        yield from super()._drawn(day, rng)

    def _drive(self, use: Use) -> Profile:
        minutes = round((use.end - use.start) / 60_000)
        route = "motorway" if use.what.startswith("away") else use.what
        variant = random.Random(f"{self._seed}/way/{use.start}").randrange(VARIANTS)
        return _profile(f"way/{route}/{minutes}/{variant}", minutes * 60.0, route, self.part.briskness)

    def _use(self, use: Use) -> Iterator[Step]:
        profile = self._drive(use)
        end = use.start + round(profile.seconds * 1000)
        use = Use(start=use.start, end=end, what=use.what, every=use.every, fixed=use.fixed)
        yield use.start, partial(self._depart, use, profile)
        if use.end > self.scenario.start:
            at = use.start + min(use.every, (end - use.start) // 2)
            while at < use.end:
                yield at, partial(self._on_the_way, use, at)
                at += ALARM_MS if self._alarmed else use.every
        yield use.end, partial(self._arrived, use, profile)

    # --- what happens

    def _to(self, at: int) -> None:
        seconds = at / 1000 - self.car.now
        self.body.rest(seconds)
        if self.electric:
            self.ev.age(seconds / 86_400)
        super()._to(at)

    def _rest_signals(self, at: int) -> dict[str, object]:
        air = self.air(at)
        values: dict[str, object] = {
            "speed": 0.0,
            "engine_speed": 0.0,
            **self.news({"locked": True, "window_driver_open": self.body.window_open}, at),
            "outside_temperature": round(air * 2) / 2,
        }
        if self.car.profile is None and at - self._parked * 1000 > 1_800_000:
            values |= self.body.pressures(self._noise, air, rolling=False)
        if self.electric:
            return self._electric_signals(at) | values
        return values | {"battery_voltage": self.car._voltage(self._noise, running=False)}

    def _electric_signals(self, at: int) -> dict[str, object]:
        """What changes slowly only as news, but for the pads, which a drive wears."""
        values = self.ev.readings(self._noise)
        slow = {name: values.pop(name) for name in _EV_SLOW}
        return values | self.news(slow, at)

    def _stand(self, at: int) -> Said:
        self._to(at)
        self._note_states(at)
        values = self._rest_signals(at)
        if self._position is not None:
            values |= {"latitude": round(self._position[0], 4), "longitude": round(self._position[1], 4)}
        return [Reading(ts=at, signals=values)]

    def _depart(self, use: Use, profile: Profile) -> Said:
        self._to(use.start)
        if self._with_workshop(use):
            return []
        self._start_km, self._start_fuel = self.car.odometer, 0.0 if self.electric else self.car.used
        self.body.window_open = False
        if use.start < self.scenario.start:
            self.car.start(profile)
            return []
        if self.electric:
            values: dict[str, object] = self._electric_signals(at := use.start) | {"locked": False}
            self._told["locked"] = (False, at)
        else:
            values = {
                "speed": 0.0,
                "engine_speed": 215.0,
                "battery_voltage": self.car.cranking(self._noise)["battery_voltage"],
                "locked": False,
            }
            self._told["locked"] = (False, use.start)
        self.car.start(profile)
        where = {"odometer": round(self.car.odometer, 1)}
        return [Event(ts=use.start, event="trip_started", data=where), Reading(ts=use.start, signals=values)]

    def _on_the_way(self, use: Use, at: int) -> Said:
        self._to(at)
        if self.car.profile is None:
            return []
        air = self.air(at)
        values: dict[str, object] = self._electric_signals(at) if self.electric else {}
        values |= self._place_at(use, at)
        if self.body.tyres[3] < 200:  # wheel sensors wake up for a loss
            values |= self.body.pressures(self._noise, air, rolling=True)
        if self.electric:
            return [Reading(ts=at, signals=values | {"outside_temperature": round(air * 2) / 2})]
        speed = round(self.car.speed)
        revs = self.car._engine_speed(self._noise, speed)
        values |= self.body.running(
            self._noise, speed=speed, engine_speed=revs, coolant=self.car.coolant, air=air,
            ran=self.car.now - self.car.started, pull=self._pull(speed),
        )  # fmt: skip
        values |= {
            "speed": float(speed),
            "engine_speed": revs,
            "coolant_temperature": float(round(self.car.coolant + self._noise.gauss(0, 0.4))),
            "battery_voltage": self.car._voltage(self._noise, running=True),
            **self.news({"dtc": self._codes_now()}, at),
        }
        return [Reading(ts=at, signals=values)]

    def _codes_now(self) -> list[str]:
        """Active codes, and now and then one that is gone when the drive ends."""
        codes = list(self.car.active_codes())
        if self._noise.random() < 0.0008:
            codes.append(NOISE_CODES[self._noise.randrange(len(NOISE_CODES))])
        return codes

    def _pull(self, speed: float) -> float:
        """How much of its power the engine gives: for the road at that speed, and for accelerating."""
        profile = self.car.profile
        if profile is None:
            return 0.0
        at = self.car.now - self.car.started
        gain = (profile.speed(at + 1) - profile.speed(at)) * 0.45
        return min(1.0, max(0.0, gain + (speed / 190) ** 2 + 0.03))

    def _place_at(self, use: Use, at: int) -> dict[str, object]:
        share = (at - use.start) / (use.end - use.start)
        if use.what.startswith("away"):
            journey, back = self._journey(use)
            there = PLACES[journey.to]
            self._position = between(self.place, there, 1 - share if back else share)
        elif self.part.away or self.part.place == "berlin":
            self._position = around(self.place, self._side, 12 * math.sin(math.pi * share))
        if self._position is None:
            return {}
        latitude, longitude = self._position
        return {"latitude": round(latitude, 4), "longitude": round(longitude, 4), "emission_sticker": "green"}

    def _journey(self, use: Use) -> tuple[AwayPart, bool]:
        _, number, way = use.what.split()
        return self.part.away[int(number)], way == "back"

    def _arrived(self, use: Use, profile: Profile) -> Said:
        at = use.end
        self._to(at)
        if self.car.profile is None:
            return []
        lasted = self.car.stop()
        self._parked = at / 1000
        self._settle(use, at, lasted)
        self._ended(use)
        values = self._all_signals(use, at)
        said: list[Reading | Event] = [Reading(ts=at, signals=values)]
        if at <= self.scenario.start:
            return said
        data = {"odometer": values["odometer"], "seconds": round(lasted)}
        return [*said, Event(ts=at, event="trip_ended", data=data)]

    def _settle(self, use: Use, at: int, lasted: float) -> None:
        """What the drive did to everything else, and what is due now."""
        km = self.car.odometer - self._start_km
        lamp = any(code.startswith("P") for code in self.car.codes)
        self.body.drive(lasted, km, self._noise, wet=self._wet(at), town=use.what == "town", lamp=lamp)
        if not self.electric:
            litres = self.car.used - self._start_fuel
            keep = math.exp(-km / 400)
            self._month_litres, self._month_km = (
                self._month_litres * keep + litres,
                self._month_km * keep + km,
            )
        self._measure(at)
        self._note_states(at)
        if self.electric:
            self._plug_in(use, at)
        elif self._noise.random() < 0.002 and not use.what.startswith("away"):
            self._forget_window(at)

    def _all_signals(self, use: Use, at: int) -> dict[str, object]:
        values = self._rest_signals(at) | self.news(self.body.state(), at) | self._place_at(use, at)
        if self.electric:
            return values
        values |= self.news({**self.car.state(), "dtc": list(self.car.codes)}, at)
        values |= {
            "odometer": round(self.car.odometer, 1),
            "coolant_temperature": float(round(self.car.coolant)),
            "fuel_consumption": round(100 * self._month_litres / max(1.0, self._month_km), 1),
        }
        return values

    def _measure(self, at: int) -> None:
        """Levels that use raises."""
        body = self.body
        levels = {
            "pads_front": self.car.pad_front,
            "pads_rear": self.car.pad_rear,
            "wipers": body.wipers,
            "washer_fluid": 100 * (1 - body.washer_fluid),
            "service_distance": 100 * (1 - body.service_km / SERVICE_KM),
            "service_time": 100 * (1 - body.service_days / SERVICE_DAYS),
            "tyres_soft": 240.0 - min(body.tyres) - 1.2 * min(0.0, self.air(at) - 15),
        }
        if not self.electric:
            levels |= {"oil": self.car.oil, "oil_level": 100 * (1 - body.oil_level)}
        if body.diesel:
            levels |= {"adblue": 100 * (1 - body.adblue * ADBLUE_M / 12_000_000)}
        for meter in self._meters:
            self.level(meter, levels[meter.what], at)

    def _note_states(self, at: int) -> None:
        if self.part.away:
            abroad = any(
                self.scenario.ms(j.leave) <= at <= self.scenario.ms(j.back) + j.hours * 3_600_000
                and PLACES[j.to].country != self.body.home_country
                for j in self.part.away
            )
            self.needs.state("abroad", ("travel", "toll"), at, true=abroad)
        if self.body.diesel:
            self.needs.state("soot", ("dpf-drive", "exhaust"), at, true=self.body.soot >= 65)
        run_in = 1_450 <= self.car.odometer < 2_600
        self.needs.state("running_in", ("running-in",), at, true=run_in)
        month = self.scenario.local(at).month
        self.needs.state(
            "summer_tyres",
            ("tyre-change",),
            at,
            true=self.body.tyre_set == "summer" and (month >= 10 or month <= 3),
        )
        if at > self.scenario.start:
            cold = self.air(at) < -6 and (self.electric or self.car._rest() < 12.5)
            self.needs.state("cold_night", ("battery-charge",), at, true=cold)

    def _wet(self, at: int) -> float:
        """The share of a drive with rain that day, here: on two days of five there is some."""
        return _rain(f"{self._air_seed}/{self.part.place}/{self.scenario.local(at).date()}")

    def _forget_window(self, at: int) -> None:
        self.body.window_open = True
        until = at + round(self._noise.uniform(0.7, 9) * 3_600_000)
        self.later(at + 120_000, partial(self._locked, at + 120_000))
        self.later(at + 1_260_000, partial(self._locked, at + 1_260_000))
        self.later(until, partial(self._window_closed, until))

    def _locked(self, at: int) -> Said:
        if not self.body.window_open or self.car.profile is not None:
            return ()
        self.needs.state("window_open", ("close-windows",), at, true=True)
        values = {"locked": True, "window_driver_open": True, "speed": 0.0, "engine_speed": 0.0}
        return [Reading(ts=at, signals=values)]

    def _window_closed(self, at: int) -> Said:
        self.needs.state("window_open", (), at, true=False)
        self.body.window_open = False
        return [Reading(ts=at, signals={"window_driver_open": False, "locked": True})]

    # --- charging

    def _plug_in(self, use: Use, at: int) -> None:
        if self.ev.charge > self.ev.limit - 12 - 25 * self._slack:
            return
        when = at + 300_000
        if not self._at_peak:
            tonight = self.scenario.local(at).replace(hour=22, minute=30, second=0, microsecond=0)
            when = max(when, round((tonight + timedelta(minutes=45 * self._slack)).timestamp() * 1000))
        self.later(when, partial(self._charge, when))

    def _charge(self, at: int) -> Said:
        if self.car.profile is not None or self.ev.charging:
            return ()
        self._to(at)
        self.ev.charging = True
        missing = (self.ev.limit - self.ev.charge) / 100 * self.ev.model.capacity
        full = at + round(missing / self.ev.model.power * 3_600_000) + 240_000
        self.later(full, partial(self._charged, full))
        return [Reading(ts=at, signals=self._rest_signals(at))]

    def _charged(self, at: int) -> Said:
        if self.car.profile is not None or not self.ev.charging:
            return ()
        self._to(at)
        self.ev.charging = False
        return [Reading(ts=at, signals=self._rest_signals(at))]

    # --- seasons and habits

    def _habits(self) -> None:
        """What a hint would be right about, all the time."""
        self._at_peak = self.electric and bool(self.part.begins.get("at_peak"))
        start = self.scenario.start
        if self._at_peak:
            self.needs.begin("charging_at_peak", "state", ("charging-time",), start)
        if self.electric and self.ev.limit > 95:
            self.needs.begin("charging_to_full", "state", ("charging-limit",), start)
        if self.body.preheats == 0:
            self.needs.begin("never_preheated", "state", ("preheating",), start)
        if self.body.lane_uses == 0:
            self.needs.begin("lane_keeping_off", "state", ("lane-keeping",), start)

    def _seasons(self, rng: random.Random) -> None:
        """When this owner changes the tyres: all-season ones, by themselves in October and April, or late."""
        draw, first = rng.random(), self.scenario.local(self.scenario.start)
        if draw < 0.3:
            self.body.tyre_set = "all_season"
            return
        winter = first.month >= 11 or first.month <= 3
        self.body.tyre_set = "winter" if winter else "summer"
        late = draw > 0.88
        for year in range(first.year, self.scenario.local(self.scenario.end).year + 1):
            autumn = date(year, 12, 5) if late else date(year, 10, 4)
            for day, tyres in ((date(year, 4, 1), "summer"), (autumn, "winter")):
                at = self.scenario.ms(
                    datetime.combine(day, time()) + timedelta(days=rng.uniform(0, 26), hours=11)
                )
                if at > self.scenario.start:
                    self.later(at, partial(self._change_tyres, at, tyres))

    def _change_tyres(self, at: int, tyres: str) -> Said:
        self.body.tyre_set = tyres
        self.body.fill(self.air(at))
        return [Reading(ts=at, signals={"tyre_set": tyres})]

    # --- repairs and beginnings

    def repair(self, service: str, at: int) -> None:
        super().repair(service, at)
        self.body.repair(service, self.air(at))
        if service == "tyre-pressure" and "tyre_leak" in self.courses(at):
            self.body.tyres[3] = 235.0
        if service == "charging-time":
            self._at_peak = False
            self.needs.end("charging_at_peak", at)
        elif service == "charging-limit":
            self.needs.end("charging_to_full", at)
        elif service == "close-windows" and self.body.window_open:
            self._window_closed(at)

    def begin_with(self, values: Mapping[str, float]) -> None:
        for state, value in values.items():
            if state in _BODY_STATES:
                put(self.body, {state: value})
            elif state in _CAR_STATES:
                setattr(self.car, _CAR_STATES[state], value)
            elif self.electric and state in ("charge", "limit", "health"):
                setattr(self.ev, state, value)


_EV_SLOW = ("pad_wear_front", "pad_wear_rear", "dtc", "charging", "charging_limit", "traction_battery_health")
_BODY_STATES = (
    "age_days", "wipers", "washer_fluid", "brake_fluid", "oil_level", "adblue", "soot", "service_km",
    "service_days", "lane_uses", "preheats",
)  # fmt: skip
_CODES = (
    ("catalyst_worn", "P0420", 0.0), ("wheel_sensor", "C0035", 0.0), ("airbag_plug", "B0010", 0.0),
    ("bus_contact", "U0121", 0.0), ("mixture_lean", "P0171", 0.9), ("filter_blocked", "P2463", 0.66),
    ("pack_contactor", "P0AA1", 0.0),
)  # fmt: skip
"""(fault, its code, from which share of the course on)"""


def _meters(electric: bool, diesel: bool) -> list[Meter]:
    """What use raises towards a limit, in percent, and who sees to it."""
    meters = [
        Meter(what="pads_front", services=("brakes-front",), begin=80, limit=100),
        Meter(what="pads_rear", services=("brakes-rear",), begin=80, limit=100),
        Meter(what="wipers", services=("wipers",), begin=80, limit=100, cause="upkeep"),
        Meter(what="washer_fluid", services=("washer-fluid",), begin=75, limit=99, cause="upkeep"),
        Meter(what="service_distance", services=("inspection",), begin=92, limit=100),
        Meter(what="service_time", services=("inspection",), begin=92, limit=100),
        Meter(what="tyres_soft", services=("tyre-pressure", "tyres"), begin=42, limit=75, cause="upkeep"),
    ]
    if not electric:
        meters += [
            Meter(what="oil", services=("oil", "inspection"), begin=68, limit=100),
            Meter(
                what="oil_level",
                services=("oil-top-up", "oil", "inspection"),
                begin=42,
                limit=85,
                cause="upkeep",
            ),
        ]
    if diesel:
        meters.append(Meter(what="adblue", services=("adblue",), begin=70, limit=97, cause="upkeep"))
    return meters


@lru_cache(maxsize=4096)
def _rain(seed: str) -> float:
    rng = random.Random(f"{seed}/rain")
    return rng.random() * 0.9 if rng.random() < 0.4 else 0.0
