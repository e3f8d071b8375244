"""Who pays for a job, said the same on every channel.

What nobody stated is not said: no price without the workshop's, no warranty without its date.
"""

from __future__ import annotations

from gateway.domain.appointment import Service, Terms
from gateway.domain.device import Device


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
