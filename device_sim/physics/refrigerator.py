"""A fridge-freezer: a heat balance, and what it reports.

Sources of the equations:

* heat load: Q = UA (T_room - T_inside) for both compartments, with door openings on top (A. Bejan, Heat
  Transfer; IEC 62552 measures at 16 and 32 °C of room temperature)
* share of the time that the compressor runs: load over cooling power; the power falls with the refrigerant
  that is lost and with a condenser that dust keeps warm (about 2 percent for each kelvin)
* where the compressor cannot keep up, the temperature rises with the time constant of food and box
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from device_sim.physics.sensors import noisy, stepped

TIME_CONSTANT = 9 * 3600.0
"""s: a full box"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FridgeModel:
    """What all of a model have in common."""

    fridge: float = 1.05
    """W/K of the fridge compartment"""
    freezer: float = 0.62
    """W/K of the freezer"""
    cooling: float = 105.0
    """W of heat that the running compressor takes away"""
    power: float = 62.0
    """W of electricity meanwhile"""
    excess: float = 11.0
    """K: condenser above the room while running"""


MODELS = {
    "Nordfrost 300": FridgeModel(),
    "Nordfrost 360": FridgeModel(fridge=1.2, freezer=0.75, cooling=128, power=74),
    "Kalter Duo": FridgeModel(fridge=0.95, cooling=92, power=52, excess=12.5),
}


@dataclass(kw_only=True, slots=True)
class Refrigerator:
    """One of them. Shares of faults are 0 … 1."""

    model: FridgeModel
    spread: float = 1.0
    setpoint: float = 5.0
    """°C in the fridge"""
    fridge: float = 5.0
    freezer: float = -18.0
    filter_age: float = 0.0
    """days"""
    filter_water: float = 0.0
    """l"""
    refrigerant_lost: float = 0.0
    dust: float = 0.0
    defrost_fault: float = 0.0
    duty: float = 40.0
    """percent of the time"""
    openings: float = 1.0
    """of the door, in units of an ordinary household's day"""

    def advance(self, seconds: float, room: float) -> None:
        """Let the time pass in a room of that temperature."""
        model = self.model
        load = model.fridge * self.spread * (room - self.setpoint) + model.freezer * (room + 18.0)
        load += 6.0 * self.openings  # W, the air that each opening lets in, over the day
        lost = min(0.95, 0.02 * 12 * self.dust + 0.8 * self.refrigerant_lost)
        share = load / (model.cooling * (1 - lost))
        self.duty = 100 * min(1.0, share)
        short = max(0.0, share - 1)
        towards = self.setpoint + short * (room - self.setpoint) * 0.9
        self.fridge = _after(self.fridge, towards, seconds)
        self.freezer = _after(self.freezer, -18.0 + short * (room + 18.0) * 0.9, seconds)
        self.filter_age += seconds / 86_400

    def repair(self, service: str) -> None:
        """Change what a job changes; an unknown one changes nothing."""
        if service == "water-filter":
            self.filter_age = self.filter_water = 0.0

    def readings(self, rng: random.Random, room: float) -> dict[str, object]:
        """What its sensors see."""
        model = self.model
        running = rng.random() * 100 < self.duty
        energy = model.power * self.duty / 100 * 24 / 1000
        return {
            "switched_on": True,
            "holiday_mode": False,
            "fridge_temperature": stepped(noisy(rng, self.fridge, 0.4), 0.1, -30, 60),
            "fridge_setpoint": self.setpoint,
            "freezer_temperature": stepped(noisy(rng, self.freezer, 0.5), 0.1, -50, 60),
            "freezer_setpoint": -18.0,
            "ambient_temperature": stepped(noisy(rng, room, 0.3), 0.5, -30, 60),
            "evaporator_temperature": stepped(
                noisy(rng, -26 + 10 * self.refrigerant_lost, 0.8), 0.5, -60, 60
            ),
            "condenser_excess": stepped(noisy(rng, model.excess + 12 * self.dust, 0.7), 0.1, -20, 80),
            "compressor_on": running,
            "compressor_duty": stepped(noisy(rng, self.duty, 1.5), 1, 0, 100),
            "fan_speed": stepped(noisy(rng, 1_450, 25), 10, 0, 5000),
            "power": stepped(noisy(rng, model.power if running else 2.5, 0.8), 0.1, 0, 2000),
            "daily_energy": stepped(noisy(rng, energy, 0.02), 0.01, 0, 20),
            "days_since_filter": float(int(self.filter_age)),
            "water_since_filter": stepped(self.filter_water, 0.1),
            "fault_codes": [],
        }


def _after(value: float, towards: float, seconds: float) -> float:
    return towards + (value - towards) * math.exp(-seconds / TIME_CONSTANT)
