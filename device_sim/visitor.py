"""What somebody who tries the demo makes happen to a device: its physics change, and it reports what it has.

From the report on all goes its usual way: nothing is told to the gateway but by the device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from device_sim.appliances import WasherUnit
from device_sim.cars import CarUnit
from device_sim.fleet import Fleet
from device_sim.wire import Reading, Said

WORN, ALREADY = 92.0, 89.9
"""percent: some 2.8 mm of 12 are left; from where on it counts as worn already"""
CLOGGED = 0.95
MINUTE_MS = 60_000
ABROAD_MS = 24 * 60 * MINUTE_MS
OFFLINE_MS = 3 * 60 * MINUTE_MS
ABROAD = "AT"


def wear_pads(fleet: Fleet, device: str, at: int) -> None:
    """The front pads are worn; where they are already, the rear ones."""
    unit = fleet.units[device]
    if not isinstance(unit, CarUnit):
        return

    def worn() -> Said:
        part = "pad_rear" if unit.car.pad_front >= ALREADY else "pad_front"
        setattr(unit.car, part, max(WORN, getattr(unit.car, part)))
        return unit.report(at)

    unit.later(at, worn)


def break_pump(fleet: Fleet, device: str, at: int) -> None:
    """The drain pump stands: the machine tries twice, a minute apart, and both end with the code for it."""
    unit = fleet.units[device]
    if not isinstance(unit, WasherUnit):
        return

    def stands() -> Said:
        unit.machine.clogging = CLOGGED
        return _says(at, fault_codes=["F21"])

    unit.later(at, stands)
    for minutes, codes in ((1, []), (2, ["F21"])):
        then = at + minutes * MINUTE_MS
        unit.later(then, partial(_says, then, fault_codes=codes))


def cross_border(fleet: Fleet, device: str, at: int) -> None:
    """The car's modem is in a network of another country, and a day later at home again."""
    unit = fleet.units[device]
    unit.later(at, partial(_says, at, home_country="DE", network_country=ABROAD))
    home = at + ABROAD_MS
    unit.later(home, partial(_says, home, network_country="DE"))


def lose_network(fleet: Fleet, device: str, at: int) -> None:
    """No network for three hours; what it measures meanwhile comes late."""
    fleet.cut(device, at, at + OFFLINE_MS)


def _says(at: int, **signals: object) -> Said:
    return [Reading(ts=at, signals=signals)]


ACTS: dict[str, tuple[str, Callable[[Fleet, str, int], None]]] = {
    "wear_pads": ("car", wear_pads),
    "break_pump": ("appliance", break_pump),
    "cross_border": ("car", cross_border),
    "lose_network": ("car", lose_network),
}
"""name → (of whose cast, what happens)"""
