"""Workshops, appointments, holds; the database decides who gets a slot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction, one_of
from gateway.domain.appointment import (
    BUSY,
    PENDING,
    Appointment,
    AppointmentState,
    BusyTime,
    ExtraState,
    ExtraWork,
    Hold,
    Workshop,
)
from gateway.domain.errors import ConflictError, NotFoundError, SlotTakenError

_WORKSHOP = Shape(Workshop, tables.workshops)
_APPOINTMENT = Shape(Appointment, tables.appointments)
_HOLD = Shape(Hold, tables.holds)
_BUSY_TIME = Shape(BusyTime, tables.busy_times)
_EXTRA = Shape(ExtraWork, tables.extra_work)

_LONGEST_BUFFER_MS = 86_400_000
"""No bay needs longer after a job; so the index on `end` finds what may still take it."""


_PLACE: sa.BindParameter[str] = sa.bindparam("workshop")
_START: sa.BindParameter[int] = sa.bindparam("start")
_END: sa.BindParameter[int] = sa.bindparam("end")
_A, _B, _H = tables.appointments.c, tables.busy_times.c, tables.holds.c
_BOOKED = Prepared(
    sa.select(_A.id, _A.bay, _A.start, _A.end + _A.buffer_ms)
    .where(_A.workshop == _PLACE, _A.end > sa.bindparam("from"), _A.start < _END)
    .where(one_of(_A.state, BUSY), _A.end + _A.buffer_ms > _START)
)
_ELSEWHERE = Prepared(
    _BUSY_TIME.select.where(_B.workshop == _PLACE, _B.end > _START, _B.start < _END).order_by(
        _B.start, _B.seq
    )
)
_HELD = Prepared(
    _HOLD.select.where(
        _H.workshop == _PLACE, _H.end > _START, _H.start < _END, _H.until > sa.bindparam("now")
    ).order_by(_H.start, _H.bay)
)
_NEXT_DUE = [
    *(
        Prepared(sa.select(sa.func.min(_A.answer_by)).where(_A.state == state))
        for state in (*PENDING, AppointmentState.CONFIRMED)
    ),
    Prepared(sa.select(sa.func.min(_A.remind_at))),
    Prepared(
        sa.select(sa.func.min(tables.extra_work.c.answer_by)).where(
            tables.extra_work.c.state == ExtraState.ASKED
        )
    ),
]
"""When something falls due: asked after everything that happens."""


class SqlWorkshops:
    """See `gateway.ports.Workshops`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    # --- workshops

    def add(self, workshop: Workshop) -> None:
        if not self._on.insert_once(tables.workshops, _WORKSHOP.row(workshop), "id"):
            raise ConflictError(f"There is a workshop {workshop.id} already.", self.get(workshop.id))

    def put(self, workshop: Workshop) -> None:
        self._on.put(tables.workshops, _WORKSHOP.row(workshop), "id")

    def get(self, workshop_id: str) -> Workshop:
        workshop = self._on.keep(
            ("workshops",), (workshop_id,), lambda: _WORKSHOP.by_id(self._connection, workshop_id)
        )
        if workshop is None:
            raise NotFoundError(f"There is no workshop {workshop_id}.")
        return workshop

    def page(self, *, after: str | None = None, limit: int = 100) -> list[Workshop]:
        query = _WORKSHOP.select.order_by(tables.workshops.c.id).limit(limit)
        if after is not None:
            query = query.where(tables.workshops.c.id > after)
        return _WORKSHOP.all(self._connection, query)

    # --- what takes up bays

    def busy(
        self, workshop_id: str, start: int, end: int, now: int
    ) -> list[tuple[str, int, int, str | None]]:
        taken = [(bay, begin, until, None) for bay, begin, until in self._booked(workshop_id, start, end)]
        held = [
            (h.bay, h.start, h.end + h.buffer_ms, h.touchpoint)
            for h in self.holds(workshop_id, start - _LONGEST_BUFFER_MS, end, now)
            if h.end + h.buffer_ms > start
        ]
        return [*taken, *self._elsewhere(workshop_id, start, end), *held]

    def _booked(
        self, workshop_id: str, start: int, end: int, *, bay: str | None = None, but: str | None = None
    ) -> list[tuple[str, int, int]]:
        """(bay, start, when it is free again) of appointments that take up a bay in start … end."""
        named = {"workshop": workshop_id, "start": start, "end": end, "from": start - _LONGEST_BUFFER_MS}
        rows = _BOOKED.rows(self._connection, **named)
        return [
            (found, begin, until)
            for appointment, found, begin, until in rows
            if bay in (None, found) and appointment != but
        ]

    def _elsewhere(self, workshop_id: str, start: int, end: int) -> list[tuple[str, int, int, str | None]]:
        """What the workshop's own calendars have taken; a time without a bay takes all of them."""
        found = self.busy_times(workshop_id, start, end)
        every = self.get(workshop_id).bays if any(time.bay is None for time in found) else ()
        return [
            (bay, time.start, time.end, None)
            for time in found
            for bay in ((time.bay,) if time.bay is not None else every)
        ]

    def put_busy(self, workshop_id: str, source: str, times: Sequence[BusyTime]) -> None:
        c = tables.busy_times.c
        self._connection.execute(
            sa.delete(tables.busy_times).where(c.workshop == workshop_id, c.source == source)
        )
        rows = [_BUSY_TIME.row(time) | {"workshop": workshop_id, "source": source} for time in times]
        if rows:
            self._connection.execute(sa.insert(tables.busy_times), rows)
        self._on.changed("workshop", workshop_id)

    def busy_times(self, workshop_id: str, start: int, end: int) -> list[BusyTime]:
        return _BUSY_TIME.of(self._connection, _ELSEWHERE, workshop=workshop_id, start=start, end=end)

    def hold(self, holds: Sequence[Hold]) -> None:
        c = tables.holds.c
        named = {hold.touchpoint for hold in holds}
        stale = sa.or_(c.touchpoint.in_(named), c.until <= self._on.now())
        self._connection.execute(sa.delete(tables.holds).where(stale))
        if holds:
            self._connection.execute(sa.insert(tables.holds), [_HOLD.row(hold) for hold in holds])

    def holds(self, workshop_id: str, start: int, end: int, now: int) -> list[Hold]:
        return _HOLD.of(self._connection, _HELD, workshop=workshop_id, start=start, end=end, now=now)

    def release(self, touchpoint_id: str) -> None:
        self._connection.execute(sa.delete(tables.holds).where(tables.holds.c.touchpoint == touchpoint_id))

    # --- appointments

    def book(self, appointment: Appointment) -> None:
        if _APPOINTMENT.by_id(self._connection, appointment.id) is not None:
            raise ConflictError(f"There is an appointment {appointment.id} already.")
        if appointment.state in BUSY:
            self._check_free(appointment)
        self._connection.execute(sa.insert(tables.appointments).values(_APPOINTMENT.row(appointment)))
        self._on.changed("appointment", appointment.id)

    def _check_free(self, wanted: Appointment) -> None:
        """The transaction holds the only write lock, so what is free here stays free until the commit."""
        at, until = wanted.start, wanted.bay_until
        booked = self._booked(wanted.workshop, at, until, bay=wanted.bay, but=wanted.id)
        held = any(
            h.bay == wanted.bay and h.touchpoint != wanted.touchpoint and h.end + h.buffer_ms > at
            for h in self.holds(wanted.workshop, at - _LONGEST_BUFFER_MS, until, self._on.now())
        )
        if booked or held:
            raise SlotTakenError("This time has just been taken.")

    def appointment(self, appointment_id: str) -> Appointment:
        appointment = _APPOINTMENT.by_id(self._connection, appointment_id)
        if appointment is None:
            raise NotFoundError(f"There is no appointment {appointment_id}.")
        return appointment

    def save_appointment(self, appointment: Appointment) -> None:
        stored = self.appointment(appointment.id)
        if appointment.state in BUSY and _place(appointment) != _place(stored):
            self._check_free(appointment)
        self._connection.execute(
            sa.update(tables.appointments)
            .where(tables.appointments.c.id == appointment.id)
            .values(_APPOINTMENT.row(appointment))
        )
        self._on.changed("appointment", appointment.id)

    def appointments(
        self,
        *,
        workshop: str | None = None,
        owner: str | None = None,
        touchpoint: str | None = None,
        device: str | None = None,
        start: int | None = None,
        end: int | None = None,
        states: Sequence[AppointmentState] = (),
        after: str | None = None,
        limit: int = 500,
    ) -> list[Appointment]:
        wishes = {"workshop": workshop, "owner": owner, "touchpoint": touchpoint, "device": device}
        times = {"from": start, "to": end}
        named = {name: wanted for name, wanted in (wishes | times).items() if wanted is not None}
        if after is not None:
            last = self.appointment(after)
            named |= {"last_start": last.start, "last": last.id}
        query = _appointments(tuple(named), tuple(states))
        return _APPOINTMENT.of(self._connection, query, **named, most=limit)

    def due_appointments(self, now: int, limit: int = 100) -> list[Appointment]:
        c = tables.appointments.c
        waiting = (*PENDING, AppointmentState.CONFIRMED)  # of a time that stands another one may be wished
        lapsing = _APPOINTMENT.select.where(c.state.in_(waiting), c.answer_by <= now).limit(limit)
        reminding = _APPOINTMENT.select.where(c.remind_at <= now).limit(limit)
        found = [*_APPOINTMENT.all(self._connection, lapsing), *_APPOINTMENT.all(self._connection, reminding)]
        return list({a.id: a for a in found}.values())[:limit]

    def next_appointment_due(self) -> int | None:
        found = [question.scalar(self._connection) for question in _NEXT_DUE]
        return min((at for at in found if at is not None), default=None)

    def cars_given(self, workshop_id: str, start: int, end: int, *, but: str | None = None) -> list[int]:
        c = tables.appointments.c
        query = sa.select(c.start).where(c.workshop == workshop_id, c.end > start, c.start < end)
        query = query.where(c.stay == "replacement_car", c.state.in_(BUSY), c.id != (but or ""))
        return list(self._connection.scalars(query))

    def pending(self, workshop_id: str) -> list[Appointment]:
        c = tables.appointments.c
        query = _APPOINTMENT.select.where(c.workshop == workshop_id, c.state.in_(PENDING))
        return _APPOINTMENT.all(self._connection, query.order_by(c.answer_by, c.id))

    # --- extra work

    def ask_extra(self, extra: ExtraWork) -> None:
        self._connection.execute(sa.insert(tables.extra_work).values(_EXTRA.row(extra)))
        self._on.changed("appointment", extra.appointment)

    def extra(self, extra_id: str) -> ExtraWork:
        found = _EXTRA.by_id(self._connection, extra_id)
        if found is None:
            raise NotFoundError(f"There is no question for extra work {extra_id}.")
        return found

    def save_extra(self, extra: ExtraWork) -> None:
        self.extra(extra.id)
        statement = sa.update(tables.extra_work).where(tables.extra_work.c.id == extra.id)
        self._connection.execute(statement.values(_EXTRA.row(extra)))
        self._on.changed("appointment", extra.appointment)

    def extras(self, *, appointment: str | None = None, owner: str | None = None) -> list[ExtraWork]:
        c = tables.extra_work.c
        query = _EXTRA.select.order_by(c.asked_at, c.id)
        if appointment is not None:
            query = query.where(c.appointment == appointment)
        if owner is not None:
            query = query.where(c.owner == owner, c.state == ExtraState.ASKED)
        return _EXTRA.all(self._connection, query)

    def due_extras(self, now: int, limit: int = 100) -> list[ExtraWork]:
        c = tables.extra_work.c
        query = _EXTRA.select.where(c.state == ExtraState.ASKED, c.answer_by <= now).limit(limit)
        return _EXTRA.all(self._connection, query)


def _place(appointment: Appointment) -> tuple[str, str, int, int, bool]:
    """What an appointment takes up, and whether it does."""
    a = appointment
    return a.workshop, a.bay, a.start, a.bay_until, a.state in BUSY


@lru_cache(maxsize=256)
def _appointments(named: tuple[str, ...], states: tuple[AppointmentState, ...]) -> Prepared:
    """Appointments by start, with a place for each of the values that are named; made once."""
    c = tables.appointments.c
    query = _APPOINTMENT.select.order_by(c.start, c.id).limit(sa.bindparam("most"))
    for name in ("workshop", "owner", "touchpoint", "device"):
        if name in named:
            query = query.where(c[name] == sa.bindparam(name))
    if "from" in named:
        query = query.where(c.end > sa.bindparam("from"))
    if "to" in named:
        query = query.where(c.start < sa.bindparam("to"))
    if states:
        query = query.where(one_of(c.state, states))
    if "last" in named:
        later = sa.and_(c.start == sa.bindparam("last_start"), c.id > sa.bindparam("last"))
        query = query.where(sa.or_(c.start > sa.bindparam("last_start"), later))
    return Prepared(query)
