"""What the pages on which something is answered have in common: the owner's, the call centre's, a link's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web

from gateway.domain import snooze
from gateway.domain.device import Device
from gateway.domain.errors import GoneError, NotFoundError
from gateway.domain.links import Link
from gateway.domain.moments import DAY_MS, local
from gateway.domain.report import Attachment, Report
from gateway.domain.touchpoint import Answer, State, Touchpoint
from gateway.flow import asking, people, respond, returning
from gateway.flow.begun import Begun
from gateway.ports import Records
from gateway.web import views
from gateway.web.access import LANGUAGES, asked_language
from gateway.web.context import Context
from gateway.web.words import Words

SIGNALS_SHOWN = 12
RATED_LEAST = 5
"""Of fewer rated jobs no rating is shown: one bad day would be a verdict, and one could tell who said it."""
RATED_MS = 730 * DAY_MS
"""Ratings count for two years."""


def spoken(request: web.Request) -> str:
    """The language of somebody nobody knows."""
    wanted = request.query.get("lang", "")
    return wanted if wanted in LANGUAGES else asked_language(request.headers.get("Accept-Language", ""))


# --- what was sent ----------------------------------------------------------------------------------


def chosen(form: Mapping[str, Any], *, channel: str, at: int, by: str) -> Answer:
    """The answer that a form holds."""

    def field(name: str) -> str | None:
        value = form.get(name)
        return str(value).strip() or None if value is not None else None

    action = field("action") or ""
    given = {"snooze": "until", "not_now": "until", "already_done": "done_on"}.get(action)
    parameter = field(given) if given else None
    return Answer(
        action=f"{action}:{parameter}" if parameter else action,
        slot=field("slot"),
        comment=field("comment"),
        workshop=field("workshop"),
        place=field("place"),
        channel=channel,
        at=at,
        by=by,
    )


def check_person(records: Records, link: Link) -> None:
    """Whoever has the link acts for its owner, who must still be one that may answer. Raises GoneError."""
    touchpoint = records.touchpoints.get(link.about)
    if not people.may_answer(records, touchpoint.device, link.owner):
        raise GoneError("The product has changed hands since.", link)


def said(after: Touchpoint, *, asks: bool = False) -> str:
    """Which toast tells what an answer did."""
    if asks:
        return "workshop" if after.workshop and after.slots else "times"
    action = after.answer.action if after.answer else ""
    plain = {"call_me": "call", "noted": "noted", "snooze": "snoozed", "already_done": "done"}
    return plain.get(action, action if action in ("not_now", "never") else "closed")


# --- what is shown ----------------------------------------------------------------------------------


def days(now: int, words: Words) -> dict[str, Any]:
    """The days that can be chosen: `choices` with their words, and the bounds of date fields."""
    choices = [
        Shown(word=word, label=words(f"answering.{word}", day=words.when(at, "medium")))
        for word, at in snooze.choices(now, words.zone).items()
    ]
    today = local(now, words.zone).date()
    return {
        "choices": choices,
        "first_day": (today + timedelta(days=1)).isoformat(),
        "today": today.isoformat(),
    }


def rating(rated: tuple[int, float] | None, words: Words) -> str:
    """How a workshop's finished jobs were rated, with how many; a handful say nothing and are not shown."""
    if rated is None or rated[0] < RATED_LEAST:
        return words("rating.too_few")
    return words("rating.of", score=words.number(rated[1], 1), count=rated[0])


def places(records: Records, touchpoint: Touchpoint, now: int | None = None) -> list[Shown]:
    """The workshops that do the job, with how they were rated until `now`; the one whose times are offered is
    marked."""
    device = records.devices.get(touchpoint.device)
    current = touchpoint.slots[0].workshop if touchpoint.slots else touchpoint.workshop or device.workshop
    ratings = records.feedback.ratings("csat", now - RATED_MS) if now is not None else {}
    return [
        Shown(
            id=place.id,
            name=place.name,
            address=place.address,
            current=place.id == current,
            rated=ratings.get(place.id),
        )
        for place in asking.offering(records, touchpoint)
    ]


def begun(found: Begun | None, words: Words, now: int, base: str) -> Shown | None:
    """What somebody began to choose and where, and where it is gone on with."""
    if found is None:
        return None
    said = words(
        f"begun.{found.step}",
        channel=words.texts.say(words.language, f"ledger.channel.{found.channel}"),
        time=words.moment(found.at, now),
    )
    return Shown(said=said, href=f"{base}/{found.step}" if base else f"#{found.step}")


def actions(found: views.Matter, shown: Shown, words: Words) -> list[Shown]:
    """The ways out beside the times: (id, label), what matters most first."""
    ids = ["other_time"] if shown.slots else []
    ids += [] if shown.bookable else ["noted"]
    ids += ["not_now", "call_me"]
    ids += ["never"] if respond.may_mute(found.touchpoint) else []
    return [Shown(id=action, label=words(f"act.{action}")) for action in ids]


def returns(found: views.Matter, words: Words, now: int, url: str) -> Shown | None:
    """When a matter that was put off comes back, and how that is changed; None for any other."""
    if not returning.returns(found.touchpoint):
        return None
    at = found.touchpoint.wake_at or now
    moment = f"{words.when(at)}, {words.when(at, 'time')}"
    return Shown(
        said=words("answering.returns", until=moment),
        url=url,
        fields={},
        day=local(at, words.zone).date().isoformat(),
        first_day=days(now, words)["first_day"],
    )


def status(found: views.Matter, words: Words) -> Shown | None:
    """What became of the matter; None while it waits for the owner."""
    touchpoint = found.touchpoint
    answer, state = touchpoint.answer, touchpoint.state
    if answer is None and state in (State.OPEN, State.DEFERRED):
        return None
    appointment = found.appointment
    if appointment is not None and state in (State.BOOKED, State.FULFILLED):
        tone = views.appointment_state(words, appointment.state)
        moment = f"{words.when(appointment.start, 'long')}, {words.when(appointment.start, 'time')}"
        text = words("status.visit", moment=moment, workshop=found.workshop.name if found.workshop else "")
        return Shown(
            tone=tone.tone,
            icon=tone.icon,
            word=tone.word,
            text=text,
            href=f"/me/visits/{appointment.id}",
            link=words("status.see_visit"),
        )
    tone_name = "calm" if state in (State.WITHDRAWN, State.EXPIRED, State.DEFERRED) else "done"
    return Shown(
        tone=tone_name,
        icon="clock" if state is State.DEFERRED else "check",
        word=words(f"state.{state}"),
        text=_status_text(found, words),
        href=None,
        link=None,
    )


def _status_text(found: views.Matter, words: Words) -> str:
    answer, state = found.touchpoint.answer, found.touchpoint.state
    if state in (State.WITHDRAWN, State.EXPIRED):
        return words(f"status.{state}")
    if answer is not None and found.touchpoint.wake_at is not None:
        key = "status.not_now_until" if answer.action == "not_now" else f"status.{answer.action}"
        at = found.touchpoint.wake_at
        if words.has(key):
            return words(key, until=f"{words.when(at)}, {words.when(at, 'time')}")
    key = f"status.{answer.action}" if answer else ""
    return words(key) if words.has(key) and answer and answer.action != "snooze" else words(f"status.{state}")


def reported(report: Report | None, device: Device | None, context: Context, words: Words) -> Shown | None:
    """What an owner said themselves, with their photo and what the product sent around then."""
    if report is None:
        return None
    readings, kind = report.around.get("readings") or {}, device.kind if device else ""
    rows = []
    for name, course in list(readings.items())[:SIGNALS_SHOWN]:
        signal = context.signals.signal(kind, name)
        label = words.label(signal.label, name) if signal else name
        rows.append((label, [views.value_words(signal, course[-1][1], words)]))
    count = sum(len(course) for course in readings.values())
    return Shown(
        text=report.text,
        photo=f"/attachments/{report.photo}" if report.photo else None,
        around=words("report.around", count=count) if count else "",
        rows=rows,
    )


def workshop_name(records: Records, touchpoint_id: str | None) -> str:
    """Where the job of a touchpoint was done, "" when it was nowhere."""
    done = records.workshops.appointments(touchpoint=touchpoint_id) if touchpoint_id else []
    try:
        return records.workshops.get(done[-1].workshop).name if done else ""
    except NotFoundError:
        return ""


def picture(kept: Attachment) -> web.Response:
    """A picture as the answer; what it holds is drawn by us, and it is nothing but a picture."""
    return web.Response(
        body=kept.body,
        content_type=kept.media_type,
        headers={
            "Cache-Control": "private, max-age=3600",
            "Content-Disposition": "inline",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )
