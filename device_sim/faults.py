"""What can go wrong with a device: how often, how long it takes, what it looks like first, who mends it.

How often and how long are orders of magnitude: the share of twelve-volt batteries, tyres and electrics
among breakdowns follows the statistics of the automobile clubs (ADAC Pannenstatistik 2024: battery 44
percent, engine 22, alternator and starter 11, tyres 8), and the sum is set so that a car of some years has
a fault every second year; appliances follow the order of the consumer associations' surveys (pump, heater,
door seal, bearing). Nothing of it is known to the rules. The faults are in faults.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

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


_FILE = Path(__file__).with_name("faults.yaml")


def _read(entry: Mapping[str, Any]) -> Fault:
    lists = {name: tuple(value) for name, value in entry.items() if isinstance(value, list)}
    return Fault(**{**entry, **lists})


FAULTS: dict[str, Fault] = {
    name: _read(entry) for name, entry in yaml.safe_load(_FILE.read_text(encoding="utf-8")).items()
}
"""Fault → what is known about it."""


def can_have(kind: str) -> tuple[str, ...]:
    """The faults that a kind of device can have."""
    return tuple(name for name, fault in FAULTS.items() if kind in fault.kinds)


def progress(name: str, gone: float) -> float:
    """The course of a fault when `gone` of its time is over (0 … 1)."""
    return float(min(1.0, max(0.0, gone)) ** FAULTS[name].curve)
