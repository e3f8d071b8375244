"""A heat pump for heating and hot water: a house's demand, a heating curve, a share of Carnot.

Sources of the equations:

* heat demand: Q = UA (T_room - T_outside) below the heating limit of 15 °C (EN 12831)
* coefficient of performance: a share of Carnot's, COP = η T_hot / (T_hot - T_cold) in kelvin, with 6 K on the
  cold and 4 K on the warm side for the exchangers; η is 0.44 to 0.53 (S. Wolf et al., field tests of the
  Fraunhofer ISE: annual figures of 3.1 for air and 4.1 for ground-source machines)
* refrigerant: pressures of R290 by Antoine's equation; superheat rises as the charge falls
* defrosting between -7 and 5 °C, most often at 0 to 2 °C, in proportion to the running time
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from device_sim.physics.sensors import noisy, stepped

ROOM, LIMIT = 20.0, 15.0
"""°C inside, and outside from which on nothing is heated"""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatPumpModel:
    """What all of a model have in common."""

    capacity: float = 9.0
    """kW of heat"""
    share: float = 0.46
    """of Carnot's COP"""
    flow: float = 24.0
    """l/min of heating water"""
    brine: bool = False


MODELS = {
    "Aerotherm 8": HeatPumpModel(),
    "Aerotherm 12": HeatPumpModel(capacity=12.5, share=0.44, flow=31),
    "Geotherm 10": HeatPumpModel(capacity=10, share=0.53, flow=27, brine=True),
}


@dataclass(kw_only=True, slots=True)
class HeatPump:
    """One of them. Shares of faults are 0 … 1."""

    model: HeatPumpModel
    loss: float = 0.19
    """kW/K of the house"""
    spread: float = 1.0
    curve: float = 0.55
    """K of flow temperature for each K below the heating limit"""
    starts: float = 0.0
    hours: float = 0.0
    inspected: float = 0.0
    """days since the inspection"""
    pressure: float = 1.7
    """bar of the heating water"""
    refrigerant_lost: float = 0.0
    evaporator_dirty: float = 0.0
    strainer: float = 0.0
    leak: float = 0.0
    brine_lost: float = 0.0
    switch: float = 0.0
    outside: float = 10.0
    running: float = 0.0
    """share of the time"""

    def advance(self, seconds: float, outside: float) -> None:
        """Let the time pass."""
        self.outside = outside
        demand = self.loss * max(0.0, ROOM - outside) if outside < LIMIT else 0.0
        self.running = min(1.0, demand / self.model.capacity + 0.06)  # hot water: an hour and a half a day
        self.hours += self.running * seconds / 3600
        cycles = 0.35 if demand <= 0 else 0.5 + 0.9 * self.running * (1 - self.running) * 4
        self.starts += cycles * seconds / 3600
        self.inspected += seconds / 86_400
        self.pressure -= 0.0006 * seconds / 86_400

    def repair(self, service: str) -> None:
        """Change what a job changes; an unknown one changes nothing."""
        if service == "heat-pump-inspection":
            self.inspected, self.pressure = 0.0, 1.7
        elif service in ("heating-leak", "refill-heating-water"):
            self.pressure = 1.7

    def cop(self, flow: float) -> float:
        """Heat for each unit of electricity now."""
        source = 4.0 if self.model.brine else self.outside
        hot, cold = flow + 4 + 273.15, source - 6 + 273.15
        lost = 0.5 * self.evaporator_dirty + 0.35 * self.refrigerant_lost
        return self.model.share * hot / max(12.0, hot - cold) * (1 - lost)

    def readings(self, rng: random.Random, *, legionella: bool) -> dict[str, object]:
        """What its sensors see."""
        model, heating = self.model, self.outside < LIMIT
        flow = 26 + self.curve * max(0.0, LIMIT - self.outside) + 4 if heating else 24.0
        on = heating and rng.random() < max(0.25, self.running)
        values: dict[str, object] = {
            "mode": "heating" if on else ("standby" if heating else "hot_water"),
            "compressor_on": on,
            "outside_temperature": stepped(noisy(rng, self.outside, 0.3), 0.1, -60, 70),
            "hot_water_temperature": 62.0 if legionella else stepped(noisy(rng, 49, 1.5), 0.5, 0, 100),
            "hot_water_setpoint": 50.0,
            "heating_pressure": stepped(noisy(rng, self.pressure - 1.25 * self.leak, 0.02), 0.01, 0, 6),
            "compressor_starts": float(int(self.starts)),
            "compressor_hours": stepped(self.hours, 0.1),
            "days_since_inspection": float(int(self.inspected)),
            "backup_heater_on": False,
            "defrosting": False,
            "fault_codes": ["F31"] if rng.random() < 0.35 * self.switch**2 else [],
        }
        if model.brine:
            values["brine_pressure"] = stepped(noisy(rng, 1.6 - 1.1 * self.brine_lost, 0.02), 0.01, 0, 6)
        return values | (self._running(rng, flow) if on else {})

    def _running(self, rng: random.Random, flow: float) -> dict[str, object]:
        cop = self.cop(flow)
        source = 4.0 if self.model.brine else self.outside
        heat = self.model.capacity * (1 - 0.4 * self.refrigerant_lost)
        return {
            "flow_temperature": stepped(noisy(rng, flow, 0.5), 0.1, -20, 100),
            "return_temperature": stepped(noisy(rng, flow - 5, 0.5), 0.1, -20, 100),
            "superheat": stepped(noisy(rng, 6 + 19 * self.refrigerant_lost, 0.8), 0.1, -20, 80),
            "flow_rate": stepped(
                noisy(rng, self.model.flow * self.spread * (1 - 0.55 * self.strainer), 0.4), 0.1, 0, 200
            ),
            "low_pressure": stepped(_propane(source - 6) * (1 - 0.3 * self.refrigerant_lost), 0.1, 0, 60),
            "high_pressure": stepped(_propane(flow + 4), 0.1, 0, 60),
            "power": stepped(noisy(rng, heat / max(0.8, cop), 0.03), 0.01, 0, 50),
            "heat_output": stepped(noisy(rng, heat, 0.1), 0.01, 0, 100),
            "cop": stepped(noisy(rng, cop, 0.08), 0.01, 0, 15),
        }


def _propane(celsius: float) -> float:
    """Saturation pressure of propane, bar (Antoine; NIST: A 4.01158, B 834.26, C -22.763, kelvin)."""
    return float(10 ** (4.01158 - 834.26 / (celsius + 273.15 - 22.763)))
