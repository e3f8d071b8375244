"""A fully automatic coffee machine: what brewing does to it, and what it reports.

Sources of the equations:

* limescale: litres through the boiler times hardness (1 °dH is 17.8 mg/l of calcium carbonate, DIN 38409-6)
* brewing pressure: the pump's 9 bar less what a worn piston seal lets by
* grinder: the time for a portion grows as the burrs' edge wears, in proportion to what was ground (Archard)
* boiler: the time to warm up, t = m c ΔT / P, grows as scale takes power
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from device_sim.physics.sensors import noisy, stepped

LITRES = 0.13
"""of water for a cup, rinsing included"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CoffeeModel:
    """What all machines of a model have in common."""

    pressure: float = 9.1
    """bar"""
    temperature: float = 92.0
    """°C"""
    warm_up: float = 36.0
    """s"""
    grinding: float = 7.5
    """s"""
    milk: bool = True


MODELS = {
    "Barista M": CoffeeModel(),
    "Barista S": CoffeeModel(milk=False, warm_up=32),
    "Crema Duo": CoffeeModel(pressure=9.6, grinding=6.8, warm_up=41),
}


@dataclass(kw_only=True, slots=True)
class CoffeeMachine:
    """One machine. Shares of faults are 0 … 1."""

    model: CoffeeModel
    hardness: float = 14.0
    spread: float = 1.0
    cups: int = 0
    since_clean: int = 0
    milk_cups: int = 0
    since_rinse: int = 0
    water_since_descale: float = 0.0
    """l"""
    water_since_filter: float = 0.0
    filter_age: float = 0.0
    """days"""
    tray: float = 0.0
    """share of the drip tray that is full"""
    seal_worn: float = 0.0
    dull: float = 0.0
    jams: float = 0.0
    scaled: float = 0.0
    drifting: float = 0.0

    def brew(self, milk: bool) -> None:
        """A cup."""
        self.cups += 1
        self.since_clean += 1
        self.water_since_descale += LITRES
        self.water_since_filter += LITRES
        self.tray += 1 / 28
        if milk and self.model.milk:
            self.milk_cups += 1
            self.since_rinse += 1

    def repair(self, service: str) -> None:
        """Change what a job changes; an unknown one changes nothing."""
        if service == "descale":
            self.water_since_descale = 0.0
        elif service == "water-filter":
            self.water_since_filter = self.filter_age = 0.0
        elif service == "clean-brew-unit":
            self.since_clean = 0
        elif service == "empty-drip-tray":
            self.tray = 0.0
        elif service == "rinse-milk":
            self.since_rinse = 0

    def brewing(self, rng: random.Random) -> dict[str, object]:
        """A reading while it brews."""
        model = self.model
        jam = rng.random() < 0.6 * self.jams
        return {
            "state": "brewing",
            "brew_pressure": stepped(noisy(rng, model.pressure - 5.2 * self.seal_worn, 0.25), 0.1, 0, 20),
            "brew_temperature": stepped(noisy(rng, model.temperature, 0.8 + 9 * self.drifting), 0.1, 0, 130),
            "brew_time": stepped(noisy(rng, 25 + 10 * self.seal_worn, 1.5), 0.1, 0, 300),
            "grinding_time": stepped(
                noisy(rng, model.grinding * self.spread * (1 + 1.1 * self.dull), 0.25), 0.1, 0, 120
            ),
            "grinder_current": stepped(noisy(rng, 2.6 if jam else 0.9, 0.08), 0.01, 0, 10),
            "pump_power": stepped(noisy(rng, 48, 2), 1, 0, 200),
        }

    def warmed_up(self, rng: random.Random) -> dict[str, object]:
        """When it is ready in the morning."""
        seconds = self.model.warm_up * self.spread * (1 + 2 * self.scaled)
        return {"state": "ready", "heat_up_time": stepped(noisy(rng, seconds, 1.5), 1, 0, 600)}

    def state(self) -> dict[str, object]:
        """What changes slowly."""
        return {
            "cups": float(self.cups),
            "cups_brewed": float(self.since_clean),
            "milk_cups": float(self.milk_cups),
            "milk_cups_since_rinse": float(self.since_rinse),
            "water_since_descale": stepped(self.water_since_descale, 0.1),
            "water_since_filter": stepped(self.water_since_filter, 0.1),
            "days_since_filter": float(int(self.filter_age)),
            "water_hardness": self.hardness,
            "drip_tray_full": self.tray >= 1,
            "fault_codes": [],
        }
