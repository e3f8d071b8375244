"""What owners report themselves, and pictures that belong to matters."""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode

from gateway.domain.access import Role
from gateway.domain.device import Facts
from gateway.domain.errors import InvalidError
from gateway.domain.report import Report
from gateway.flow import reports
from gateway.ports import Records
from gateway.web import around, rights
from gateway.web.access import STAFF
from gateway.web.api.endpoint import BODY_MOST, Call, Endpoints, ListQuery, Page, page
from gateway.web.api.shapes import AttachmentIn, AttachmentOut, ReportIn, ReportOut, TouchpointOut

PHOTO_BODY_MOST = reports.PHOTO_MOST * 4 // 3 + BODY_MOST
"""Bytes of a body that may hold a photo in base64."""

endpoints = Endpoints("Reports")


@endpoints.post("/devices/{device_id}/reports", Role.OWNER, *STAFF, most=PHOTO_BODY_MOST)
async def report(call: Call, device_id: str, body: ReportIn) -> ReportOut:
    """Say that something is wrong with a product, in words and perhaps with a photo.

    A matter opens at once, with times at the owner's workshop; no budget and no quiet hours apply. The
    readings of the last 30 minutes, the newest values, codes and what rules have found go with it. A photo
    (JPEG, PNG or WebP, up to 8 MB) is drawn anew: nothing of what the file said besides is kept.
    """
    reports.said(body.text)
    picture = await photo_of(body.photo) if body.photo is not None else None
    facts, spans = await call.read(lambda r: reporting(r, call, device_id))
    readings = await around.readings(call.context, facts, spans, call.now)

    def work(records: Records) -> ReportOut:
        found = rights.reportable(records, call.who, device_id)
        made, touchpoint = reports.report(
            records,
            device=device_id,
            by=call.who.subject or found.owner or "",
            text=body.text,
            picture=picture,
            readings=readings,
            now=call.now,
            policy=call.context.policy,
        )
        return ReportOut.of_report(made, TouchpointOut.of(touchpoint))

    return await call.write(work)


def reporting(records: Records, call: Call, device_id: str) -> tuple[Facts, list[rights.Interval]]:
    """What is known of a device that somebody may report on, and of which times they may know."""
    rights.reportable(records, call.who, device_id)
    return records.devices.facts(device_id), rights.intervals(records, call.who, device_id)


@endpoints.get("/devices/{device_id}/reports", Role.OWNER, *STAFF)
async def list_reports(call: Call, device_id: str, query: ListQuery) -> Page[ReportOut]:
    """List what was reported of a product, newest first: an owner's own, or all."""

    def work(records: Records) -> list[Report]:
        rights.device(records, call.who, device_id)
        theirs = call.who.subject if call.who.role is Role.OWNER else None
        return records.reports.page(
            device=device_id, owner=theirs, after=query.after(), limit=query.limit + 1
        )

    rows = await call.read(work)
    return page(rows, query.limit, ReportOut.of_report, lambda one: one.id)


@endpoints.post("/appointments/{appointment_id}/photos", Role.WORKSHOP, *STAFF, most=PHOTO_BODY_MOST)
async def add_photo(call: Call, appointment_id: str, body: AttachmentIn) -> AttachmentOut:
    """Keep a photo for an appointment, to be named when extra work is asked for."""
    picture = await photo_of(body.photo)

    def work(records: Records) -> AttachmentOut:
        found = rights.appointment(records, call.who, appointment_id)
        return AttachmentOut.of(
            reports.attach(records, picture, "extra_work", call.now, owner=found.owner, device=found.device)
        )

    return await call.write(work)


async def photo_of(encoded: str) -> bytes:
    """The photo that a text holds in base64, drawn anew. Raises InvalidError."""
    try:
        raw = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError("photo: base64 is expected.") from error
    return await asyncio.to_thread(reports.photo, raw)
