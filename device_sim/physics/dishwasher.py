"""A dishwasher: what washing up does to it, and what it reports.

Sources of the equations:

* heating: the heater warms water, crockery and tub, dT/dt = P / (m c); 3 l of water, 10 kg of crockery at
  0.8 kJ/(kg K) and 8 kg of steel at 0.5 kJ/(kg K) are warmed by 1,800 W at 3.8 K/min; losses through the
  tub of 25 W/K above the room make it 2.4 in the mean of a heating phase
* softener: salt is used up in proportion to hardness and water (ion exchange; a filling of 1.2 kg regenerates
  some 20 runs at 21 °dH and 60 at 7)
* filter: what is left on the plates closes the sieve by a share of its free area each run; the water for a
  run and its turbidity follow
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from device_sim.physics.sensors import noisy, stepped


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """One program."""

    minutes: int
    temperature: float
    """°C"""
    water: float
    """l"""


PROGRAMS = {
    "eco_50": Program(minutes=200, temperature=50, water=9.5),
    "auto_60": Program(minutes=130, temperature=60, water=12.0),
    "intensive_70": Program(minutes=140, temperature=70, water=14.0),
    "quick_45": Program(minutes=40, temperature=45, water=10.0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DishwasherModel:
    """What all machines of a model have in common."""

    heater: float = 2.4
    """K/min that a bare heater warms the load"""
    arm: float = 32.0
    """rpm of the lower spray arm"""
    inlet: float = 70.0
    """s to fill"""
    pump: float = 0.2
    """A that the drain pump takes"""


MODELS = {
    "Tellmar 45": DishwasherModel(heater=2.2, arm=36),
    "Tellmar 60": DishwasherModel(),
    "Klarwin Pro": DishwasherModel(heater=2.6, arm=30, pump=0.22),
}


@dataclass(kw_only=True, slots=True)
class Dishwasher:
    """One machine. Shares of faults are 0 … 1."""

    model: DishwasherModel
    hardness: float = 14.0
    spread: float = 1.0
    """how much this unit deviates from its model"""
    runs: int = 0
    eco_runs: int = 0
    since_filter: int = 0
    since_care: int = 0
    salt: float = 1.0
    """share of the filling that is left"""
    rinse_aid: float = 1.0
    scale: float = 0.0
    """of the heater's power that is lost"""
    arm_stuck: float = 0.0
    pump_stiff: float = 0.0
    drain_blocked: float = 0.0
    leaking: bool = False
    program: str | None = None

    def finish(self) -> None:
        """A run has ended."""
        program = PROGRAMS[self.program or "eco_50"]
        self.runs += 1
        self.eco_runs += self.program == "eco_50"
        self.since_filter += 1
        self.since_care += 1
        self.salt = max(0.0, self.salt - self.hardness * program.water / 4_200)
        self.rinse_aid = max(0.0, self.rinse_aid - 1 / 75)
        self.program = None

    def repair(self, service: str) -> None:
        """Change what a job changes; an unknown one changes nothing."""
        if service == "clean-dishwasher-filter":
            self.since_filter = 0
        elif service == "machine-care":
            self.since_care = 0
        elif service == "refill-salt":
            self.salt = 1.0
        elif service == "refill-rinse-aid":
            self.rinse_aid = 1.0

    def washing(self, rng: random.Random) -> dict[str, object]:
        """A reading while it washes."""
        program = PROGRAMS[self.program or "eco_50"]
        clogged = max(0.0, self.since_filter - 30) / 100
        stuck = rng.random() < self.arm_stuck
        arm = 2.0 if stuck else self.model.arm * self.spread * (1 - 0.3 * clogged)
        return {
            "state": "running",
            "program": self.program or "eco_50",
            "water_temperature": stepped(noisy(rng, program.temperature - 1, 0.8), 0.5, 0, 90),
            "heating_rate": stepped(
                noisy(rng, self.model.heater * (1 - 0.75 * self.scale), 0.08), 0.01, 0, 20
            ),
            "circulation_pump_speed": stepped(noisy(rng, 2_800 - 400 * clogged, 30), 10, 0, 5000),
            "spray_arm_speed": stepped(noisy(rng, arm, 1.2), 1, 0, 200),
            "turbidity": stepped(noisy(rng, 120 + 400 * clogged, 25), 1, 0, 4000),
            "water_inlet_time": stepped(noisy(rng, self.model.inlet * self.spread, 4), 1, 0, 1800),
        }

    def drained(self, rng: random.Random) -> dict[str, object]:
        """The reading at the end of a run."""
        program = PROGRAMS[self.program or "eco_50"]
        blocked = rng.random() < self.drain_blocked
        current = self.model.pump + 0.45 * self.pump_stiff
        return {
            "drain_time": stepped(noisy(rng, 24 + 40 * self.drain_blocked, 1.2), 1, 0, 1800),
            "drain_pump_current": stepped(noisy(rng, current, 0.012), 0.001, 0, 10),
            "water_per_run": stepped(noisy(rng, program.water, 0.3), 0.1, 0, 60),
            "energy_per_run": stepped(noisy(rng, 0.012 * program.temperature + 0.2, 0.03), 0.01, 0, 10),
            "fault_codes": ["F24"] if blocked else [],
        }

    def state(self) -> dict[str, object]:
        """What changes slowly."""
        return {
            "state": "running" if self.program else "idle",
            "runs": float(self.runs),
            "eco_runs": float(self.eco_runs),
            "runs_since_filter_clean": float(self.since_filter),
            "runs_since_care": float(self.since_care),
            "salt_low": self.salt < 0.08,
            "rinse_aid_low": self.rinse_aid < 0.08,
            "water_hardness": self.hardness,
            "water_in_base": self.leaking,
        }
