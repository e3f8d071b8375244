"""An electric car: what driving and charging do to its battery, and what it reports.

Sources of the equations:

* energy on the road: road load and kinetic energy as in `car.py`, driven at 0.87 from battery to wheel, 0.65
  of the braking energy taken back (Guzzella and Sciarretta, Vehicle Propulsion Systems, ch. 4); heating and
  cooling take 0.4 to 2.5 kW by the air's temperature
* ageing: with time (calendar) and with charge throughput (P. Keil, A. Jossen, J. Electrochem. Soc. 164 (2017)
  A6066): some 2 percent in the first year and 1 to 1.5 a year later
* cell voltage: 3.45 V empty to 4.15 V full, flat between; temperature of the cells towards the air with 5 h
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from device_sim.physics.car import CarModel, Driven, Work
from device_sim.physics.driving import Profile
from device_sim.physics.sensors import completed, noisy, stepped

CELL_S = 5 * 3600.0
RECUPERATED = 0.65
DRIVE = 0.87


@dataclass(frozen=True, kw_only=True, slots=True)
class ElectricModel:
    """What all of a model have in common."""

    road: CarModel
    capacity: float = 58.0
    """kWh"""
    power: float = 11.0
    """kW of the charger at home"""


MODELS = {
    "Meridian E": ElectricModel(road=CarModel(mass=1810, drag_area=0.62, engine_braking=0.75)),
    "Meridian E+": ElectricModel(road=CarModel(mass=1960, drag_area=0.62, engine_braking=0.75), capacity=77),
    "Tilia E": ElectricModel(
        road=CarModel(mass=1480, drag_area=0.60, engine_braking=0.7), capacity=42, power=7.4
    ),
}


@dataclass(kw_only=True, slots=True)
class ElectricCar(Driven):
    """One of them."""

    model: ElectricModel
    wear_spread: float = 1.0
    odometer: float = 0.0
    """km"""
    charge: float = 70.0
    """percent"""
    limit: float = 80.0
    """percent that it is charged to"""
    health: float = 97.0
    """percent of the capacity as new"""
    pad_front: float = 15.0
    pad_rear: float = 10.0
    cells: float = 15.0
    """°C"""
    battery_health: float = 1.0
    """of the 12 V battery"""
    uneven: float = 0.0
    faded: float = 0.0
    codes: tuple[str, ...] = ()
    charging: bool = False

    def start(self, profile: Profile) -> None:
        """It sets off now, unplugged."""
        Driven.start(self, profile)
        self.charging = False

    def advance(self, to: float, air: float) -> None:
        """Let the time pass until `to` with the air at `air` °C."""
        seconds, warm = self.passing(to), 0.0
        if self.profile is not None:
            warm = 8.0
            self._drive(self._work(self.model.road, self.profile, to), air)
        elif self.charging:
            warm = 10.0
            self._fill(seconds)
        self.cells = air + warm + (self.cells - air - warm) * math.exp(-seconds / CELL_S)
        self.now = to

    def _drive(self, work: Work, air: float) -> None:
        self.odometer += work.km
        comfort = 0.4 + 0.085 * abs(air - 20)  # kW
        # The friction brakes got a quarter of a slow-down; of the rest most comes back.
        back = work.braked * 3 * RECUPERATED
        energy = max(0.0, work.driven / DRIVE - back) / 3.6e6 + comfort * work.seconds / 3600
        self.charge = max(3.0, self.charge - 100 * energy / self._usable())
        self.health -= 2.2e-5 * energy
        self._brake(work.braked)

    def _usable(self) -> float:
        return self.model.capacity * (self.health - 25 * self.faded) / 100

    def _fill(self, seconds: float) -> None:
        self.charge = min(self.limit, self.charge + 100 * self.model.power * seconds / 3600 / self._usable())

    def _brake(self, energy: float) -> None:
        road = self.model.road
        per_joule = 100 * road.pad_wear * self.wear_spread / (road.pad_area * road.pad_depth)
        front = energy * road.front_share
        self.pad_front = min(100.0, self.pad_front + front * per_joule)
        self.pad_rear = min(100.0, self.pad_rear + (energy - front) * 1.6 * per_joule)

    def age(self, days: float) -> None:
        """Calendar ageing of a battery of some years."""
        self.health -= 0.0032 * days * (1.25 if self.limit > 90 else 1.0)

    def repair(self, service: str) -> None:
        """Change what a job changes; an unknown one changes nothing."""
        if service == "brakes-front":
            self.pad_front = 2.0
        elif service == "brakes-rear":
            self.pad_rear = 2.0
        elif service == "traction-battery":
            self.uneven = self.faded = 0.0
        elif service == "charging-limit":
            self.limit = 80.0

    def readings(self, rng: random.Random) -> dict[str, object]:
        """All signals as the sensors see them now."""
        cell = 3.45 + 0.7 * self.charge / 100
        spread = 0.02 + 0.2 * self.uneven + (0.02 if self.charging or self.profile else 0.0)
        awake = self.profile is not None or self.charging
        rest = 11.9 + 1.0 * self.battery_health
        return {
            "speed": stepped(self.speed, 1, 0, 250),
            "engine_speed": 0.0,
            "battery_voltage": stepped(noisy(rng, 14.1 if awake else rest, 0.05), 0.01, 0, 18),
            "traction_battery_charge": stepped(self.charge, 0.1, 0, 100),
            "traction_battery_health": stepped(noisy(rng, self.health - 25 * self.faded, 0.25), 0.1, 0, 100),
            "cell_temperature_max": stepped(noisy(rng, self.cells + 1.5, 0.4), 0.5, -50, 150),
            "cell_temperature_min": stepped(noisy(rng, self.cells - 1.0, 0.4), 0.5, -50, 150),
            "cell_voltage_max": stepped(noisy(rng, cell + spread / 4, 0.002), 0.001, 0, 6),
            "cell_voltage_min": stepped(noisy(rng, cell - spread * 3 / 4, 0.002), 0.001, 0, 6),
            "charging": self.charging,
            "charging_limit": self.limit,
            "odometer": completed(self.odometer, 0.1),
            "pad_wear_front": completed(self.pad_front, 0.1),
            "pad_wear_rear": completed(self.pad_rear, 0.1),
            "dtc": list(self.codes),
        }
