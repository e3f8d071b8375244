"""A visit as a calendar file (iCalendar, RFC 5545): one event, with its place and a reminder.

Its UID and SEQUENCE are those of the invitation and of the feed, so that a calendar that gets it on several
ways holds it once.
"""

from __future__ import annotations

from aiohttp import web

from gateway.domain import ical
from gateway.domain.appointment import ENDED, PENDING, Appointment, Workshop
from gateway.domain.calendars import CalendarEvent
from gateway.domain.device import Device
from gateway.web import views
from gateway.web.words import Words

REMINDER_MINUTES = 120


def event(
    appointment: Appointment,
    workshop: Workshop | None,
    device: Device | None,
    words: Words,
    now: int,
    *,
    known: CalendarEvent | None = None,
    domain: str = "touchpoint",
) -> str:
    """The file's text; `known` is the event as it stands in calendars, `domain` that of a new one's UID."""
    service = views.service_name(appointment, workshop, words)
    place = ", ".join(p for p in (workshop.name, workshop.address) if p) if workshop else ""
    visit = ical.Visit(
        uid=known.uid if known else f"{appointment.id}@{domain}",
        sequence=known.sequence if known else 0,
        stamp=now,
        start=appointment.start,
        end=appointment.end,
        zone="UTC",
        status=_status(appointment),
        summary=f"{service} · {device.title}" if device else service,
        description=views.promised(appointment, words),
        location=appointment.address or place,
        alarm_minutes=REMINDER_MINUTES,
    )
    return ical.calendar([visit]).decode()


def _status(appointment: Appointment) -> str:
    if appointment.state in ENDED:
        return "CANCELLED"
    return "TENTATIVE" if appointment.state in PENDING else "CONFIRMED"


def response(
    appointment: Appointment,
    workshop: Workshop | None,
    device: Device | None,
    words: Words,
    now: int,
    *,
    known: CalendarEvent | None = None,
    domain: str = "touchpoint",
) -> web.Response:
    """The file as a download."""
    return web.Response(
        text=event(appointment, workshop, device, words, now, known=known, domain=domain),
        content_type="text/calendar",
        charset="utf-8",
        headers={"Content-Disposition": 'attachment; filename="visit.ics"', "Cache-Control": "no-store"},
    )
