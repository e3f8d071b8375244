"""Everything of a car but its drive: tyres, fluids, lights, wipers, service counters, and what they report.

Sources of the equations:

* tyres: p V = n R T, so a tyre filled to 240 kPa (341 absolute) at 15 °C gains 1.2 kPa a degree; it loses
  2 to 3 kPa a month through the rubber; driving warms it by some 25 K
* wipers: worn by the hours they wipe, which follow the rain: some 10 percent of the driving time
* service: an interval of distance and one of time, whichever ends first (30,000 km, 2 years)
* engine extras follow the load: oil pressure with engine speed and temperature, manifold pressure and load
  with the acceleration, gearbox oil with load and air. The levels were fitted to recorded trips.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from device_sim.physics.sensors import completed, noisy, stepped

WHEELS = ("front_left", "front_right", "rear_left", "rear_right")
FILLED = 240.0
"""kPa above the air, at 15 °C"""
SERVICE_KM, SERVICE_DAYS = 30_000.0, 730.0
ADBLUE_M = 12_000_000.0
"""m that a full tank of AdBlue lasts"""
DAY_S = 86_400.0


@dataclass(kw_only=True, slots=True)
class Body:
    """One car's. Shares of faults are 0 … 1."""

    diesel: bool = False
    combustion: bool = True
    home_country: str = "DE"
    age_days: float = 800.0
    """since delivery"""
    tyres: list[float] = field(default_factory=lambda: [FILLED] * 4)
    """kPa at 15 °C"""
    tyre_set: str = "summer"
    wipers: float = 20.0
    """percent worn"""
    washer_fluid: float = 0.8
    """share of the tank"""
    brake_fluid: float = 0.8
    oil_level: float = 0.9
    adblue: float = 0.7
    soot: float = 25.0
    """percent"""
    regenerating: bool = False
    service_km: float = 20_000.0
    """left"""
    service_days: float = 500.0
    mil_minutes: float = 0.0
    lane_uses: int = 20
    preheats: int = 5
    charged: float = 95.0
    leaks: float = 0.0
    """coolant"""
    lamp: bool = False
    trim: float = 0.0
    gearbox: float = 0.0
    oil_lost: float = 0.0
    fluid_lost: float = 0.0
    sensor_dead: int | None = None
    """which wheel's pressure is not reported"""
    window_open: bool = False
    recall: bool = False
    blinking: bool = False
    weak_charging: float = 0.0

    # --- what time and driving do

    def rest(self, seconds: float) -> None:
        """Time passes."""
        days = seconds / DAY_S
        self.age_days += days
        self.service_days -= days
        self.tyres = [pressure - 0.085 * days for pressure in self.tyres]

    def drive(
        self, seconds: float, km: float, rng: random.Random, *, wet: float, town: bool, lamp: bool
    ) -> None:
        """A trip of so many seconds and kilometres; `wet` is the share of it with rain, `lamp` whether the
        engine light was on."""
        self.service_km -= km
        self.wipers = min(100.0, self.wipers + 0.075 * wet * seconds / 3600 * 10)
        self.washer_fluid = max(0.0, self.washer_fluid - km / 8_000 * (0.4 + 3 * wet))
        self.adblue = max(0.0, self.adblue - km * 1000 / ADBLUE_M)
        self.oil_level = max(0.0, self.oil_level - km / 60_000)
        self.mil_minutes = self.mil_minutes + seconds / 60 if lamp else 0.0
        self.lane_uses += rng.random() < 0.4
        if self.diesel:
            self._soot(seconds, km, town=town)

    def _soot(self, seconds: float, km: float, *, town: bool) -> None:
        self.soot = min(130.0, self.soot + km * 0.14 * (1.6 if town else 1.0))
        self.regenerating = self.soot > 75 and seconds > 900
        if self.regenerating and not town:
            self.soot = 12.0

    def fill(self, air: float) -> None:
        """All tyres to what the door says, at the temperature of the moment."""
        self.tyres = [FILLED - 1.2 * (air - 15)] * 4

    def repair(self, service: str, air: float = 15.0) -> None:
        """Change what a job changes; an unknown one changes nothing."""
        if service in ("tyres", "tyre-pressure"):
            self.fill(air)
        elif service == "tyre-change":
            self.tyre_set = "winter"
            self.fill(air)
        elif service == "wipers":
            self.wipers = 0.0
        elif service == "washer-fluid":
            self.washer_fluid = 1.0
        elif service == "adblue":
            self.adblue = 1.0
        elif service == "dpf-drive" or service == "exhaust":
            self.soot = 15.0
        elif service in ("oil-top-up", "oil", "oil-system"):
            self.oil_level = 1.0
        elif service == "brake-fluid":
            self.brake_fluid = 0.9
        elif service == "inspection":
            self.service_km, self.service_days = SERVICE_KM, SERVICE_DAYS
            self.oil_level = self.washer_fluid = 1.0
            self.fill(air)
        elif service == "recall":
            self.recall = False

    # --- what it reports

    def pressures(self, rng: random.Random, air: float, *, rolling: bool) -> dict[str, object]:
        """Of the four tyres."""
        warmth = air + (25.0 if rolling else 0.0)
        return {
            f"tyre_pressure_{wheel}": stepped(noisy(rng, pressure + 1.2 * (warmth - 15), 1.0), 1, 0, 1000)
            for number, (wheel, pressure) in enumerate(zip(WHEELS, self.tyres, strict=True))
            if number != self.sensor_dead
        }

    def state(self) -> dict[str, object]:
        """What changes slowly."""
        values: dict[str, object] = {
            "days_since_delivery": float(int(self.age_days)),
            "home_country": self.home_country,
            "tyre_set": self.tyre_set,
            "wiper_wear": completed(self.wipers, 0.1),
            "washer_fluid_low": self.washer_fluid < 0.15,
            "brake_fluid_low": self.brake_fluid - 0.9 * self.fluid_lost < 0.45,
            "low_beam_defect": self.lamp,
            "brake_light_defect": False,
            "time_to_service": stepped(self.service_days * DAY_S, 3600),
            "distance_to_service": float(int(self.service_km)),
            "lane_keeping_uses": float(self.lane_uses),
            "preheating_uses": float(self.preheats),
            "recall_open": self.recall,
        }
        if self.combustion:
            values |= {
                "oil_level": self._oil(),
                "coolant_level": "NORMAL"
                if self.leaks < 0.15
                else "LOW"
                if self.leaks < 0.6
                else "CRITICALLY_LOW",
                "minutes_mil_on": float(int(self.mil_minutes)),
            }
        if self.diesel:
            values |= {
                "adblue_range": stepped(self.adblue * ADBLUE_M, 1000),
                "adblue_low": self.adblue < 0.1,
                "dpf_soot": stepped(self.soot, 1, 0, 200),
            }
        return values

    def _oil(self) -> str:
        level = self.oil_level - self.oil_lost
        return "NORMAL" if level > 0.5 else "LOW" if level > 0.15 else "CRITICALLY_LOW"

    def running(
        self,
        rng: random.Random,
        *,
        speed: float,
        engine_speed: float,
        coolant: float,
        air: float,
        ran: float,
        pull: float,
    ) -> dict[str, object]:
        """What the engine's sensors see besides; `ran` s since the start, `pull` 0 … 1 of its power."""
        warm = min(1.0, max(0.0, (coolant - 20) / 70))
        pressure = (
            (150 + 0.085 * engine_speed)
            * (1.35 - 0.35 * warm)
            * (1 - 0.8 * max(0.0, self.oil_lost - 0.9) * 10)
        )
        load = stepped(noisy(rng, 23 + 78 * pull, 4), 0.1, 0, 100)
        values: dict[str, object] = {
            "engine_run_time": float(int(min(ran, 65_535))),
            "module_voltage": stepped(noisy(rng, 13.78 - 1.6 * self.weak_charging, 0.16), 0.001, 0, 66),
            "engine_load": load,
            "throttle": stepped(noisy(rng, 13 + 30 * pull, 1.5), 0.1, 0, 100),
            "map": stepped(noisy(rng, 32 + 62 * pull, 4), 1, 0, 655),
            "intake_air_temperature": stepped(
                noisy(rng, air + 14 - 9 * min(1.0, speed / 80), 1.5), 1, -40, 215
            ),
            "transmission_temperature": stepped(
                noisy(rng, air * 0.4 + 30 + 38 * warm + 14 * pull + 48 * self.gearbox * warm, 2), 1, -40, 215
            ),
            "oil_pressure": stepped(noisy(rng, pressure, 12), 1, 0, 1500),
            "long_fuel_trim": stepped(noisy(rng, 1.0 + self.trim * 21, 1.2), 0.1, -100, 100),
            "short_fuel_trim": stepped(noisy(rng, 0, 3), 0.1, -100, 100),
            "mil_blinking": self.blinking,
            "outside_temperature": stepped(noisy(rng, air, 0.4), 0.5, -60, 70),
        }
        if self.diesel:
            values["dpf_regenerating"] = self.regenerating
        return values
