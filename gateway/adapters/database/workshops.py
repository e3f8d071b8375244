"""Workshops, appointments, holds; the database decides who gets a slot."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Shape, Transaction
from gateway.domain.appointment import BUSY, Appointment, AppointmentState, Hold, Workshop
from gateway.domain.errors import ConflictError, NotFoundError, SlotTakenError

_WORKSHOP = Shape(Workshop, tables.workshops)
_APPOINTMENT = Shape(Appointment, tables.appointments)
_HOLD = Shape(Hold, tables.holds)


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
        workshop = _WORKSHOP.by_id(self._connection, workshop_id)
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
        booked: list[tuple[str, int, int, str | None]] = [
            (a.bay, a.start, a.end, None)
            for a in self.appointments(workshop=workshop_id, start=start, end=end, states=BUSY, limit=-1)
        ]
        holds = self.holds(workshop_id, start, end, now)
        return booked + [(h.bay, h.start, h.end, h.touchpoint) for h in holds]

    def hold(self, holds: Sequence[Hold]) -> None:
        c = tables.holds.c
        named = {hold.touchpoint for hold in holds}
        stale = sa.or_(c.touchpoint.in_(named), c.until <= self._on.now())
        self._connection.execute(sa.delete(tables.holds).where(stale))
        if holds:
            self._connection.execute(sa.insert(tables.holds), [_HOLD.row(hold) for hold in holds])

    def holds(self, workshop_id: str, start: int, end: int, now: int) -> list[Hold]:
        c = tables.holds.c
        query = _HOLD.select.where(
            c.workshop == workshop_id, c.end > start, c.start < end, c.until > now
        ).order_by(c.start, c.bay)
        return _HOLD.all(self._connection, query)

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
        others = self.appointments(
            workshop=wanted.workshop, start=wanted.start, end=wanted.end, states=BUSY, limit=-1
        )
        booked = any(a.bay == wanted.bay and a.id != wanted.id for a in others)
        held = any(
            h.bay == wanted.bay and h.touchpoint != wanted.touchpoint
            for h in self.holds(wanted.workshop, wanted.start, wanted.end, self._on.now())
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
        c = tables.appointments.c
        query = _APPOINTMENT.select.order_by(c.start, c.id).limit(limit if limit >= 0 else None)
        wishes = ((c.workshop, workshop), (c.owner, owner), (c.touchpoint, touchpoint), (c.device, device))
        for column, wanted in wishes:
            if wanted is not None:
                query = query.where(column == wanted)
        if start is not None:
            query = query.where(c.end > start)
        if end is not None:
            query = query.where(c.start < end)
        if states:
            query = query.where(c.state.in_(states))
        if after is not None:
            last = self.appointment(after)
            query = query.where(sa.or_(c.start > last.start, sa.and_(c.start == last.start, c.id > last.id)))
        return _APPOINTMENT.all(self._connection, query)


def _place(appointment: Appointment) -> tuple[str, str, int, int, bool]:
    """What an appointment takes up, and whether it does."""
    a = appointment
    return a.workshop, a.bay, a.start, a.end, a.state in BUSY
