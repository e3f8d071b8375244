"""Actions: one release for one device, from being offered to being closed.

What each report of a device means follows Eclipse hawkBit's server (DdiRootController and
JpaControllerManagement), because the clients were made for it: `closed` ends an action, with success unless
the result is failure; `rejected` and `canceled` on an update leave it open; only `closed` that is no
failure completes a cancellation.

    scheduled ──▶ waiting ──▶ running ──▶ finished | error
        │           │           ├──▶ canceling ──▶ canceled (or back to running, when the device refuses)
        └───────────┴───────────┴──▶ canceled
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from firmware_api.release import ConflictError, FirmwareError, UnknownError


class GoneError(FirmwareError):
    """The action is closed; nothing can be reported on it any more."""


class QuotaError(FirmwareError):
    """The device has reported more on this action than is kept."""


class State(StrEnum):
    """Of an action."""

    SCHEDULED = "scheduled"  # its group has not begun; the device does not see it
    WAITING = "waiting"  # until it is confirmed, by the owner or on the device
    RUNNING = "running"  # offered; the device works on it
    CANCELING = "canceling"  # the device is asked to stop
    CANCELED = "canceled"
    FINISHED = "finished"
    ERROR = "error"


OPEN = (State.WAITING, State.RUNNING, State.CANCELING)
MODES = ("forced", "soft", "timeforced", "downloadonly")
MOST_ENTRIES = 1_000
"""Reports kept for one action, as in hawkBit; a device in a loop fills no disk."""
MOST_MESSAGES = 50
MESSAGE_MOST = 1_024
"""Characters."""
UNCHECKED = "unchecked"
"""Why a product in use does not install in the first moment: nobody has looked yet at what speaks against
it."""
_DUE = "iif({held} IS NULL, max({now}, coalesce({end}, 0)) + due_after, NULL)"
"""By when a sign of life is due. While we hold an update back ourselves its device need not speak."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """How an action is to be begun."""

    release: int
    mode: str = "forced"
    forced_at: int | None = None
    """UTC ms from which `timeforced` is forced"""
    due_after: int | None = None
    """ms of silence after which it counts as failed; None: never"""
    consent: bool = False
    """it waits until it is confirmed"""


def assign(connection: sqlite3.Connection, target: str, offer: Offer, now: int) -> int:
    """The device is to get this release; gives the action. What it had open is cancelled first.

    Raises UnknownError for a device nobody knows, ConflictError for a release it may not have.
    """
    check_fit(connection, target, offer.release)
    supersede(connection, target)
    device = connection.execute("SELECT auto_confirm, owned FROM targets WHERE id = ?", (target,)).fetchone()
    asks = offer.consent and device["auto_confirm"] is None
    state = State.WAITING if asks else State.RUNNING
    due = now + offer.due_after if offer.due_after and state is State.RUNNING else None
    row = connection.execute(
        "INSERT INTO actions (target, release, state, open, mode, forced_at, due_after, due_at, consent, "
        "held, created_at, begun_at) VALUES (?,?,?,1,?,?,?,?,?,?,?,?) RETURNING id",
        (
            target,
            offer.release,
            state,
            offer.mode,
            offer.forced_at,
            offer.due_after,
            due,
            "asked" if asks else "agreed" if device["owned"] else None,
            UNCHECKED if device["owned"] and not asks else None,
            now,
            now,
        ),
    ).fetchone()
    return int(row["id"])


def supersede(connection: sqlite3.Connection, target: str) -> None:
    """What the device has open makes room for something newer."""
    connection.execute(
        "UPDATE actions SET state = 'canceling', revision = revision + 1, message = 'superseded' "
        "WHERE target = ? AND state IN ('waiting', 'running')",
        (target,),
    )


def check_fit(connection: sqlite3.Connection, target: str, release: int) -> None:
    """Raises UnknownError, ConflictError when the release is not for this device as it is."""
    device = connection.execute("SELECT * FROM targets WHERE id = ?", (target,)).fetchone()
    if device is None:
        raise UnknownError(f"there is no device {target}")
    found = connection.execute("SELECT raw, withdrawn FROM releases WHERE id = ?", (release,)).fetchone()
    if found is None:
        raise UnknownError(f"there is no release {release}")
    if found["withdrawn"]:
        raise ConflictError(f"the release is {found['withdrawn']}")
    why = unfit(json.loads(found["raw"]), device)
    if why is not None:
        raise ConflictError(f"{target}: {why}")


def unfit(manifest: dict[str, Any], device: sqlite3.Row | dict[str, Any]) -> str | None:
    """Why a release (its manifest's fields) is not for a device as it is; None when it is.

    What is not known of a device is for the device itself to check: it does, against the signed manifest.
    """
    if device["kind"] is not None and device["kind"] != manifest["kind"]:
        return "another kind"
    if manifest["models"] and device["model"] is not None and device["model"] not in manifest["models"]:
        return "another model"
    hardware = device["hardware"]
    if manifest["hardware"] and hardware is not None and hardware not in manifest["hardware"]:
        return "another hardware revision"
    if device["version"] == manifest["version"]:
        return "installed already"
    if not manifest["downgrade"] and device["sequence"] >= manifest["sequence"]:
        return "a step down without a signed override"
    if device["sequence"] < manifest["lowest"]:
        return "too old to go there in one step"
    return None


# --- what devices report --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Report:
    """One report of a device on an action."""

    execution: str
    finished: str
    """success, failure or none"""
    code: int | None
    details: Sequence[str]


def of_target(connection: sqlite3.Connection, target: str, action: int) -> sqlite3.Row:
    """An action if it is this device's. Raises UnknownError."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM actions WHERE id = ? AND target = ?", (action, target)
    ).fetchone()
    if row is None:
        raise UnknownError(f"{target} has no action {action}")
    return row


def of_device(connection: sqlite3.Connection, target: str, most: int = 20) -> list[sqlite3.Row]:
    """A device's newest actions first, each with the version of its release. Raises UnknownError."""
    if connection.execute("SELECT 1 FROM targets WHERE id = ?", (target,)).fetchone() is None:
        raise UnknownError(f"there is no device {target}")
    return connection.execute(
        "SELECT a.*, r.version FROM actions a JOIN releases r ON r.id = a.release WHERE a.target = ? "
        "ORDER BY a.id DESC LIMIT ?",
        (target, most),
    ).fetchall()


def report(connection: sqlite3.Connection, target: str, action: int, said: Report, now: int) -> None:
    """Feedback on deploymentBase. Raises UnknownError, GoneError, QuotaError."""
    row = of_target(connection, target, action)
    if row["state"] == State.WAITING:
        raise UnknownError("it waits for confirmation")
    if not row["open"]:
        raise GoneError(f"action {action} is closed")
    if said.execution == "closed":
        return _close(connection, row, said, now)
    done = said.execution == "downloaded" and row["mode"] == "downloadonly"
    _check_quota(row, said)
    _write(connection, row, _STATUS.get(said.execution, "running"), said, now)
    if done:
        _end(connection, row, State.FINISHED, said, now)
        connection.execute("UPDATE targets SET wants_attributes = 1 WHERE id = ?", (target,))
    else:
        _alive(connection, row, now)


_STATUS = {"canceled": "canceled", "rejected": "warning", "download": "download", "downloaded": "downloaded"}


def _close(connection: sqlite3.Connection, row: sqlite3.Row, said: Report, now: int) -> None:
    failed = said.finished == "failure"
    state = State.ERROR if failed else State.FINISHED
    _write(connection, row, str(state), said, now)
    _end(connection, row, state, said, now)
    if not failed:
        _installed(connection, row)


def _installed(connection: sqlite3.Connection, row: sqlite3.Row) -> None:
    connection.execute(
        "UPDATE targets SET installed = ?, wants_attributes = 1, version = r.version, sequence = r.sequence "
        "FROM (SELECT version, sequence FROM releases WHERE id = ?) AS r WHERE targets.id = ?",
        (row["id"], row["release"], row["target"]),
    )


def _end(connection: sqlite3.Connection, row: sqlite3.Row, state: State, said: Report, now: int) -> None:
    message = said.details[-1][:MESSAGE_MOST] if said.details else None
    connection.execute(
        "UPDATE actions SET state = ?, open = 0, closed_at = ?, due_at = NULL, silent = 0, code = ?, "
        "message = coalesce(?, message), revision = revision + 1 WHERE id = ?",
        (state, now, said.code, message, row["id"]),
    )


def _alive(connection: sqlite3.Connection, row: sqlite3.Row, now: int) -> None:
    due = _DUE.format(held="held", now=":now", end="window_to")
    connection.execute(
        f"UPDATE actions SET silent = 0, fetched = 1, due_at = {due} WHERE id = :id",
        {"now": now, "id": row["id"]},
    )


def _check_quota(row: sqlite3.Row, said: Report) -> None:
    if row["entries"] >= MOST_ENTRIES or len(said.details) > MOST_MESSAGES:
        raise QuotaError("too many reports on this action")


def _write(connection: sqlite3.Connection, row: sqlite3.Row, status: str, said: Report, now: int) -> None:
    messages = [text[:MESSAGE_MOST] for text in said.details[:MOST_MESSAGES]]
    log(connection, row["id"], status, messages, now, said.code)


def log(
    connection: sqlite3.Connection,
    action: int,
    status: str,
    messages: Sequence[str],
    now: int,
    code: int | None = None,
) -> None:
    """Write a line into an action's history."""
    connection.execute(
        "INSERT INTO action_log (action, at, status, code, messages) VALUES (?,?,?,?,?)",
        (action, now, status, code, json.dumps(list(messages), ensure_ascii=False)),
    )
    connection.execute("UPDATE actions SET entries = entries + 1 WHERE id = ?", (action,))


def fetched(connection: sqlite3.Connection, target: str, action: int, now: int) -> None:
    """The device has read what it is to do."""
    row = of_target(connection, target, action)
    if row["fetched"] or not row["open"]:
        return
    log(connection, action, "retrieved", ["The device has retrieved the action."], now)
    _alive(connection, row, now)


# --- cancelling -----------------------------------------------------------------------------------


def cancel(connection: sqlite3.Connection, action: int, now: int, why: str = "cancelled") -> State:
    """The device is asked to stop; what it does not know of yet is over at once. Raises UnknownError,
    ConflictError."""
    row = connection.execute("SELECT * FROM actions WHERE id = ?", (action,)).fetchone()
    if row is None:
        raise UnknownError(f"there is no action {action}")
    if row["state"] in (State.FINISHED, State.ERROR, State.CANCELED):
        raise ConflictError(f"action {action} is {row['state']}")
    known = row["state"] == State.CANCELING or (row["state"] == State.RUNNING and row["fetched"])
    state = State.CANCELING if known else State.CANCELED
    connection.execute(
        "UPDATE actions SET state = ?, open = ?, closed_at = ?, due_at = NULL, message = ?, "
        "revision = revision + 1 WHERE id = ?",
        (state, int(known), None if known else now, why, action),
    )
    log(connection, action, str(state), [why], now)
    return state


def report_cancel(connection: sqlite3.Connection, target: str, action: int, said: Report, now: int) -> None:
    """Feedback on cancelAction. Raises UnknownError, ConflictError when nobody asked to cancel,
    QuotaError."""
    row = of_target(connection, target, action)
    if row["state"] == State.CANCELED:
        raise GoneError(f"action {action} is closed")
    if row["state"] != State.CANCELING:
        raise ConflictError("nobody asked to cancel this action")
    if said.execution == "closed" and said.finished != "failure":
        _write(connection, row, "canceled", said, now)
        return _end(connection, row, State.CANCELED, said, now)
    if said.execution in ("closed", "rejected"):
        _write(connection, row, "cancel_rejected", said, now)
        return _go_on(connection, row, now)
    _check_quota(row, said)
    _write(connection, row, "running", said, now)


def _go_on(connection: sqlite3.Connection, row: sqlite3.Row, now: int) -> None:
    """The device refuses to stop: it goes on, unless something newer waits; then it is over for us."""
    newer = connection.execute(
        "SELECT 1 FROM actions WHERE target = ? AND state IN ('waiting', 'running')", (row["target"],)
    ).fetchone()
    if newer:
        said = Report(execution="rejected", finished="none", code=None, details=("superseded",))
        return _end(connection, row, State.CANCELED, said, now)
    connection.execute(
        "UPDATE actions SET state = 'running', revision = revision + 1, due_at = ? + due_after WHERE id = ?",
        (now, row["id"]),
    )


# --- confirming -----------------------------------------------------------------------------------


def confirm(
    connection: sqlite3.Connection,
    action: int,
    now: int,
    *,
    confirmed: bool,
    details: Sequence[str] = (),
    code: int | None = None,
    window: tuple[int, int] | None = None,
    consent: str = "yes",
) -> None:
    """The owner or the device says yes (then it is offered, in `window` if one was chosen) or no (it goes on
    waiting). Raises GoneError, UnknownError when nothing waits."""
    row = connection.execute(
        "SELECT a.*, t.owned FROM actions a JOIN targets t ON t.id = a.target WHERE a.id = ?", (action,)
    ).fetchone()
    if row is None:
        raise UnknownError(f"there is no action {action}")
    if not row["open"]:
        raise GoneError(f"action {action} is closed")
    if row["state"] != State.WAITING:
        raise UnknownError("it does not wait for confirmation")
    said = Report(execution="", finished="none", code=code, details=details)
    _check_quota(row, said)
    _write(connection, row, "confirmed" if confirmed else "denied", said, now)
    if not confirmed:
        connection.execute("UPDATE actions SET consent = 'denied' WHERE id = ?", (action,))
        return
    held = UNCHECKED if row["owned"] else None
    connection.execute(
        "UPDATE actions SET state = 'running', consent = ?, held = ?, revision = revision + 1 WHERE id = ?",
        (consent, held, action),
    )
    set_window(connection, action, now, window=window, held=held, anew=True)


def set_window(
    connection: sqlite3.Connection,
    action: int,
    now: int,
    *,
    window: tuple[int, int] | None,
    held: str | None,
    anew: bool = False,
) -> None:
    """When a running action may be installed, and why not just now; the device sees it at its next poll.

    Its silence is counted from then on, and not while it is held; saying the same again changes nothing,
    unless it is meant `anew`.
    """
    begin, end = window or (None, None)
    due = _DUE.format(held=":held", now=":now", end=":end")
    connection.execute(
        "UPDATE actions SET window_from = :begin, window_to = :end, held = :held, silent = 0, "
        f"due_at = {due}, revision = revision + 1 WHERE id = :action AND state = 'running' AND (:anew "
        "OR window_from IS NOT :begin OR window_to IS NOT :end OR held IS NOT :held)",
        {"begin": begin, "end": end, "held": held, "now": now, "action": action, "anew": anew},
    )


def auto_confirm(connection: sqlite3.Connection, target: str, state: dict[str, Any] | None, now: int) -> None:
    """The device confirms by itself from now on (None: no longer); what waits is confirmed. UnknownError."""
    kept = None if state is None else json.dumps(state)
    done = connection.execute("UPDATE targets SET auto_confirm = ? WHERE id = ?", (kept, target))
    if not done.rowcount:
        raise UnknownError(f"there is no device {target}")
    waiting = connection.execute(
        "SELECT id FROM actions WHERE target = ? AND state = 'waiting'", (target,)
    ).fetchone()
    if state is not None and waiting is not None:
        confirm(connection, waiting["id"], now, confirmed=True, details=("confirmed automatically",))


def history(connection: sqlite3.Connection, action: int, most: int = 100) -> list[dict[str, Any]]:
    """The newest lines of an action's history first."""
    rows = connection.execute(
        "SELECT at, status, code, messages FROM action_log WHERE action = ? ORDER BY id DESC LIMIT ?",
        (action, most),
    )
    return [dict(row) | {"messages": json.loads(row["messages"])} for row in rows]
