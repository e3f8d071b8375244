"""reports: an owner says that something is wrong, in words or with a photo, and a matter opens at once.

It costs no budget and keeps no quiet hours, for the owner is the one who speaks. What the product sent
around that moment goes with it; times at the owner's workshop follow.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from gateway.domain.appointment import Workshop
from gateway.domain.device import Device, Facts
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.ids import derived_id, new_id
from gateway.domain.moments import DAY_MS, MINUTE_MS
from gateway.domain.policy import OWNER_REPORT, Policy
from gateway.domain.report import Attachment, Report
from gateway.domain.touchpoint import Finding, State, Touchpoint
from gateway.flow import book, outgoing, people
from gateway.ports import Records

PHOTO_MOST = 8 * 1024 * 1024
"""Bytes of a photo that are taken."""
PIXELS_MOST = 50_000_000
"""Pixels of a photo: what a small file unpacks to is bounded, too."""
SIDE_MOST = 2_048
"""Pixels of the longer side that are kept."""
FORMATS = ("JPEG", "PNG", "WEBP")
MEDIA_TYPE = "image/jpeg"
QUALITY = 85

TEXT_MOST = 2_000
AROUND_MS = 30 * MINUTE_MS
"""Readings of so long before go with a report."""
A_DAY_MOST = 20
"""Reports that one owner can make within a day; who has more to say asks to be called."""

Readings = Mapping[str, Sequence[tuple[int, Any]]]
"""{signal: [(ms, value)]}"""


# --- photos ---------------------------------------------------------------------------------------


def photo(body: bytes) -> bytes:
    """A photo as it is kept: a JPEG of at most SIDE_MOST pixels a side, drawn anew, so that nothing of what
    the file said besides (where and with what it was taken) is left. Takes time: call it in a thread.

    Raises InvalidError for what is too large or no JPEG, PNG or WebP.
    """
    if not body:
        raise InvalidError("photo: it is empty.")
    if len(body) > PHOTO_MOST:
        raise InvalidError("photo: it may have up to 8 MB.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(body), formats=FORMATS) as opened:
                return _drawn_anew(opened)
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as e:
        unknown = isinstance(e, UnidentifiedImageError)
        why = "it is no JPEG, PNG or WebP." if unknown else "it could not be read."
        raise InvalidError(f"photo: {why}") from e


def _drawn_anew(opened: Image.Image) -> bytes:
    if opened.width * opened.height > PIXELS_MOST:
        raise InvalidError("photo: it may have up to 50 million pixels.")
    opened.draft("RGB", (SIDE_MOST, SIDE_MOST))
    upright = ImageOps.exif_transpose(opened)
    upright.thumbnail((SIDE_MOST, SIDE_MOST))
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        seen = upright.convert("RGBA")
        upright = Image.new("RGB", seen.size, "white")
        upright.paste(seen, mask=seen.getchannel("A"))
    clean = Image.new("RGB", upright.size)
    clean.paste(upright.convert("RGB"))
    out = io.BytesIO()
    clean.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def attach(
    records: Records, picture: bytes, kind: str, now: int, *, owner: str | None, device: str | None
) -> Attachment:
    """Keep a picture that `photo` gave."""
    attachment = Attachment(
        id=new_id(now),
        owner=owner,
        device=device,
        kind=kind,
        media_type=MEDIA_TYPE,
        body=picture,
        created=now,
    )
    records.attachments.add(attachment)
    return attachment


# --- reports --------------------------------------------------------------------------------------


def said(text: str) -> str:
    """What somebody wrote, as it is kept. Raises InvalidError when it is nothing or too much."""
    kept = text.strip()
    if not kept:
        raise InvalidError("text: say in a few words what is wrong.")
    if len(kept) > TEXT_MOST:
        raise InvalidError(f"text: at most {TEXT_MOST} characters.")
    return kept


def report(
    records: Records,
    *,
    device: str,
    by: str,
    text: str,
    picture: bytes | None,
    readings: Readings,
    now: int,
    policy: Policy,
) -> tuple[Report, Touchpoint]:
    """Open a matter about what the owner says; `picture` as `photo` gave it, `readings` of the last
    AROUND_MS where they are at hand.

    Raises NotFoundError, InvalidError, ConflictError after too many within a day.
    """
    found = records.devices.get(device)
    owner = people.asked(records, found) or by
    text = said(text)
    _check_often(records, by, now)
    facts = _own(records, records.devices.facts(device))
    kept = None
    if picture is not None:
        kept = attach(records, picture, "report", now, owner=owner, device=device).id
    finding = _finding(facts, by, text, kept, now)
    records.touchpoints.add_finding(finding)
    touchpoint = _open(records, found, owner, finding, now, policy)
    made = Report(
        id=new_id(now),
        owner=by,
        device=device,
        text=text,
        photo=kept,
        touchpoint=touchpoint.id,
        around=around(records, facts, readings, now),
        created=now,
    )
    records.reports.add(made)
    person = {} if by == owner else {"person": records.owners.get(by).name}
    code = "reported" if kept is None else "reported_photo"
    outgoing.write_line(records, code, now, touchpoint=touchpoint, text=text, by=by, **person)
    return made, touchpoint


def _own(records: Records, facts: Facts) -> Facts:
    """Without values from before the device had its present owner."""
    since = max((o.since for o in records.devices.ownerships(facts.device) if o.until is None), default=0)
    return replace(facts, latest={name: row for name, row in facts.latest.items() if row[0] >= since})


def _check_often(records: Records, by: str, now: int) -> None:
    recent = records.reports.page(owner=by, limit=A_DAY_MOST)
    if len(recent) == A_DAY_MOST and recent[-1].created > now - DAY_MS:
        raise ConflictError("You have told us a lot today; please ask to be called.", recent[0])


def _finding(facts: Facts, by: str, text: str, picture: str | None, now: int) -> Finding:
    """What the owner found, like any other finding: its evidence is their words and the newest values."""
    fresh = {name: value for name, (ts, value) in facts.latest.items() if ts > now - AROUND_MS}
    evidence: dict[str, Any] = {"ts": now, "text": text, **fresh}
    if picture is not None:
        evidence["photo"] = picture
    return Finding(
        id=derived_id(facts.device, OWNER_REPORT.id, by, new_id(now)),
        device=facts.device,
        rule=OWNER_REPORT.id,
        version=OWNER_REPORT.version,
        severity=OWNER_REPORT.severity,
        position=0,
        began_ts=now,
        found_at=now,
        evidence=evidence,
    )


def _open(
    records: Records, device: Device, owner: str, finding: Finding, now: int, policy: Policy
) -> Touchpoint:
    place = outgoing.workshop_of(records, device)
    touchpoint = Touchpoint(
        id=new_id(now),
        finding=finding.id,
        device=device.id,
        owner=owner,
        rule=OWNER_REPORT.id,
        rule_version=OWNER_REPORT.version,
        kind=OWNER_REPORT.touchpoint_kind,
        service=diagnosing(place),
        severity=OWNER_REPORT.severity,
        purpose=OWNER_REPORT.purpose,
        state=State.OPEN,
        created=now,
        expires_at=now + policy.deferral_max_ms,
        evidence=finding.evidence,
    )
    records.touchpoints.add(touchpoint)
    slots = book.proposals(records, touchpoint, now, policy)
    if not slots:
        return touchpoint
    offered = replace(touchpoint, slots=slots)
    records.touchpoints.save(offered)
    return offered


def diagnosing(place: Workshop | None) -> str:
    """The service under which a workshop finds out what is wrong: `diagnosis`, or else its first one that
    is done at the workshop."""
    wanted = OWNER_REPORT.service or ""
    if place is None or place.service(wanted) is not None:
        return wanted
    return next((s.id for s in place.services if not s.at_home), wanted)


def around(records: Records, facts: Facts, readings: Readings, now: int) -> dict[str, Any]:
    """What the product sent around that moment, as it is kept with a report: the readings, the newest values,
    what rules have found and is still so, and codes."""
    codes = facts.latest.get("dtc", (0, None))[1]
    found = [records.touchpoints.finding(finding) for finding in facts.open]
    return {
        "from": now - AROUND_MS,
        "to": now,
        "readings": {name: [list(row) for row in rows] for name, rows in readings.items() if rows},
        "latest": {name: [ts, value] for name, (ts, value) in facts.latest.items()},
        "open": [{"finding": one.id, "rule": one.rule} for one in found if one is not None],
        "codes": list(codes) if isinstance(codes, list | tuple) else [codes] if codes else [],
    }
