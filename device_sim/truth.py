"""The truth table of a scenario: what is really wrong with which device, and since when.

The rules never see it. It is what their findings are measured against.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from device_sim.faults import FAULTS
from device_sim.scenario import DevicePart, Scenario

DUE = {
    "pad_wear_front": (85.0, "brakes-front"),
    "pad_wear_rear": (85.0, "brakes-rear"),
    "washes_since_descale": (35.0, "descale"),
}
"""State → from which value on it is due, and the service that sets it back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """Something that is wrong with a device until a service is done."""

    device: str
    what: str
    """the fault, or the state that is due"""
    service: str
    since: int
    """ms: the onset of a fault; for wear a time at which it is due for certain"""
    until: int | None
    """ms at which a fault has gone all the way; None for wear, which the device itself reports"""


def truth(scenario: Scenario) -> list[Truth]:
    """All that is wrong within the scenario's span, by time."""
    rows = [row for device in scenario.part.devices for row in _of(scenario, device)]
    return sorted(rows, key=lambda row: (row.since, row.device, row.what))


def _of(scenario: Scenario, device: DevicePart) -> Iterator[Truth]:
    for fault in device.faults:
        since = scenario.ms(fault.onset)
        services = FAULTS[fault.fault].services
        if services and since < scenario.end and since + fault.over > scenario.start:
            yield Truth(
                device=device.id,
                what=fault.fault,
                service=services[0],
                since=since,
                until=since + fault.over,
            )
    for state, mark in device.marks.items():
        due, service = DUE.get(state, (float("inf"), ""))
        if mark.value >= due:
            yield Truth(device=device.id, what=state, service=service, since=scenario.ms(mark.at), until=None)
