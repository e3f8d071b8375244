"""A visit as a calendar file (iCalendar, RFC 5545): one event, with its place and a reminder."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from gateway.domain.appointment import Appointment, AppointmentState, Workshop
from gateway.domain.device import Device
from gateway.web import views
from gateway.web.words import Words

FOLD = 73
"""Octets a line may have before it is folded, without its break (section 3.1 allows 75)."""


def event(
    appointment: Appointment, workshop: Workshop | None, device: Device | None, words: Words, now: int
) -> str:
    """The file's text, lines folded and ended by CRLF."""
    service = views.service_name(appointment, workshop, words)
    summary = f"{service} · {device.title}" if device else service
    place = ", ".join(p for p in (workshop.name, workshop.address) if p) if workshop else ""
    status = "CONFIRMED" if appointment.state is AppointmentState.CONFIRMED else "TENTATIVE"
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Touchpoint//Gateway//EN",
        "BEGIN:VEVENT",
        f"UID:{appointment.id}@touchpoint",
        f"DTSTAMP:{_utc(now)}",
        f"DTSTART:{_utc(appointment.start)}",
        f"DTEND:{_utc(appointment.end)}",
        f"SUMMARY:{_text(summary)}",
        f"LOCATION:{_text(place)}",
        f"DESCRIPTION:{_text(views.promised(appointment, words))}",
        f"STATUS:{status}",
        "BEGIN:VALARM",
        "ACTION:DISPLAY",
        "TRIGGER:-PT2H",
        f"DESCRIPTION:{_text(summary)}",
        "END:VALARM",
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return "".join(f"{_folded(line)}\r\n" for line in lines)


def response(
    appointment: Appointment, workshop: Workshop | None, device: Device | None, words: Words, now: int
) -> web.Response:
    """The file as a download."""
    return web.Response(
        text=event(appointment, workshop, device, words, now),
        content_type="text/calendar",
        charset="utf-8",
        headers={"Content-Disposition": 'attachment; filename="visit.ics"', "Cache-Control": "no-store"},
    )


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")


def _text(value: str) -> str:
    """Escaped as section 3.3.11 asks; no-break spaces become plain ones."""
    plain = value.replace("\u00a0", " ").replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return plain.replace("\r\n", "\n").replace("\n", "\\n")


def _folded(line: str) -> str:
    parts, part, size = [], "", 0
    for char in line:
        width = len(char.encode())
        if size + width > FOLD:
            parts.append(part)
            part, size = " ", 1
        part, size = part + char, size + width
    return "\r\n".join([*parts, part])
