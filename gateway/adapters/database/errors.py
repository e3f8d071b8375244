"""What SQLAlchemy and SQLite raise, in the words of the domain and of the port.

| raised                                        | becomes                  |
|-----------------------------------------------|--------------------------|
| unique or check violated                      | ConflictError            |
| foreign key violated                          | NotFoundError            |
| the guard against double booking              | SlotTakenError           |
| full, locked, unreadable, damaged, unprepared | DatabaseUnavailableError |
"""

from __future__ import annotations

import sqlite3

from sqlalchemy import exc

from gateway.domain.errors import ConflictError, NotFoundError, SlotTakenError
from gateway.ports import DatabaseUnavailableError

SLOT_GUARD = "appointments_slot"
"""What the triggers raise, and the name of the unique index."""

_ADVICE = (
    ("disk is full", "has no room: free some on its disk or raise its quota; nothing was stored"),
    ("locked", "is being written by another process for longer than can be waited: find which one holds it"),
    ("readonly", "may not be written: give this user the right to write the file and its folder"),
    ("read-only", "may not be written: give this user the right to write the file and its folder"),
    ("unable to open", "cannot be opened: check that its folder exists and that this user may write it"),
    ("no such table", "is not prepared: run `touchpoint setup`"),
    ("no such column", "is not prepared for this version: run `touchpoint setup`"),
    ("not a database", "is no SQLite file: move it away, or restore it from a backup"),
    ("malformed", "is damaged: restore it from a backup"),
    ("disk i/o", "cannot be read or written on its disk: check the disk and the system's log"),
)


def translated(error: exc.SQLAlchemyError | sqlite3.Error, where: str) -> Exception:
    """What to raise from `error`; `where` says which database."""
    cause = str(getattr(error, "orig", None) or error)
    if isinstance(error, exc.IntegrityError):
        return _broken_rule(cause)
    said = cause.lower()
    for sign, advice in _ADVICE:
        if sign in said:
            return DatabaseUnavailableError(f"The database {where} {advice} ({cause}).")
    if isinstance(error, (exc.OperationalError, sqlite3.OperationalError)):
        return DatabaseUnavailableError(f"The database {where} cannot be used now ({cause}).")
    return error


def _broken_rule(cause: str) -> Exception:
    if SLOT_GUARD in cause or "appointments.workshop, appointments.bay" in cause:
        return SlotTakenError("This time has just been taken.")
    if "FOREIGN KEY" in cause:
        return NotFoundError("It names something that is not there.")
    return ConflictError(f"It contradicts what is stored ({cause}).")
