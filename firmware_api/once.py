"""What was answered to a request that its sender may make again: kept with what the request changed, in one
transaction, so that a process that dies before it has answered does nothing twice."""

import sqlite3

KEPT_MS = 2 * 86_400_000


def answered(connection: sqlite3.Connection, key: str) -> str | None:
    """What was answered under this key; None when the request is new."""
    row = connection.execute("SELECT body FROM requests WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row["body"])


def keep(connection: sqlite3.Connection, key: str, body: str, now: int) -> None:
    """Answer the same when it is asked again, for two days."""
    connection.execute("DELETE FROM requests WHERE at < ?", (now - KEPT_MS,))
    connection.execute("INSERT INTO requests VALUES (?, ?, ?)", (key, body, now))
