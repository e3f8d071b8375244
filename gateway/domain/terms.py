"""Who pays for a job, said the same on every channel, and whether what was promised was kept.

What nobody stated is not said: no price without the workshop's, no warranty without its date.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.appointment import Appointment, Service, Terms
from gateway.domain.device import Device
from gateway.domain.moments import MINUTE_MS

LATE_MS = 15 * MINUTE_MS
"""Finished so much after the promised end is still in time."""


def terms(service: Service, device: Device | None, day: str, *, recall: bool = False) -> Terms | None:
    """Who pays for `service` on an ISO date; None when nothing is stated. A recall is free by law, the
    manufacturer's warranty pays for what it covers while it runs, a service plan for what it contains,
    else the owner pays the workshop's price while that holds."""
    if recall:
        return Terms(payer="recall")
    if device is not None and service.warranty and (device.warranty_until or "") >= day:
        return Terms(payer="warranty", valid_until=device.warranty_until)
    plan = _plan(device, service.id, day)
    if plan is not None:
        return plan
    held = service.price_valid_until is None or service.price_valid_until >= day
    if not held or (service.price_from is None and service.price_to is None):
        return None
    return Terms(
        payer="owner",
        price_from=service.price_from,
        price_to=service.price_to,
        currency=service.currency,
        vat_percent=service.vat_percent,
        valid_until=service.price_valid_until,
    )


def _plan(device: Device | None, service: str, day: str) -> Terms | None:
    plan = device.plan if device is not None else None
    if not plan or str(plan.get("until", "")) < day:
        return None
    contains = plan.get("services") or ()
    if contains and service not in contains:
        return None
    return Terms(payer="plan", name=str(plan.get("name", "")) or None, valid_until=str(plan["until"]))


def kept(appointment: Appointment, work: Mapping[str, Any], now: int) -> dict[str, bool]:
    """Which promises were kept, of those that were made and can be judged: "time" (done by the promised end),
    "price" (the final price within the range, or nothing where somebody else pays), "fixed" (as the
    workshop says)."""
    found: dict[str, bool] = {}
    if appointment.touchpoint is not None:
        begun = max(appointment.start, appointment.progress.get("in_work", appointment.start))
        promised = appointment.arrive_until or begun
        finished = appointment.progress.get("ready", now)
        found["time"] = finished <= promised + (appointment.end - appointment.start) + LATE_MS
    price, most = work.get("price"), _most(appointment)
    if price is not None and most is not None:
        found["price"] = price <= most + int(work.get("extra_price") or 0)
    if isinstance(work.get("fixed"), bool):
        found["fixed"] = bool(work["fixed"])
    return found


def _most(appointment: Appointment) -> int | None:
    """The most that was promised for all jobs of the visit; None where one of them has no word on it."""
    most = 0
    for service in appointment.jobs:
        said = appointment.terms.get(service)
        if said is None:
            return None
        if said["payer"] == "owner":
            top = said["price_to"] if said["price_to"] is not None else said["price_from"]
            most += top
    return most
