"""A washing machine: what washing does to it, and what it reports.

Sources of the equations:

* limescale: water gives off its carbonate hardness where it is heated above some 55 °C; 1 °dH is 17.8 mg/l of
  calcium carbonate (DIN 38409-6). The scale insulates the heater (Fourier's law, 0.6 W/(m K)), and the
  heater's own protection then lowers its power.
* drain pump: pumped volume over flow; lint narrows the filter, the flow falls with the free cross-section
* heating: dT/dt = P / (m c) of some 15 l of suds and the load's heat capacity
* bearing: the acceleration of a rolling bearing rises by an order of magnitude before it fails (ISO 20816,
  ISO 13373); what is given is its course, not its mechanics
* vibration: its velocity (ISO 20816: mm/s) grows with the imbalance of the load and with worn dampers
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from device_sim.physics.sensors import noisy, stepped

LIME_PER_DEGREE = 17.8e-6  # kg of calcium carbonate per litre and °dH
LIME_CONDUCTIVITY = 0.6  # W/(m K)
LIME_DENSITY = 2_000.0  # kg/m³, porous scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """One program of the dial."""

    minutes: int
    temperature: float
    """°C"""
    spin: int
    """rpm"""
    water: float
    """l in all"""


PROGRAMS = {
    "cotton_60": Program(minutes=125, temperature=60, spin=1400, water=62),
    "eco_40_60": Program(minutes=200, temperature=42, spin=1400, water=50),
    "mixed_40": Program(minutes=75, temperature=40, spin=1200, water=48),
    "quick_30": Program(minutes=30, temperature=30, spin=1000, water=38),
    "descale": Program(minutes=130, temperature=75, spin=400, water=24),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class WasherModel:
    """What all machines of a model have in common."""

    heater: float = 2_000.0
    """W"""
    heater_area: float = 0.026
    """m²"""
    drain: float = 14.0
    """l in one draining"""
    flow: float = 0.42
    """l/s of the clean pump"""
    lint: float = 0.0006
    """share of the filter that one wash closes"""
    vibration: float = 3.4
    """mm/s while spinning a well-spread load at 1,400 rpm"""


MODELS = {
    "WashMate 7": WasherModel(),
    "WashMate 9": WasherModel(heater=2_300, drain=17, vibration=3.1),
    "Lavanta Slim": WasherModel(heater=1_800, drain=11, flow=0.36, vibration=4.2),
}


@dataclass(kw_only=True, slots=True)
class WashingMachine:
    """One machine."""

    model: WasherModel
    hardness: float = 14.0
    """°dH of the household's water"""
    washes: int = 0
    """since it left the factory"""
    washes_since_descale: int = 0
    lime: float = 0.0
    """kg on the heater"""
    clogging: float = 0.05
    """share of the pump's filter that is closed, 0 … 0.95"""
    dampers: float = 1.0
    """1 as new; worn ones multiply the vibration"""
    eco_washes: int = 0
    since_filter: int = 0
    """washes since the pump's filter was cleaned"""
    seal: float = 20.0
    """percent of the door seal's life that is used up"""
    spread: float = 1.0
    """how much this unit deviates from its model"""
    scaled: float = 0.0
    """share of the heater's power that a fault takes, besides limescale"""
    stiff: float = 0.0
    """of the drain pump, 0 … 1"""
    bearing: float = 0.0
    strainer: float = 0.0
    leaking: bool = False
    program: str | None = None
    """None while it stands idle"""
    imbalance: float = 0.0
    """of the present load, 0 … 1"""

    # --- what washing does

    def begin(self, program: str, rng: random.Random) -> Program:
        """Load and start; raises KeyError for a program that the dial has not."""
        chosen = PROGRAMS[program]
        self.program, self.imbalance = program, rng.betavariate(2, 5)
        return chosen

    def finish(self) -> None:
        """The program has ended: count it, and what it left behind."""
        if self.program is None:
            raise ValueError("nothing to finish: the machine stands idle")
        program = PROGRAMS[self.program]
        if self.program == "descale":
            self.washes_since_descale, self.lime = 0, 0.0
        else:
            self.washes += 1
            self.washes_since_descale += 1
            self.since_filter += 1
            self.eco_washes += self.program == "eco_40_60"
            self.seal = min(100.0, self.seal + 0.022 * self.spread * program.temperature / 40)
            self.lime += self.lime_of(program)
            self.clogging = min(0.95, self.clogging + self.model.lint)
        self.program = None

    def lime_of(self, program: Program) -> float:
        """kg of scale that one wash leaves on the heater: a share of the hardness that rises with heat."""
        share = min(0.06, max(0.002, (program.temperature - 30) / 30 * 0.05))
        return self.hardness * LIME_PER_DEGREE * program.water * share

    def repair(self, service: str) -> None:
        """Change what a service changes; an unknown service changes nothing."""
        if service in ("drain-pump", "pump"):
            self.clogging = 0.02
        elif service == "descale":
            self.washes_since_descale, self.lime = 0, 0.0
        elif service == "dampers":
            self.dampers = 1.0
        elif service == "clean-filter":
            self.since_filter, self.clogging = 0, min(self.clogging, 0.05)
        elif service == "door-seal":
            self.seal = 0.0

    # --- what follows from its state

    @property
    def drain_seconds(self) -> float:
        """How long one draining takes."""
        return self.model.drain / (self.model.flow * (1 - self.clogging))

    @property
    def heating_power(self) -> float:
        """W that reach the water: the scale's resistance against the bare heater's 100 K of headroom."""
        thickness = self.lime / (LIME_DENSITY * self.model.heater_area)
        resistance = thickness / (LIME_CONDUCTIVITY * self.model.heater_area)
        return self.model.heater / (1 + resistance * self.model.heater / 100)

    # --- what it reports

    def heating(self, rng: random.Random) -> dict[str, float | str]:
        """While heating."""
        program = PROGRAMS[self.program or "mixed_40"]
        return {
            "water_temperature": stepped(noisy(rng, program.temperature - 4, 1.2), 0.5, 0, 95),
            "heating_power": stepped(noisy(rng, self.heating_power, 15), 1, 0, 3500),
        }

    def spinning(self, rng: random.Random) -> dict[str, float | str]:
        """While spinning, after draining."""
        program = PROGRAMS[self.program or "mixed_40"]
        shake = self.model.vibration * self.dampers * (0.6 + 1.2 * self.imbalance) * program.spin / 1400
        return {
            "spin_speed": float(program.spin),
            "vibration": stepped(noisy(rng, shake, 0.15), 0.1, 0, 60),
            "drain_time": stepped(noisy(rng, self.drain_seconds, 0.7), 1, 0, 600),
        }

    def more_heating(self, rng: random.Random) -> dict[str, object]:
        """What a machine of today tells besides, while it heats."""
        rate = 1.85 * self.heating_power / self.model.heater * (1 - 0.75 * self.scaled)
        filling = 62 * self.spread * (1 + 2.2 * self.strainer)
        return {
            "heating_rate": stepped(noisy(rng, rate, 0.06), 0.01, 0, 20),
            "water_inlet_time": stepped(noisy(rng, filling, 5), 1, 0, 1800),
        }

    def more_spinning(self, rng: random.Random) -> dict[str, object]:
        """What a machine of today tells besides, after spinning."""
        jammed = self.clogging > 0.8 and rng.random() < 0.5
        return {
            "pump_current": stepped(noisy(rng, 0.2 + 0.45 * self.stiff, 0.012), 0.001, 0, 10),
            "bearing_vibration": stepped(noisy(rng, (2 + 12 * self.bearing) * self.spread, 0.4), 0.1, 0, 200),
            "fault_codes": ["F21"] if jammed else [],
        }

    def more_state(self) -> dict[str, object]:
        """What a machine of today tells besides, of what changes slowly."""
        return {
            "eco_washes": float(self.eco_washes),
            "washes_since_filter_clean": float(self.since_filter),
            "door_seal_wear": stepped(self.seal, 0.1, 0, 100),
            "water_in_base": self.leaking,
        }

    def state(self) -> dict[str, float | str]:
        """What changes slowly."""
        counters = {
            "wash_cycles": float(self.washes),
            "washes_since_descale": float(self.washes_since_descale),
        }
        doing = {"state": "running", "program": self.program} if self.program else {"state": "idle"}
        return {**doing, **counters}
