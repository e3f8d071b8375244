"""diagnose: what a workshop is told with a booking: all that was found, who pays, what was promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gateway.domain.appointment import AppointmentState, Service, Workshop
from gateway.domain.errors import NotFoundError
from gateway.domain.moments import DAY_MS, local
from gateway.domain.terms import terms
from gateway.domain.touchpoint import Touchpoint
from gateway.ports import Records

CHARTED_MS = 90 * DAY_MS
"""How far back the course of a signal is shown to the workshop."""


def terms_of(
    records: Records, touchpoint: Touchpoint, place: Workshop, wanted: Sequence[str], now: int
) -> dict[str, Any]:
    """Who pays for each service, as it is stated now; what is stated nowhere is missing."""
    device = records.devices.find(touchpoint.device)
    day = local(now, place.time_zone).date().isoformat()
    recalled = {m.service for m in _matters(records, touchpoint) if m.purpose == "recall"}
    found = {}
    for service in filter(None, map(place.service, wanted)):
        said = terms(service, device, day, recall=service.id in recalled)
        if said is not None:
            found[service.id] = asdict(said)
    return found


def _matters(records: Records, touchpoint: Touchpoint) -> Sequence[Any]:
    try:
        return records.touchpoints.matters(touchpoint.id)
    except NotFoundError:
        return [touchpoint]


def diagnosis(
    records: Records,
    touchpoint: Touchpoint,
    service: Service,
    place: Workshop,
    said: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What the workshop is told: all that was found, with which readings, where their course can be read,
    what it was here for before, and what the owner was promised. `said` is who pays for each job."""
    device = records.devices.find(touchpoint.device)
    latest = records.devices.facts(touchpoint.device).latest
    codes = latest.get("dtc", (0, None))[1]
    return {
        "finding": touchpoint.finding,
        "rule": touchpoint.rule,
        "rule_version": touchpoint.rule_version,
        "evidence": dict(touchpoint.evidence),
        "matters": [_told(m) for m in _matters(records, touchpoint)],
        "codes": list(codes) if isinstance(codes, list | tuple) else [codes] if codes else [],
        "odometer": latest.get("odometer", (0, None))[1],
        "firmware": device.firmware if device else None,
        "charts": [_course(signal, latest) for signal in touchpoint.evidence if signal in latest],
        **_said(records, touchpoint),
        "earlier": _earlier(records, touchpoint, place),
        "promised": _promised(service, said),
    }


def _promised(service: Service, said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How long it takes, and what the owner pays where they pay for all of it."""
    theirs = bool(said) and all(each["payer"] == "owner" for each in said.values())
    return {
        "minutes": service.minutes,
        "price_from": service.price_from if theirs else None,
        "price_to": service.price_to if theirs else None,
        "currency": service.currency,
    }


def _said(records: Records, touchpoint: Touchpoint) -> dict[str, Any]:
    """What the owner said themselves, with the readings around that moment."""
    report = records.reports.of_touchpoint(touchpoint.id)
    if report is None:
        return {}
    return {"report": {"text": report.text, "photo": report.photo, "around": dict(report.around)}}


def _course(signal: str, latest: Mapping[str, tuple[int, Any]]) -> dict[str, Any]:
    """Which readings show what was found: `from` and `to` are ms."""
    until = latest[signal][0]
    return {"signal": signal, "from": until - CHARTED_MS, "to": until}


def _told(matter: Any) -> dict[str, Any]:
    """One of the things that were found."""
    named = ("finding", "rule", "service", "severity")
    return {name: getattr(matter, name) for name in named} | {"evidence": dict(matter.evidence)}


def _earlier(records: Records, touchpoint: Touchpoint, place: Workshop) -> list[dict[str, Any]]:
    """This owner's last visits there with this product, the newest first."""
    found = records.workshops.appointments(
        device=touchpoint.device, owner=touchpoint.owner, workshop=place.id, states=(AppointmentState.DONE,)
    )
    return [
        {"appointment": a.id, "at": a.start, "services": list(a.jobs), "note": a.work.get("note", "")}
        for a in reversed(found[-3:])
    ]
