"""What pages show of a visit's course: how far it is, what is asked, and on which terms. Views only."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace as Shown

from gateway.domain.appointment import (
    HERE,
    PENDING,
    STANDING,
    Appointment,
    AppointmentState,
    ExtraState,
    ExtraWork,
    Workshop,
)
from gateway.domain.visit_words import arrival, terms_of_visit
from gateway.flow import book
from gateway.web.words import Words

STEPS = ("checked_in", "in_work", "ready")
TONES = {
    ExtraState.ASKED: ("calm", "clock"),
    ExtraState.APPROVED: ("done", "check"),
    ExtraState.DECLINED: ("calm", "close"),
    ExtraState.LAPSED: ("calm", "close"),
}


def moment(ms: int, words: Words) -> str:
    """A day and time in the reader's zone."""
    return f"{words.when(ms, 'medium')}, {words.when(ms, 'time')}"


def visit_time(appointment: Appointment, words: Words) -> str:
    """Its time; at home the window in which the technician arrives."""
    return arrival(
        words.texts, words.language, appointment.start, appointment.arrive_until, words.zone, "moment_short"
    )


def date_time(appointment: Appointment, words: Words) -> str:
    """Date and time below the weekday; at home the arrival window."""
    until = appointment.arrive_until
    to = f"–{words.when(until, 'time')}" if until is not None else ""
    return f"{words.when(appointment.start, 'date')}, {words.when(appointment.start, 'time')}{to}"


def steps(appointment: Appointment, words: Words) -> list[Shown]:
    """What has happened on the day; empty before it began."""
    return [
        Shown(text=words(f"progress.{step}"), when=words.when(appointment.progress[step], "time"))
        for step in STEPS
        if step in appointment.progress
    ]


def extra(one: ExtraWork, words: Words, now: int) -> Shown:
    """A question for extra work, with its answer or until when it can be answered."""
    tone, icon = TONES[one.state]
    return Shown(
        id=one.id,
        url=f"/me/extra-work/{one.id}",
        reason=one.reason,
        price=words.texts.price(words.language, one.price, one.price, one.currency),
        takes=words("extra.takes", time=words.minutes(one.minutes)) if one.minutes else "",
        photo=f"/attachments/{one.photo}" if one.photo else None,
        state=Shown(tone=tone, icon=icon, word=words(f"extra.{one.state}")),
        open=one.state is ExtraState.ASKED and one.answer_by > now,
        until=words("extra.until", time=words.moment(one.answer_by, now)),
    )


def owner(
    appointment: Appointment,
    extras: Sequence[ExtraWork],
    workshop: Workshop | None,
    words: Words,
    now: int,
) -> Shown:
    """Everything that an owner's visit page says beyond when and where."""
    a = appointment
    before = a.state in (*PENDING, AppointmentState.CONFIRMED)
    asks_stay = before and a.stay is None and a.address is None and a.touchpoint is not None
    cars = workshop is None or workshop.replacement_cars != 0
    by = moment(a.answer_by, words) if a.answer_by is not None else ""
    return Shown(
        steps=steps(a, words),
        ready=a.state is AppointmentState.READY,
        extras=[extra(one, words, now) for one in extras],
        terms=terms_of_visit(words.texts, words.language, a.terms),
        at_home=words("visit.at_home", address=a.address) if a.address else "",
        stay=words(f"stay.{a.stay}") if a.stay else "",
        stays=[(key, words(f"stay.choose_{key}")) for key in book.STAYS if key != "replacement_car" or cars]
        if asks_stay
        else [],
        wishes=[moment(start, words) for start in a.wished],
        offers=[(start, moment(start, words)) for start in a.offered]
        if a.state is AppointmentState.COUNTERED
        else [],
        answer_by=words(f"visit.by_{'owner' if a.offered else 'workshop'}", moment=by) if by else "",
        reason=a.reason if a.state not in STANDING else None,
        can_wish=a.touchpoint is not None
        and a.state in (AppointmentState.REQUESTED, AppointmentState.CONFIRMED, AppointmentState.COUNTERED),
    )


def workshop(appointment: Appointment, extras: Sequence[ExtraWork], words: Words, now: int) -> Shown:
    """What the workshop can say next, and what it has to know about the owner's time."""
    a = appointment
    here = a.state in HERE
    begun = now >= a.start - 24 * 3_600_000
    order = (AppointmentState.CONFIRMED, *HERE)
    at = order.index(a.state) if a.state in order else len(order)
    lines = [
        words("booking.by", moment=moment(a.answer_by, words)) if a.answer_by else "",
        words(f"booking.stay.{a.stay}") if a.stay else "",
        words("booking.at_home", address=a.address, time=visit_time(a, words)) if a.address else "",
        terms_of_visit(words.texts, words.language, a.terms) or "",
        a.reason or "",
    ]
    return Shown(
        lines=[line for line in lines if line],
        steps=steps(a, words),
        wishes=[(start, moment(start, words)) for start in a.wished],
        next=[(step, words(f"progress.say_{step}")) for step in STEPS[at : at + 2]] if begun else [],
        extras=[extra(one, words, now) for one in extras],
        can_ask=a.owner is not None and (here or (a.state is AppointmentState.CONFIRMED and now >= a.start)),
        can_decline=a.state in (AppointmentState.REQUESTED, AppointmentState.WISHED) or bool(a.wished),
        can_cancel=a.state is AppointmentState.CONFIRMED,
        here=here,
    )
