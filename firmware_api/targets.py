"""Devices as updates see them: what they are, what they run, how they prove who they are."""

import hashlib
import hmac
import json
import re
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firmware_api.release import FirmwareError, ManifestError, UnknownError

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,255}")
MOST_ATTRIBUTES = 100
ATTRIBUTE_MOST = 128
"""Characters of a name or a value, as in hawkBit."""


class AttributesError(FirmwareError):
    """More attributes, or longer ones, than are kept."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A device as its owner's systems register it."""

    id: str
    kind: str | None = None
    model: str | None = None
    hardware: str | None = None
    country: str | None = None
    version: str | None = None
    """what it is known to run; only taken while it has reported nothing itself"""
    tags: tuple[str, ...] | None = None
    """None: as they were"""
    owned: bool = False
    """somebody uses it: an update is theirs to agree to"""


def register(connection: sqlite3.Connection, targets: Sequence[Target], now: int) -> None:
    """These devices exist, and are so; what they reported themselves stays."""
    connection.executemany(
        "INSERT INTO targets (id, kind, model, hardware, country, version, owned, created_at) "
        "VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, "
        "model = excluded.model, hardware = coalesce(excluded.hardware, hardware), "
        "country = coalesce(excluded.country, country), "
        "version = coalesce(version, excluded.version), owned = excluded.owned",
        [(t.id, t.kind, t.model, t.hardware, t.country, t.version, int(t.owned), now) for t in targets],
    )
    for target in targets:
        if target.tags is not None:
            set_tags(connection, target.id, target.tags)
    # The release it is known to run gives its sequence, where it is one of ours.
    connection.execute(
        "UPDATE targets SET sequence = r.sequence FROM releases r WHERE r.kind = targets.kind "
        "AND r.version = targets.version AND targets.sequence = 0"
    )


def set_tags(connection: sqlite3.Connection, target: str, tags: Sequence[str]) -> None:
    """What this device is called by, for rollouts. Raises UnknownError."""
    if connection.execute("SELECT 1 FROM targets WHERE id = ?", (target,)).fetchone() is None:
        raise UnknownError(f"there is no device {target}")
    connection.execute("DELETE FROM target_tags WHERE target = ?", (target,))
    connection.executemany(
        "INSERT INTO target_tags (target, tag) VALUES (?, ?)", [(target, tag) for tag in sorted(set(tags))]
    )


def kind_of(connection: sqlite3.Connection, target: str) -> str | None:
    """Which kind of device it is; None when nobody has said. Raises UnknownError."""
    row = connection.execute("SELECT kind FROM targets WHERE id = ?", (target,)).fetchone()
    if row is None:
        raise UnknownError(f"there is no device {target}")
    return None if row["kind"] is None else str(row["kind"])


def is_owned(connection: sqlite3.Connection, target: str) -> bool:
    """Whether somebody uses it: an update is theirs to agree to."""
    row = connection.execute("SELECT owned FROM targets WHERE id = ?", (target,)).fetchone()
    return row is not None and bool(row["owned"])


def say_what(connection: sqlite3.Connection, target: str, kind: str | None, model: str | None) -> None:
    """What a device is that is known by its id, where that is given (None: as it was)."""
    connection.execute(
        "UPDATE targets SET kind = coalesce(?, kind), model = coalesce(?, model) WHERE id = ?",
        (kind, model, target),
    )


def describe(connection: sqlite3.Connection, target: str, country: str | None, hardware: str | None) -> None:
    """Where it is and which revision it is of, where that is known (None: as it was). Raises UnknownError,
    ManifestError for what is no country."""
    if country is not None and not re.fullmatch("[A-Z]{2}", country):
        raise ManifestError(f"country {country!r}: two capital letters of ISO 3166-1, for example DE")
    done = connection.execute(
        "UPDATE targets SET country = coalesce(?, country), hardware = coalesce(?, hardware) WHERE id = ?",
        (country, hardware, target),
    )
    if not done.rowcount:
        raise UnknownError(f"there is no device {target}")


def issue_token(connection: sqlite3.Connection, target: str) -> str:
    """A new target token; the one before is void. Raises UnknownError."""
    token = secrets.token_hex(16)
    done = connection.execute("UPDATE targets SET token = ? WHERE id = ?", (token_hash(token), target))
    if not done.rowcount:
        raise UnknownError(f"there is no device {target}")
    return token


def token_hash(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def token_holds(kept: bytes | None, token: str) -> bool:
    """Whether this is the token that was issued."""
    return kept is not None and hmac.compare_digest(kept, token_hash(token))


def seen(connection: sqlite3.Connection, target: str, now: int) -> None:
    """A device that proved itself otherwise than by a token of its own is known from now on."""
    connection.execute(
        "INSERT INTO targets (id, created_at, polled_at) VALUES (?,?,?) ON CONFLICT (id) DO NOTHING",
        (target, now, now),
    )


def polled(connection: sqlite3.Connection, moments: Mapping[str, int]) -> None:
    """When these devices asked last."""
    connection.executemany(
        "UPDATE targets SET polled_at = ? WHERE id = ?", [(at, target) for target, at in moments.items()]
    )


def set_attributes(connection: sqlite3.Connection, target: str, given: Mapping[str, str], mode: str) -> None:
    """What the device says of itself: merged, replaced, or removed by name. Raises UnknownError,
    AttributesError."""
    row = connection.execute("SELECT attributes FROM targets WHERE id = ?", (target,)).fetchone()
    if row is None:
        raise UnknownError(f"there is no device {target}")
    held: dict[str, str] = json.loads(row["attributes"])
    if mode == "remove":
        held = {name: value for name, value in held.items() if name not in given}
    else:
        held = (held if mode == "merge" else {}) | dict(given)
    if len(held) > MOST_ATTRIBUTES or any(
        len(name) > ATTRIBUTE_MOST or len(value) > ATTRIBUTE_MOST or not name for name, value in held.items()
    ):
        raise AttributesError("too many attributes, or too long ones")
    connection.execute(
        "UPDATE targets SET attributes = ?, wants_attributes = 0, hardware = coalesce(?, hardware) "
        "WHERE id = ?",
        (json.dumps(held, ensure_ascii=False), held.get("hw_revision") or held.get("hwRevision"), target),
    )


def installed_by_hand(connection: sqlite3.Connection, target: str, version: str) -> bool:
    """The device says what it runs though nobody sent it there; gives whether that is news."""
    row = connection.execute("SELECT kind, version FROM targets WHERE id = ?", (target,)).fetchone()
    if row is None:
        raise UnknownError(f"there is no device {target}")
    if row["version"] == version:
        return False
    connection.execute(
        "UPDATE targets SET version = ?, sequence = coalesce((SELECT sequence FROM releases r "
        "WHERE r.kind = targets.kind AND r.version = ?), 0) WHERE id = ?",
        (version, version, target),
    )
    return True
