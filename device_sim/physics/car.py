"""A car with a combustion engine: what driving and standing do to it, and what it reports.

Sources of the equations:

* road load and fuel: L. Guzzella, A. Sciarretta, Vehicle Propulsion Systems, ch. 2 (rolling and air
  resistance, Willans line: fuel power = idle + mechanical power / efficiency)
* pad wear: J. F. Archard, Contact and Rubbing of Flat Surfaces, J. Appl. Phys. 24 (1953) 981: the worn
  volume is proportional to the energy that friction turned into heat
* coolant: Newton's law of cooling, towards the thermostat while the engine runs, towards the air when parked.
  The time constant is fitted to recorded trips: 80 °C after six minutes in the median
* battery: open-circuit voltage less current times internal resistance. While cranking recorded cars show
  7.6 to 10.4 V; with the alternator at work 13.5 to 14.2 V
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

from device_sim.physics.driving import Leg, Profile
from device_sim.physics.sensors import completed, noisy, stepped

GRAVITY = 9.81  # m/s²
AIR_DENSITY = 1.24  # kg/m³ at 12 °C
FUEL_ENERGY = 32.0e6  # J/l, petrol
OIL_KM = 18_000.0  # of warm driving
COLD = 60.0  # °C of coolant below which an engine is cold
NEW_PADS = 2.0  # percent: pads are bedded in before the car is handed back


@dataclass(frozen=True, kw_only=True, slots=True)
class CarModel:
    """What all cars of a model have in common."""

    mass: float = 1420.0
    """kg, with driver"""
    rolling: float = 0.011
    """coefficient of rolling resistance"""
    drag_area: float = 0.66
    """drag coefficient times frontal area, m²"""
    front_share: float = 0.72
    """of the braking energy that the front axle takes"""
    pad_area: float = 0.0192
    """m², all four front pads; the rear ones wear as if they had five eighths of it"""
    pad_depth: float = 0.010
    """m of lining from new (12 mm) to the limit (2 mm)"""
    pad_wear: float = 2.1e-13
    """m³ of lining worn off per joule of friction; a front set then lasts some 20,000 km in mixed traffic"""
    engine_braking: float = 0.25
    """of a slow-down that engine and gearbox take"""
    efficiency: float = 0.33
    """of the engine beyond idling (Willans slope)"""
    idle_fuel: float = 0.8
    """l/h"""
    tank: float = 47.0
    """l"""
    idle_speed: float = 740.0
    """rpm"""
    shift: float = 1350.0
    """rpm below which a lower gear is taken"""
    ratios: tuple[float, ...] = (118.0, 66.0, 44.0, 32.5, 26.0, 21.5)
    """rpm per km/h in each gear"""
    thermostat: float = 89.0
    """°C"""
    warm_up: float = 215.0
    """s, time constant while running"""
    cool_down: float = 8_400.0
    """s, time constant when parked"""


MODELS = {
    "Arden 5": CarModel(),
    "Arden 3": CarModel(mass=1210, drag_area=0.60, pad_area=0.0165, tank=42, idle_speed=720, shift=1180),
    "Corvo Kombi": CarModel(mass=1610, drag_area=0.70, pad_area=0.0205, tank=55, efficiency=0.36),
    "Lastra Van": CarModel(
        mass=2150, rolling=0.012, drag_area=1.05, pad_area=0.024, tank=70, efficiency=0.36
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a drive took."""

    seconds: float
    km: float
    driven: float
    """J that the engine gave the wheels"""
    braked: float
    """J that the brakes took"""


def worked(model: CarModel, legs: Iterable[Leg]) -> Work:
    """Road load and change of kinetic energy along the legs, exact for constant acceleration."""
    rolling, drag = model.mass * GRAVITY * model.rolling, 0.5 * AIR_DENSITY * model.drag_area
    seconds = metres = driven = braked = 0.0
    for leg in legs:
        a, b, lasts = leg.v0, leg.v1, leg.end - leg.begin
        way = (a + b) / 2 * lasts
        cubed = (a + b) * (a * a + b * b) / 4  # mean of the cubed speed
        energy = rolling * way + drag * cubed * lasts + 0.5 * model.mass * (b * b - a * a)
        seconds, metres = seconds + lasts, metres + way
        if energy > 0:
            driven += energy
        else:
            braked -= energy * (1 - model.engine_braking)
    return Work(seconds=seconds, km=metres / 1000, driven=driven, braked=braked)


@dataclass(kw_only=True, slots=True)
class Driven:
    """What is driven. Times are seconds on any one scale; the fleet uses story time."""

    now: float = 0.0
    profile: Profile | None = None
    started: float = 0.0

    def start(self, profile: Profile) -> None:
        """It sets off now; `advance` drives the profile."""
        self.profile, self.started = profile, self.now

    def stop(self) -> float:
        """It is parked; gives the seconds it drove."""
        self.profile = None
        return self.now - self.started

    @property
    def speed(self) -> float:
        """km/h"""
        return self.profile.speed(self.now - self.started) * 3.6 if self.profile else 0.0

    def passing(self, to: float) -> float:
        """The seconds until `to`; going back in time is not possible."""
        if to < self.now:
            raise ValueError(f"time runs forward: {to} after {self.now}")
        return to - self.now

    def _work(self, road: CarModel, profile: Profile, to: float) -> Work:
        """What the drive from now to `to` takes. A whole trip is worked out once for a model."""
        start, end = self.now - self.started, to - self.started
        if start > 0 or end < profile.seconds:
            return worked(road, profile.between(start, end))
        whole = profile.memo.get(road)
        if not isinstance(whole, Work):
            whole = profile.memo[road] = worked(road, profile.between(0, profile.seconds))
        return whole


@dataclass(kw_only=True, slots=True)
class Car(Driven):
    """One car with a combustion engine."""

    model: CarModel
    wear_spread: float = 1.0
    """how much faster than its model this unit's pads wear"""
    odometer: float = 0.0
    """km"""
    fuel: float = 30.0
    """l"""
    pad_front: float = 20.0
    """percent worn"""
    pad_rear: float = 15.0
    oil: float = 30.0
    """percent of the oil's life that is used up"""
    coolant: float = 15.0
    """°C"""
    leaked: float = 0.0
    """share of the coolant that is gone, 0 … 1"""
    battery_health: float = 1.0
    """1 as new, 0 dead: lowers the open-circuit voltage and doubles the internal resistance"""
    drained: float = 0.0
    """V that something takes from the battery while the car is parked"""
    stuck_open: bool = False
    """the thermostat: the engine never gets warmer than some 60 °C"""
    used: float = 0.0
    """l of fuel in all"""
    codes: tuple[str, ...] = ()
    """active trouble codes, besides those that its own state sets"""

    # --- what time and driving do

    def advance(self, to: float, air: float) -> None:
        """Let the time pass until `to` with the air at `air` °C; going back in time is not possible."""
        seconds = self.passing(to)
        if self.profile is not None:
            self._drive(self._work(self.model, self.profile, to))
        self.coolant = self._coolant_after(seconds, air)
        self.now = to

    def _drive(self, work: Work) -> None:
        cold = self._cold_share(work.seconds)
        self.odometer += work.km
        # A kilometre with a cold engine counts double: fuel and water get into the oil.
        self.oil = min(100.0, self.oil + 100 * work.km / OIL_KM * (1 + cold))
        self._burn(work, cold)
        self._brake(work.braked)

    def _cold_share(self, seconds: float) -> float:
        """Of the coming `seconds` of running: the share until the coolant has 60 °C."""
        towards = self._working_temperature()
        if self.coolant >= COLD or seconds <= 0:
            return 0.0
        until = self.model.warm_up * math.log((towards - self.coolant) / (towards - COLD))
        return min(1.0, until / seconds)

    def _burn(self, work: Work, cold: float) -> None:
        litres = self.model.idle_fuel * work.seconds / 3600
        litres += work.driven / (self.model.efficiency * FUEL_ENERGY)
        litres *= 1 + 0.15 * cold  # a cold engine needs more, by experience a tenth to a fifth
        self.fuel -= litres
        self.used += litres
        if self.fuel < 0.12 * self.model.tank:
            self.fuel = 0.97 * self.model.tank  # somebody always finds a filling station

    def _brake(self, energy: float) -> None:
        model = self.model
        per_joule = 100 * model.pad_wear * self.wear_spread / (model.pad_area * model.pad_depth)
        front = energy * model.front_share
        # Past the limit the sensor ring is worn through; it cannot report more than worn out.
        self.pad_front = min(100.0, self.pad_front + front * per_joule)
        self.pad_rear = min(100.0, self.pad_rear + (energy - front) * 1.6 * per_joule)

    def _coolant_after(self, seconds: float, air: float) -> float:
        running = self.profile is not None
        towards = self._working_temperature() if running else air
        constant = self.model.warm_up if running else self.model.cool_down
        return towards + (self.coolant - towards) * math.exp(-seconds / constant)

    def _working_temperature(self) -> float:
        """Where the thermostat holds it; with too little coolant nothing holds it."""
        short = max(0.0, self.leaked - 0.25)
        return (61.0 if self.stuck_open else self.model.thermostat) + 55.0 * short

    # --- what a repair does

    def repair(self, service: str) -> None:
        """Change what a workshop's service changes; an unknown service changes nothing."""
        if service == "brakes-front":
            self.pad_front = NEW_PADS
        elif service == "brakes-rear":
            self.pad_rear = NEW_PADS
        elif service == "cooling-system":
            self.leaked, self.stuck_open = 0.0, False
        elif service == "battery":
            self.battery_health = 1.0
        elif service in ("inspection", "oil"):
            self.oil = 0.0

    # --- what it reports

    def readings(self, rng: random.Random) -> dict[str, float | list[str]]:
        """All signals as the sensors see them now."""
        speed = stepped(self.speed, 1, 0, 250)
        return {
            "speed": speed,
            "engine_speed": self._engine_speed(rng, speed),
            "coolant_temperature": stepped(noisy(rng, self.coolant, 0.4), 1, -40, 215),
            "battery_voltage": self._voltage(rng, running=self.profile is not None),
            **self.state(),
        }

    def state(self) -> dict[str, float | list[str]]:
        """What changes slowly: level, distance, wear, codes."""
        return {
            "fuel_level": stepped(100 * self.fuel / self.model.tank, 0.1, 0, 100),
            "odometer": completed(self.odometer, 0.1),
            "pad_wear_front": completed(self.pad_front, 0.1),
            "pad_wear_rear": completed(self.pad_rear, 0.1),
            "oil_wear": completed(self.oil, 0.1),
            "dtc": list(self.active_codes()),
        }

    def cranking(self, rng: random.Random) -> dict[str, float | list[str]]:
        """The moment the starter turns: the engine at some 200 rpm, the battery under 250 A."""
        return {
            **self.readings(rng),
            "speed": 0.0,
            "engine_speed": stepped(noisy(rng, 215, 25), 1, 120, 320),
            "battery_voltage": stepped(noisy(rng, self._rest() - self._drop(), 0.25), 0.01),
        }

    def active_codes(self) -> tuple[str, ...]:
        """Trouble codes of SAE J2012 that are set now."""
        own = ("P0217",) if self.coolant > 118 else ()
        return tuple(sorted({*self.codes, *own}))

    def _engine_speed(self, rng: random.Random, speed: float) -> float:
        noise = rng.gauss(0.0, 18.0)
        if self.profile is None:
            return 0.0
        gear = next(
            (g for g in reversed(self.model.ratios) if g * speed >= self.model.shift), self.model.ratios[0]
        )
        return stepped(max(self.model.idle_speed, gear * speed) + noise, 1, 0, 7000)

    def _rest(self) -> float:
        """Open-circuit voltage of a lead battery, from 11.6 V dead to 12.7 V."""
        return 11.6 + 1.1 * self.battery_health - self.drained

    def _drop(self) -> float:
        """V lost in the battery while cranking."""
        return 2.9 * (2 - self.battery_health)

    def _voltage(self, rng: random.Random, *, running: bool) -> float:
        if running:
            return stepped(noisy(rng, 13.85, 0.12), 0.01, 0, 18)
        return stepped(noisy(rng, self._rest(), 0.03), 0.01, 0, 18)
