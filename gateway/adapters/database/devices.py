"""Devices, whose they were when, and facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.people import SqlPeople
from gateway.adapters.database.rows import MANY, Prepared, Shape, Transaction, contains, search_text
from gateway.domain.device import Device, Facts, Ownership
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.household import Part, Person
from gateway.ports import DatabaseUnavailableError

_DEVICE = Shape(Device, tables.devices)
_OWNERSHIP = Shape(Ownership, tables.ownerships)
_OWNED = Prepared(
    _OWNERSHIP.select.where(tables.ownerships.c.device == sa.bindparam("device")).order_by(
        tables.ownerships.c.since, tables.ownerships.c.seq
    )
)
_OWNS = Prepared(
    _OWNERSHIP.select.where(
        tables.ownerships.c.device == sa.bindparam("device"), tables.ownerships.c.until.is_(None)
    ).order_by(tables.ownerships.c.seq.desc())
)
_FACTS = Shape(Facts, tables.facts)
_FACTS_ROWS = _FACTS.select.add_columns(tables.facts.c.format)
_OWNER: sa.BindParameter[str] = sa.bindparam("owner")
_TRIPS = _FACTS_ROWS.where(
    tables.facts.c.device.in_(
        sa.union_all(
            sa.select(tables.devices.c.id).where(tables.devices.c.owner == _OWNER),
            sa.select(tables.device_people.c.device).where(
                tables.device_people.c.owner == _OWNER,
                tables.device_people.c.until.is_(None),
                tables.device_people.c.asked,
            ),
        )
    ),
    sa.or_(tables.facts.c.moving, tables.facts.c.moving_since > sa.bindparam("since")),
)
_TRIPS_OF = Prepared(_TRIPS)
_FACTS_OF = Prepared(_FACTS_ROWS.where(tables.facts.c.device == sa.bindparam("device")))

_json = msgspec.json.Encoder().encode

# Written out and handed to the driver as tuples, because a thousand rows come at once every second.
_PUT_FACTS = sa.text(
    """
    INSERT INTO facts (device, format, last_seen, moving, moving_since, online, kind, open, latest)
    VALUES (:device, :format, :last_seen, :moving, :moving_since, :online, :kind, :open, :latest)
    ON CONFLICT (device) DO UPDATE SET
        format = excluded.format, last_seen = excluded.last_seen, moving = excluded.moving,
        moving_since = excluded.moving_since, online = excluded.online, kind = excluded.kind,
        open = excluded.open, latest = excluded.latest
    """
)


@cache
def _put_facts(dialect: sa.Dialect) -> str:
    return str(_PUT_FACTS.compile(dialect=dialect))


class SqlDevices:
    """See `gateway.ports.Devices`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection
        self._people = SqlPeople(transaction)

    def add(self, device: Device) -> None:
        if not self._on.insert_once(tables.devices, _row(device), "id"):
            raise ConflictError(f"There is a device {device.id} already.", self.find(device.id))
        if device.owner is not None:
            self._begin_ownership(device.id, device.owner, device.created)
        self._on.changed("device", device.id)

    def get(self, device_id: str) -> Device:
        device = self.find(device_id)
        if device is None:
            raise NotFoundError(f"There is no device {device_id}.")
        return device

    def find(self, device_id: str) -> Device | None:
        return self._on.keep(("devices",), (device_id,), lambda: _DEVICE.by_id(self._connection, device_id))

    def page(
        self, *, after: str | None = None, limit: int = 100, owner: str | None = None, find: str | None = None
    ) -> list[Device]:
        if not find:
            named = {"after": after, "owner": owner}
            asked = {name: value for name, value in named.items() if value is not None}
            return _DEVICE.of(self._connection, _page(tuple(asked)), **asked, most=limit)
        c = tables.devices.c
        query = _DEVICE.select.order_by(c.id).limit(limit).where(contains(c.search, find))
        if after is not None:
            query = query.where(c.id > after)
        if owner is not None:
            query = query.where(c.owner == owner)
        return _DEVICE.all(self._connection, query)

    def update(self, device: Device) -> None:
        row = _row(device)
        del row["owner"], row["id"]
        if not self._change(device.id, row):
            raise NotFoundError(f"There is no device {device.id}.")
        self._on.changed("device", device.id)

    def _change(self, device_id: str, row: dict[str, Any]) -> bool:
        statement = sa.update(tables.devices).where(tables.devices.c.id == device_id).values(row)
        return self._connection.execute(statement).rowcount == 1

    def transfer(self, device_id: str, owner: str | None, at: int) -> None:
        if self.get(device_id).owner == owner:
            return
        c = tables.ownerships.c
        self._connection.execute(
            sa.update(tables.ownerships).where(c.device == device_id, c.until.is_(None)).values(until=at)
        )
        self._people.leave(device_id, None, at)
        self._change(device_id, {"owner": owner})
        if owner is not None:
            self._begin_ownership(device_id, owner, at)
        self._on.changed("device", device_id)

    def _begin_ownership(self, device_id: str, owner: str, at: int) -> None:
        row = {"device": device_id, "owner": owner, "since": at}
        self._connection.execute(sa.insert(tables.ownerships).values(row))

    def ownerships(self, device_id: str) -> list[Ownership]:
        def load() -> list[Ownership]:
            return _OWNERSHIP.of(self._connection, _OWNED, device=device_id)

        return list(self._on.keep(("ownerships",), ("all", device_id), load))

    def owner_at(self, device_id: str, ts: int) -> str | None:
        c = tables.ownerships.c
        query = (
            sa.select(c.owner)
            .where(c.device == device_id, c.since <= ts, sa.or_(c.until.is_(None), c.until > ts))
            .order_by(c.since.desc(), c.seq.desc())
            .limit(1)
        )
        return self._connection.scalar(query)

    def people(self, device_id: str) -> list[Person]:
        found = self._on.keep(
            ("ownerships", "device_people"), (device_id,), lambda: self._load_people(device_id)
        )
        return list(found)

    def _load_people(self, device_id: str) -> list[Person]:
        theirs = next(iter(_OWNERSHIP.of(self._connection, _OWNS, device=device_id)), None)
        if theirs is None:
            return []
        others = self._people.of(device_id)
        owner = Person(
            device=device_id,
            owner=theirs.owner,
            role=Part.OWNER,
            asked=not any(person.asked for person in others),
            may_answer=True,
            sees=True,
            since=theirs.since,
        )
        return [owner, *others]

    def facts(self, device_id: str) -> Facts:
        def load() -> list[Facts]:
            return _facts(_FACTS_OF.rows(self._connection, device=device_id))

        found = self._on.keep(("facts",), (device_id,), load)
        return found[0] if found else Facts(device=device_id)

    def all_facts(self) -> list[Facts]:
        return self._facts(_FACTS_ROWS.order_by(tables.facts.c.device))

    def trips(self, owner_id: str, since: int) -> list[Facts]:
        return _facts(_TRIPS_OF.rows(self._connection, owner=owner_id, since=since))

    def _facts(self, query: sa.Select[Any]) -> list[Facts]:
        return _facts(self._connection.execute(query))

    def put_facts(self, facts: Sequence[Facts]) -> None:
        if facts:
            text = _put_facts(self._connection.dialect)
            self._connection.exec_driver_sql(text, [_facts_row(f) for f in facts])
            self._on.changed("facts", facts[0].device if len(facts) == 1 else MANY)

    def unclaimed(self, *, after: str | None = None, limit: int = 100) -> list[Facts]:
        registered = sa.exists().where(tables.devices.c.id == tables.facts.c.device)
        query = _FACTS_ROWS.where(~registered).order_by(tables.facts.c.device).limit(limit)
        if after is not None:
            query = query.where(tables.facts.c.device > after)
        return self._facts(query)

    def connected(self, since: int) -> tuple[int, int]:
        facts, devices = tables.facts, tables.devices
        seen = sa.select(sa.func.count()).select_from(facts).where(facts.c.last_seen >= since)
        registered = sa.select(sa.func.count()).select_from(devices)
        strangers = (
            sa.select(sa.func.count())
            .select_from(facts)
            .where(~sa.exists().where(devices.c.id == facts.c.device))
        )
        count = self._connection.scalar
        return count(seen) or 0, (count(registered) or 0) + (count(strangers) or 0)


def _facts(rows: Iterable[Sequence[Any]]) -> list[Facts]:
    found = []
    for *fields, version in rows:
        if version != tables.FACTS_FORMAT:
            raise DatabaseUnavailableError(
                f"Facts are kept in format {version}; this version reads {tables.FACTS_FORMAT}. "
                "Run `touchpoint setup` of the version that wrote them, or of a newer one."
            )
        found.append(Facts(**dict(zip(_FACTS.names, fields, strict=True))))
    return found


@cache
def _page(named: tuple[str, ...]) -> Prepared:
    """Devices by id, with a place for each of the values that are named; made once."""
    c = tables.devices.c
    query = _DEVICE.select.order_by(c.id).limit(sa.bindparam("most"))
    if "after" in named:
        query = query.where(c.id > sa.bindparam("after"))
    if "owner" in named:
        query = query.where(c.owner == sa.bindparam("owner"))
    return Prepared(query)


def _row(device: Device) -> dict[str, Any]:
    search = search_text(device.id, device.name, device.model, device.plate, device.serial)
    return _DEVICE.row(device, search=search)


def _facts_row(facts: Facts) -> tuple[Any, ...]:
    """In the order of _PUT_FACTS."""
    return (
        facts.device,
        tables.FACTS_FORMAT,
        facts.last_seen,
        facts.moving,
        facts.moving_since,
        facts.online,
        facts.kind,
        _json(facts.open).decode() if facts.open else "[]",
        _json(facts.latest).decode(),
    )
