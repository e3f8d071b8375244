"""What can go wrong with a device: how often, how long it takes, what it looks like first, who mends it.

How often and how long are orders of magnitude: the share of twelve-volt batteries, tyres and electrics
among breakdowns follows the statistics of the automobile clubs (ADAC Pannenstatistik 2024: battery 44
percent, engine 22, alternator and starter 11, tyres 8), and the sum is set so that a car of some years has
a fault every second year; appliances follow the order of the consumer associations' surveys (pump, heater,
door seal, bearing). Nothing in here is known to the rules.
"""

from __future__ import annotations

from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A way to go wrong. Its course is the share that has gone: 0 at the onset, 1 at `over` after it."""

    kinds: tuple[str, ...]
    services: tuple[str, ...]
    """that mend it, the usual one first; a contact that leads to one of them is right"""
    eases: tuple[str, ...] = ()
    """that are right to offer, and mend nothing"""
    days: tuple[float, float]
    """shortest and longest course"""
    rate: float
    """onsets a year and device"""
    breaks: float | None = 1.0
    """share of the course at which the device fails; None: it never stops working"""
    curve: float = 1.0
    """exponent of the course: 1 goes on evenly, 2 begins slowly and ends fast"""
    for_models: str = ""
    """only units of this make-up: combustion, diesel, electric, brine"""
    looks: str
    """what it looks like before it breaks"""


CAR, WASHER, DISHWASHER = ("car",), ("washing_machine",), ("dishwasher",)
COFFEE, FRIDGE, PUMP = ("coffee_machine",), ("refrigerator",), ("heat_pump",)

FAULTS: dict[str, Fault] = {
    # --- cars
    "coolant_leak": Fault(
        kinds=CAR, services=("cooling-system",), days=(30, 70), rate=0.04, breaks=0.8,
        for_models="combustion",
        looks="the level falls below the mark at a seventh of the course, beyond three quarters it boils",
    ),
    "battery_ageing": Fault(
        kinds=CAR, services=("battery",), eases=("battery-charge",), days=(80, 200), rate=0.09, breaks=0.86,
        looks="the voltage at rest sinks from 12.7 to 11.6 V, cranking takes more and more of it",
    ),
    "alternator_weak": Fault(
        kinds=CAR, services=("alternator",), days=(12, 30), rate=0.02, for_models="combustion",
        looks="the voltage while running sinks from 13.9 V to the battery's own",
    ),
    "misfire": Fault(
        kinds=CAR, services=("ignition", "diagnosis"), days=(20, 50), rate=0.03, for_models="combustion",
        looks="P0301 in more and more trips, then always; near the end the light blinks",
    ),
    "thermostat_stuck": Fault(
        kinds=CAR, services=("cooling-system",), eases=("driving-habits",), days=(60, 120),
        rate=0.02, for_models="combustion",
        looks="the engine never gets warmer than some 60 °C",
    ),
    "mixture_lean": Fault(
        kinds=CAR, services=("diagnosis",), days=(40, 100), rate=0.02, for_models="combustion",
        looks="the long fuel trim rises from 0 to 22 percent; at nine tenths P0171",
    ),
    "gearbox_wear": Fault(
        kinds=CAR, services=("gearbox",), days=(40, 90), rate=0.01, for_models="combustion",
        looks="the oil of the gearbox gets up to 45 K hotter",
    ),
    "oil_leak": Fault(
        kinds=CAR, services=("oil-top-up", "oil-system"), days=(40, 90), rate=0.03, for_models="combustion",
        looks="the level is low from a third of the course on, the pressure falls near the end",
    ),
    "brake_fluid_leak": Fault(
        kinds=CAR, services=("brake-fluid",), days=(25, 60), rate=0.01,
        looks="the float closes from a third of the course on",
    ),
    "tyre_leak": Fault(
        kinds=CAR, services=("tyres",), eases=("tyre-pressure",), days=(8, 30), rate=0.10,
        looks="one tyre loses 3 to 11 kPa a day until it is flat at 150 kPa",
    ),
    "lamp_failure": Fault(
        kinds=CAR, services=("lights",), days=(40, 60), rate=0.10,
        looks="a lamp is dark at once; somebody else points it out in the end",
    ),
    "wheel_sensor": Fault(
        kinds=CAR, services=("brake-electronics", "diagnosis"), days=(40, 90), rate=0.02,
        looks="C0035 and the ABS light from the onset on",
    ),
    "airbag_plug": Fault(
        kinds=CAR, services=("airbags",), days=(40, 90), rate=0.01,
        looks="B0010 from the onset on",
    ),
    "bus_contact": Fault(
        kinds=CAR, services=("diagnosis",), days=(60, 120), rate=0.01,
        looks="U0121, always",
    ),
    "catalyst_worn": Fault(
        kinds=CAR, services=("exhaust", "diagnosis"), days=(60, 120), rate=0.02, for_models="combustion",
        looks="P0420, always",
    ),
    "filter_blocked": Fault(
        kinds=CAR, services=("exhaust", "diagnosis"), eases=("dpf-drive",), days=(25, 60),
        rate=0.05, for_models="diesel",
        looks="soot rises, regenerations do not end; at two thirds P2463",
    ),
    "tyre_sensor_dead": Fault(
        kinds=CAR, services=("tyre-sensors",), days=(60, 90), rate=0.02, breaks=None,
        looks="one pressure is not reported any more",
    ),
    "idle_current": Fault(
        kinds=CAR, services=("idle-current",), eases=("battery-charge", "battery"), days=(40, 80), rate=0.01,
        looks="parked for days, the voltage sinks by tenths of a volt a day",
    ),
    "cells_uneven": Fault(
        kinds=CAR, services=("traction-battery",), days=(60, 150), rate=0.03, for_models="electric",
        looks="one cell's voltage stands up to 0.2 V below the others'",
    ),
    "pack_fade": Fault(
        kinds=CAR, services=("traction-battery",), days=(120, 200), rate=0.02, for_models="electric",
        looks="the health falls by a tenth of a percent a day",
    ),
    "pack_contactor": Fault(
        kinds=CAR, services=("traction-battery",), days=(20, 40), rate=0.01, for_models="electric",
        looks="P0AA1, always",
    ),
    # --- washing machines
    "pump_clogging": Fault(
        kinds=WASHER, services=("drain-pump",), days=(40, 90), rate=0.10, breaks=0.86,
        looks="draining takes longer and longer, near the end F21",
    ),
    "dampers_worn": Fault(
        kinds=WASHER, services=("dampers",), days=(90, 180), rate=0.05,
        looks="it shakes up to four times as much",
    ),
    "heater_scaled": Fault(
        kinds=WASHER, services=("heating",), days=(60, 140), rate=0.06,
        looks="the water warms more and more slowly",
    ),
    "bearing_worn": Fault(
        kinds=WASHER, services=("drum-bearing",), days=(80, 160), rate=0.05, curve=1.4,
        looks="the bearing's vibration rises from 2 to 14 m/s²",
    ),
    "pump_stiff": Fault(
        kinds=("washing_machine", "dishwasher"), services=("drain-pump",), days=(60, 120), rate=0.05,
        looks="the pump's current rises from 0.2 to 0.65 A",
    ),
    "inlet_strainer": Fault(
        kinds=WASHER, services=("clean-inlet-filter",), days=(60, 150), rate=0.05,
        looks="filling takes three times as long",
    ),
    "water_leak": Fault(
        kinds=("washing_machine", "dishwasher"), services=("leak",), days=(3, 8), rate=0.02,
        looks="water stands in the base from the onset on; some days later the machine locks itself",
    ),
    # --- dishwashers
    "dish_heater": Fault(
        kinds=DISHWASHER, services=("heating",), days=(60, 140), rate=0.06,
        looks="the water warms more and more slowly",
    ),
    "spray_arm": Fault(
        kinds=DISHWASHER, services=("clean-spray-arms",), days=(30, 60), rate=0.12,
        looks="the lower arm stands still in more and more runs",
    ),
    "drain_blocked": Fault(
        kinds=DISHWASHER, services=("drain-pump",), days=(25, 50), rate=0.06,
        looks="F24 now and then, then in every run",
    ),
    # --- coffee machines
    "brew_seal": Fault(
        kinds=COFFEE, services=("brew-pressure",), days=(60, 140), rate=0.08,
        looks="the pressure sinks from 9 to 4 bar",
    ),
    "grinder_dull": Fault(
        kinds=COFFEE, services=("grinder",), days=(70, 130), rate=0.06,
        looks="grinding takes up to twice as long",
    ),
    "grinder_jams": Fault(
        kinds=COFFEE, services=("grinder",), days=(20, 40), rate=0.04,
        looks="its current peaks above 2 A in more and more cups",
    ),
    "boiler_scaled": Fault(
        kinds=COFFEE, services=("heating", "descale"), days=(80, 160), rate=0.06,
        looks="warming up takes up to three times as long",
    ),
    "thermostat_drifts": Fault(
        kinds=COFFEE, services=("brew-temperature",), days=(50, 110), rate=0.05,
        looks="the brewing temperature wanders by up to 10 K",
    ),
    # --- refrigerators
    "refrigerant_loss": Fault(
        kinds=FRIDGE, services=("cooling-circuit",), eases=("fridge-place", "door-seal"),
        days=(60, 140), rate=0.06,
        looks="the compressor runs more and more, then without a break; then it gets warm",
    ),
    "defrost_heater": Fault(
        kinds=FRIDGE, services=("defrosting",), days=(30, 70), rate=0.04,
        looks="it defrosts twice, then four times as often",
    ),
    "condenser_dust": Fault(
        kinds=FRIDGE, services=("clean-condenser",), eases=("fridge-place",), days=(90, 180), rate=0.15,
        looks="the condenser is up to 12 K warmer than it was, the compressor runs longer",
    ),
    "freezer_sensor": Fault(
        kinds=FRIDGE, services=("sensor",), days=(30, 60), rate=0.02, breaks=None,
        looks="the freezer's temperature is not reported any more",
    ),
    # --- heat pumps
    "refrigerant_leak": Fault(
        kinds=PUMP, services=("refrigerant-circuit", "heat-pump-inspection"), days=(50, 120), rate=0.05,
        looks="superheat rises from 6 to 25 K, the COP falls",
    ),
    "evaporator_dirty": Fault(
        kinds=PUMP, services=("heat-pump-inspection", "evaporator"), days=(60, 120), rate=0.05,
        looks="the COP falls by up to a half",
    ),
    "strainer_clogged": Fault(
        kinds=PUMP, services=("strainer",), days=(60, 130), rate=0.08,
        looks="the flow falls to half of what it was",
    ),
    "heating_leak": Fault(
        kinds=PUMP, services=("heating-leak",), eases=("refill-heating-water",), days=(30, 70),
        rate=0.07, breaks=0.9,
        looks="the heating water's pressure sinks from 1.7 to 0.5 bar",
    ),
    "brine_leak": Fault(
        kinds=PUMP, services=("refill-brine",), days=(60, 150), rate=0.05, for_models="brine",
        looks="the brine's pressure sinks from 1.6 to 0.5 bar",
    ),
    "pressure_switch": Fault(
        kinds=PUMP, services=("refrigerant-circuit",), days=(20, 45), rate=0.03,
        looks="F31 every few days, then several times a day",
    ),
    # --- anything
    "trouble_code": Fault(
        kinds=CAR, services=(), days=(1, 1), rate=0.0, breaks=None,
        looks="a code of the scenario's choice, which comes and goes",
    ),
}  # fmt: skip
"""Fault → what is known about it."""


def can_have(kind: str) -> tuple[str, ...]:
    """The faults that a kind of device can have."""
    return tuple(name for name, fault in FAULTS.items() if kind in fault.kinds)


def progress(name: str, gone: float) -> float:
    """The course of a fault when `gone` of its time is over (0 … 1)."""
    return float(min(1.0, max(0.0, gone)) ** FAULTS[name].curve)
