"""Who belongs to a device, who was invited to, and who looked at what."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.household import Invitation, Look, Person

_PERSON = Shape(Person, tables.device_people)
_INVITATION = Shape(Invitation, tables.invitations)
_LOOK = Shape(Look, tables.access_log)
_C, _O = tables.device_people.c, tables.ownerships.c
_OF_DEVICE = Prepared(_PERSON.select.where(_C.device == sa.bindparam("device")).order_by(_C.since, _C.seq))
_OF_OWNER = Prepared(_PERSON.select.where(_C.owner == sa.bindparam("owner")).order_by(_C.since, _C.seq))
_SPANS = (
    Prepared(
        sa.select(_C.device, _C.since, _C.until).where(
            _C.owner == sa.bindparam("owner"), _C.sees, _C.until.is_(None)
        )
    ),
    Prepared(
        sa.select(_O.device, _O.since, _O.until).where(
            _O.owner == sa.bindparam("owner"), sa.exists().where(_C.device == _O.device)
        )
    ),
)
_THERE = Prepared(
    _PERSON.select.where(
        tables.device_people.c.device == sa.bindparam("device"), tables.device_people.c.until.is_(None)
    ).order_by(tables.device_people.c.since, tables.device_people.c.seq)
)


class SqlPeople:
    """See `gateway.ports.People`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def of(self, device: str) -> list[Person]:
        def load() -> list[Person]:
            return _PERSON.of(self._connection, _THERE, device=device)

        return list(self._on.keep(("device_people",), ("there", device), load))

    def history(self, device: str) -> list[Person]:
        return _PERSON.of(self._connection, _OF_DEVICE, device=device)

    def parts(self, owner: str) -> list[Person]:
        return _PERSON.of(self._connection, _OF_OWNER, owner=owner)

    def spans(self, owner: str) -> list[tuple[str, int, int | None]]:
        def load() -> list[tuple[Any, ...]]:
            return [row for query in _SPANS for row in query.rows(self._connection, owner=owner)]

        found = self._on.keep(("device_people", "ownerships"), ("spans", owner), load)
        return [(device, since, until) for device, since, until in found]

    def join(self, person: Person) -> None:
        if any(known.owner == person.owner for known in self.of(person.device)):
            raise ConflictError(f"{person.owner} belongs to {person.device} already.", person)
        self._connection.execute(sa.insert(tables.device_people).values(_PERSON.row(person)))
        self._on.changed("device", person.device)

    def change(self, person: Person) -> None:
        c = tables.device_people.c
        values = {"role": person.role, "asked": person.asked, "may_answer": person.may_answer}
        statement = (
            sa.update(tables.device_people)
            .where(c.device == person.device, c.owner == person.owner, c.until.is_(None))
            .values(values | {"sees": person.sees})
        )
        if not self._connection.execute(statement).rowcount:
            raise NotFoundError(f"{person.owner} does not belong to {person.device}.")
        self._on.changed("device", person.device)

    def leave(self, device: str, owner: str | None, at: int) -> int:
        c = tables.device_people.c
        statement = sa.update(tables.device_people).where(c.device == device, c.until.is_(None))
        if owner is not None:
            statement = statement.where(c.owner == owner)
        gone = self._connection.execute(statement.values(until=at)).rowcount
        if owner is None:
            i = tables.invitations.c
            open_ones = sa.update(tables.invitations).where(i.device == device, i.ended.is_(None))
            self._connection.execute(open_ones.values(ended=at))
        if gone:
            self._on.changed("device", device)
        return gone

    # --- invitations

    def invite(self, invitation: Invitation) -> None:
        self._connection.execute(sa.insert(tables.invitations).values(_INVITATION.row(invitation)))

    def invitation(self, invitation_id: str) -> Invitation:
        found = _INVITATION.by_id(self._connection, invitation_id)
        if found is None:
            raise NotFoundError(f"There is no invitation {invitation_id}.")
        return found

    def invitations(self, device: str) -> list[Invitation]:
        c = tables.invitations.c
        query = _INVITATION.select.where(c.device == device, c.ended.is_(None)).order_by(c.id)
        return _INVITATION.all(self._connection, query)

    def end_invitation(self, invitation_id: str, at: int, taken_by: str | None = None) -> bool:
        c = tables.invitations.c
        statement = sa.update(tables.invitations).where(c.id == invitation_id, c.ended.is_(None))
        return self._connection.execute(statement.values(ended=at, taken_by=taken_by)).rowcount == 1

    # --- who looked

    def looked(self, look: Look) -> bool:
        return self._on.insert_once(tables.access_log, _LOOK.row(look), "owner", "by", "what", "day")

    def known(self, looks: list[Look]) -> list[Look]:
        found = (_LOOK.first(self._connection, _same(look)) for look in looks)
        return [look for look in found if look is not None]

    def looks(self, owner: str, *, limit: int = 100) -> list[Look]:
        c = tables.access_log.c
        query = _LOOK.select.where(c.owner == owner).order_by(c.day.desc(), c.at.desc()).limit(limit)
        return _LOOK.all(self._connection, query)

    def looks_of_day(self, day: int, *, limit: int = 100) -> list[Look]:
        c = tables.access_log.c
        query = _LOOK.select.where(c.day == day).order_by(c.at.desc(), c.owner, c.what).limit(limit)
        return _LOOK.all(self._connection, query)


def _same(look: Look) -> sa.Select[Any]:
    c = tables.access_log.c
    return _LOOK.select.where(c.owner == look.owner, c.by == look.by, c.what == look.what, c.day == look.day)
