"""Rollouts: one release for many devices, group after group, stopping by itself when it goes wrong.

    ready ──▶ running ◀──▶ paused
                 ├──▶ finished
    (any) ───────┴──▶ stopped

The devices of every group are fixed when the rollout is made, each with its action waiting (`scheduled`),
so that who gets what is known before anything begins and no device can be chosen twice. A group begins when
enough of the one before have succeeded; in it, devices begin at its pace. Who is not heard of within the
deadline counts as failed until heard of again. When too many of a group have failed the rollout stops: who
has not begun is spared it, who is in the middle is left to finish, and the reason stands with the rollout.
"""

import hashlib
import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from typing import Any

from firmware_api.actions import MODES, UNCHECKED
from firmware_api.release import ConflictError, Manifest, ManifestError, UnknownError

MOST_AT_ONCE = 2_000
"""Devices begun in one step, so that reports of others wait some tens of milliseconds at most."""
MOST_GROUPS = 50
MOST_H = 8_784
"""Hours: a year."""
HOUR_MS = 3_600_000
OPEN_STATES = ("ready", "running", "paused")
BY_ITSELF = "stopped by itself"


class NobodyError(ConflictError):
    """No device would get it."""


class PlanError(ManifestError):
    """A plan that cannot be; `code` and `data` say it in other languages."""

    def __init__(self, text: str, code: str, **data: object) -> None:
        super().__init__(text)
        self.code = code
        self.data = data


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which devices: every condition that is given has to hold."""

    models: tuple[str, ...] = ()
    firmware: tuple[str, ...] = ()
    """versions that are installed"""
    countries: tuple[str, ...] = ()
    """ISO 3166-1 alpha-2"""
    tags: tuple[str, ...] = ()
    """all of them"""
    devices: tuple[str, ...] = ()
    """these and no others"""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A step of a rollout."""

    name: str
    query: Query = field(default_factory=Query)
    percent: float = 100.0
    """of those that fit and are in no group before"""
    success: float = 90.0
    """percent that have to succeed before the next group begins"""
    error: float = 5.0
    """percent of failures at which the rollout stops"""
    pace: int = 0
    """devices begun a minute; 0: all at once"""

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= 64 or not self.name.isprintable():
            raise PlanError("a group's name: 1 to 64 printable characters", "name")
        if not 0 < self.percent <= 100 or not 0 <= self.success <= 100 or not 0 < self.error <= 100:
            text = f"group {self.name}: percent and error above 0 to 100, success 0 to 100"
            raise PlanError(text, "percent", group=self.name)
        if self.pace < 0:
            raise PlanError(f"group {self.name}: pace from 0", "pace", group=self.name)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a release is rolled out."""

    groups: tuple[Group, ...]
    mode: str = "forced"
    """forced, soft, timeforced, downloadonly, as hawkBit has them"""
    silence_h: float = 24.0
    """hours without a word after which a device counts as failed"""
    ask_owner: bool = True
    """products that somebody uses are updated when their owner agrees"""
    forced_at: int | None = None
    """a security fix: UTC ms from which it is installed without being agreed to; the owner is told before"""
    notice_h: float = 72.0
    """hours from asking an owner that pass at least before it is forced"""
    security: bool = False
    """what is said to owners: it closes a security hole"""

    def __post_init__(self) -> None:
        if not 1 <= len(self.groups) <= MOST_GROUPS:
            raise PlanError(f"groups: 1 to {MOST_GROUPS}", "groups", most=MOST_GROUPS)
        if self.mode not in MODES:
            raise PlanError(f"mode: {', '.join(MODES)}", "mode")
        if not 0 < self.silence_h <= MOST_H or not 0 <= self.notice_h <= MOST_H:
            raise PlanError(f"silence_h: above 0, notice_h: from 0, both to {MOST_H}", "hours", most=MOST_H)
        if self.forced_at is None and self.mode == "timeforced":
            raise PlanError("forced_at: timeforced needs to know from when on", "when")
        if self.forced_at is not None and self.ask_owner and not self.security:
            text = "forced_at: without their yes owners get security fixes only; say security"
            raise PlanError(text, "security")

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Raises ManifestError."""
        try:
            return plan_of(json.loads(text))
        except ValueError as error:
            raise ManifestError(f"not a plan: {error}") from error


def plan_of(fields: Mapping[str, Any]) -> Plan:
    """A plan from plain values. Raises ManifestError."""
    try:
        _known_keys("plan", fields, Plan)
        if "groups" not in fields:
            raise ManifestError('not a plan: groups are missing: {"groups": [{"name": "first"}, …]}')
        groups = tuple(_group(group) for group in fields["groups"])
        return Plan(**{**fields, "groups": groups})
    except (AttributeError, KeyError, TypeError) as error:
        raise ManifestError(f"not a plan: {error}") from error


def _group(fields: Mapping[str, Any]) -> Group:
    _known_keys("group", fields, Group)
    if "name" not in fields:
        raise ManifestError("not a plan: a group has no name")
    query = {name: tuple(value) for name, value in (fields.get("query") or {}).items()}
    _known_keys("query", query, Query)
    return Group(**{**fields, "query": Query(**query)})


def _known_keys(what: str, fields: Mapping[str, Any], model: type) -> None:
    names = [field.name for field in dataclass_fields(model)]
    if not isinstance(fields, Mapping):
        raise ManifestError(f"not a plan: a {what} is an object with any of {', '.join(names)}")
    if unknown := [name for name in fields if name not in names]:
        raise ManifestError(
            f"not a plan: a {what} has no {', '.join(map(str, unknown))}; known are {', '.join(names)}"
        )


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A rollout as it stands."""

    id: int
    name: str
    release: int
    state: str
    plan: Plan
    reason: str | None
    """why it stopped"""
    cause: Mapping[str, Any]
    """the same for other languages: `code`, and what belongs to it; empty while it has not stopped"""
    created_at: int
    by: str
    changed_at: int


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How far a group is, in devices."""

    name: str
    state: str
    """scheduled, running, finished"""
    size: int
    scheduled: int = 0
    waiting: int = 0
    """for their owner"""
    running: int = 0
    silent: int = 0
    """not heard of in time; also counted as failed"""
    finished: int = 0
    failed: int = 0
    canceled: int = 0

    @property
    def counted(self) -> int:
        """Those that percentages are of: who was spared it says nothing about the release."""
        return self.size - self.canceled


# --- who would get it -------------------------------------------------------------------------------

_FIT = (
    "t.kind = :kind AND "
    "(:models = '[]' OR t.model IS NULL OR t.model IN (SELECT value FROM json_each(:models))) "
    "AND (:hardware = '[]' OR t.hardware IS NULL OR t.hardware IN (SELECT value FROM json_each(:hardware))) "
    "AND t.version IS NOT :version AND (:downgrade OR t.sequence < :sequence) AND t.sequence >= :lowest"
)
_MATCH = (
    "(:q_models = '[]' OR t.model IN (SELECT value FROM json_each(:q_models))) "
    "AND (:q_firmware = '[]' OR t.version IN (SELECT value FROM json_each(:q_firmware))) "
    "AND (:q_countries = '[]' OR t.country IN (SELECT value FROM json_each(:q_countries))) "
    "AND (:q_devices = '[]' OR t.id IN (SELECT value FROM json_each(:q_devices))) "
    "AND (:q_tags = '[]' OR (SELECT count(*) FROM target_tags g WHERE g.target = t.id "
    "AND g.tag IN (SELECT value FROM json_each(:q_tags))) = json_array_length(:q_tags))"
)


def choose(connection: sqlite3.Connection, release: int, plan: Plan) -> list[list[str]]:
    """The devices of every group, in the order in which they begin: the same every time it is asked."""
    row = connection.execute("SELECT raw FROM releases WHERE id = ?", (release,)).fetchone()
    if row is None:
        raise UnknownError(f"there is no release {release}")
    manifest = Manifest.from_bytes(row["raw"])
    taken: set[str] = set()
    chosen = []
    for group in plan.groups:
        fields = _parameters(manifest) | {
            f"q_{name}": json.dumps(value) for name, value in asdict(group.query).items()
        }
        rows = connection.execute(f"SELECT t.id FROM targets t WHERE {_FIT} AND {_MATCH}", fields)
        found = sorted((id_ for (id_,) in rows if id_ not in taken), key=lambda id_: _lot(release, id_))
        some = found[: math.ceil(len(found) * group.percent / 100)]
        taken.update(some)
        chosen.append(some)
    return chosen


def _parameters(manifest: Manifest) -> dict[str, Any]:
    return {
        "kind": manifest.kind,
        "models": json.dumps(manifest.models),
        "hardware": json.dumps(manifest.hardware),
        "version": manifest.version,
        "sequence": manifest.sequence,
        "lowest": manifest.lowest,
        "downgrade": manifest.downgrade,
    }


def _lot(release: int, target: str) -> bytes:
    """Devices in an order that is nobody's choice: the first percent is no special percent."""
    return hashlib.blake2b(f"{release}:{target}".encode(), digest_size=8).digest()


def dry_run(connection: sqlite3.Connection, release: int, plan: Plan, now: int) -> list[dict[str, Any]]:
    """Who would get it, and when at the earliest: a group begins when the one before has begun whole."""
    found, at = [], now
    for group, devices in zip(plan.groups, choose(connection, release, plan), strict=True):
        last = at + (math.ceil(len(devices) / group.pace) - 1) * 60_000 if group.pace and devices else at
        found.append({"name": group.name, "devices": devices, "first": at, "last": last})
        at = last
    return found


# --- making one, steering it ------------------------------------------------------------------------


def create(connection: sqlite3.Connection, name: str, release: int, plan: Plan, now: int, by: str) -> int:
    """A rollout that is ready to begin. Raises UnknownError, ConflictError when nobody would get it."""
    found = connection.execute("SELECT withdrawn FROM releases WHERE id = ?", (release,)).fetchone()
    if found is not None and found["withdrawn"]:
        raise ConflictError(f"the release is {found['withdrawn']}")
    chosen = choose(connection, release, plan)
    if not any(chosen):
        raise NobodyError("no device fits: of this kind, model and hardware, and not there already")
    number = connection.execute(
        "INSERT INTO rollouts (name, release, state, plan, created_at, by_whom, changed_at) "
        "VALUES (?, ?, 'ready', ?, ?, ?, ?) RETURNING id",
        (name, release, plan.to_json(), now, by, now),
    ).fetchone()["id"]
    for place, (group, devices) in enumerate(zip(plan.groups, chosen, strict=True)):
        connection.execute(
            "INSERT INTO rollout_groups (rollout, place, name, size, state) VALUES (?, ?, ?, ?, 'scheduled')",
            (number, place, group.name, len(devices)),
        )
        connection.executemany(
            "INSERT INTO actions (target, release, rollout, place, state, open, mode, forced_at, due_after, "
            "created_at) VALUES (?, ?, ?, ?, 'scheduled', 0, ?, ?, ?, ?)",
            [
                (one, release, number, place, plan.mode, plan.forced_at, _silence(plan), now)
                for one in devices
            ],
        )
    size = sum(map(len, chosen))
    _note(connection, number, now, "made", f"{size} devices, by {by}", devices=size, by=by)
    return int(number)


def _silence(plan: Plan) -> int:
    return round(plan.silence_h * HOUR_MS)


def get(connection: sqlite3.Connection, rollout: int) -> Rollout:
    """Raises UnknownError."""
    row = connection.execute("SELECT * FROM rollouts WHERE id = ?", (rollout,)).fetchone()
    if row is None:
        raise UnknownError(f"there is no rollout {rollout}")
    return _rollout(row)


def listed(connection: sqlite3.Connection, most: int = 100, before: int | None = None) -> list[Rollout]:
    """The newest first."""
    rows = connection.execute(
        "SELECT * FROM rollouts WHERE ? IS NULL OR id < ? ORDER BY id DESC LIMIT ?", (before, before, most)
    )
    return [_rollout(row) for row in rows]


def _rollout(row: sqlite3.Row) -> Rollout:
    return Rollout(
        id=row["id"],
        name=row["name"],
        release=row["release"],
        state=row["state"],
        plan=Plan.from_json(row["plan"]),
        reason=row["reason"],
        cause=json.loads(row["cause"] or "{}"),
        created_at=row["created_at"],
        by=row["by_whom"],
        changed_at=row["changed_at"],
    )


def picture(connection: sqlite3.Connection, rollout: int) -> list[Picture]:
    """How far every group is: one query over one index, whatever the number of devices."""
    rows = connection.execute(
        "SELECT g.place, g.name, g.state AS group_state, g.size, a.state, a.silent, "
        "count(a.state) AS devices FROM rollout_groups g "
        "LEFT JOIN actions a ON a.rollout = g.rollout AND a.place = g.place "
        "WHERE g.rollout = ? GROUP BY g.place, a.state, a.silent ORDER BY g.place",
        (rollout,),
    )
    groups: dict[int, dict[str, Any]] = {}
    for row in rows:
        group = groups.setdefault(
            row["place"], {"name": row["name"], "state": row["group_state"], "size": row["size"]}
        )
        _count(group, row["state"], row["silent"], row["devices"])
    return [Picture(**group) for group in groups.values()]


_COLUMNS = {"canceling": "running", "error": "failed"}


def _count(group: dict[str, Any], state: str | None, silent: int, devices: int) -> None:
    if state is None:
        return
    names = ("silent", "failed") if silent else (_COLUMNS.get(state, state),)
    for name in names:
        group[name] = group.get(name, 0) + devices


def troubled(connection: sqlite3.Connection, rollout: int, most: int) -> list[sqlite3.Row]:
    """Devices that failed or are silent (target, silent, message), the latest first."""
    return connection.execute(
        "SELECT target, silent, message FROM actions WHERE rollout = ? AND (state = 'error' OR silent = 1) "
        "ORDER BY closed_at DESC, id DESC LIMIT ?",
        (rollout, most),
    ).fetchall()


def notes(connection: sqlite3.Connection, rollout: int, most: int = 50) -> list[dict[str, Any]]:
    """What became of it, the newest first."""
    rows = connection.execute(
        "SELECT at, what, text, data FROM rollout_log WHERE rollout = ? ORDER BY rowid DESC LIMIT ?",
        (rollout, most),
    )
    return [dict(row) | {"data": json.loads(row["data"])} for row in rows]


def _note(
    connection: sqlite3.Connection, rollout: int, now: int, what: str, text: str, **data: object
) -> None:
    connection.execute(
        "INSERT INTO rollout_log VALUES (?, ?, ?, ?, ?)", (rollout, now, what, text, json.dumps(data))
    )


MOVES = {
    "start": (("ready",), "running"),
    "pause": (("running",), "paused"),
    "resume": (("paused",), "running"),
    "stop": (OPEN_STATES, "stopped"),
}
"""How a rollout is steered: from which states, to which."""


def steer(connection: sqlite3.Connection, rollout: int, move: str, now: int, by: str) -> Rollout:
    """start, pause, resume or stop. Raises UnknownError, ConflictError where that cannot follow."""
    held = get(connection, rollout)
    before, after = MOVES[move]
    if held.state == after and move != "start":
        return held
    if held.state not in before:
        raise ConflictError(f"rollout {rollout} is {held.state}; {move} does not follow")
    if after == "stopped":
        _stop(connection, rollout, now, Why(f"stopped by {by}", {"code": "by", "by": by}))
    else:
        connection.execute(
            "UPDATE rollouts SET state = ?, changed_at = ? WHERE id = ?", (after, now, rollout)
        )
    _note(connection, rollout, now, move, f"by {by}", by=by)
    return get(connection, rollout)


@dataclass(frozen=True)
class Why:
    """Why a rollout stops: in English, and as data for other languages."""

    text: str
    cause: Mapping[str, Any]


def _stop(connection: sqlite3.Connection, rollout: int, now: int, why: Why) -> None:
    """Who has not begun is spared it; who is in the middle is left to finish."""
    connection.execute(
        "UPDATE rollouts SET state = 'stopped', reason = ?, cause = ?, changed_at = ? WHERE id = ?",
        (why.text, json.dumps(why.cause), now, rollout),
    )
    connection.execute(
        "UPDATE actions SET state = 'canceled', open = 0, closed_at = ?, due_at = NULL, message = ? "
        "WHERE rollout = ? AND (state IN ('scheduled', 'waiting') OR (state = 'running' AND fetched = 0))",
        (now, "the rollout was stopped", rollout),
    )


# --- its next step ----------------------------------------------------------------------------------


def step(connection: sqlite3.Connection, now: int) -> int:
    """Every running rollout takes its next step; gives how many devices began. Repeating it changes
    nothing."""
    connection.execute(
        "UPDATE actions SET silent = 1, due_at = NULL WHERE due_at <= ? AND state = 'running'", (now,)
    )
    rows = connection.execute("SELECT * FROM rollouts WHERE state = 'running' ORDER BY id").fetchall()
    return sum(_step(connection, _rollout(row), now) for row in rows)


def _step(connection: sqlite3.Connection, rollout: Rollout, now: int) -> int:
    groups = picture(connection, rollout.id)
    for group, held in zip(rollout.plan.groups, groups, strict=True):
        why = _too_many(group, held)
        if why is not None:
            _stop(connection, rollout.id, now, why)
            _note(connection, rollout.id, now, BY_ITSELF, why.text, **why.cause)
            return 0
    begun = 0
    for place, (group, held) in enumerate(zip(rollout.plan.groups, groups, strict=True)):
        if held.state == "scheduled":
            _begin_group(connection, rollout.id, place, held, now)
        begun += _begin(connection, rollout, place, group, held, now)
        if held.scheduled or not _enough(group, held):
            break
        if held.waiting == held.running == held.silent == 0:
            _end_group(connection, rollout.id, place, now)
    else:
        if all(one.waiting == one.running == one.silent == 0 for one in groups):
            _finish(connection, rollout.id, now)
    return begun


def _too_many(group: Group, held: Picture) -> Why | None:
    """Why a group stops the rollout; None while it does not."""
    if not held.counted or held.state == "scheduled":
        return None
    share, counts = 100 * held.failed / held.counted, {"group": group.name, "of": held.counted}
    if held.failed and share >= group.error:
        silent = f", {held.silent} of them silent" if held.silent else ""
        text = (
            f"{group.name}: {held.failed} of {held.counted} devices failed{silent}; "
            f"that is {share:.1f} %, and {group.error:g} % stops it"
        )
        counts |= {"failed": held.failed, "silent": held.silent, "share": share, "limit": group.error}
        return Why(text, counts | {"code": "failed_silent" if held.silent else "failed"})
    over = held.finished + held.failed - held.silent
    if over == held.counted and 100 * held.finished < group.success * held.counted:
        text = (
            f"{group.name}: {held.finished} of {held.counted} devices succeeded, "
            f"{group.success:g} % were needed"
        )
        return Why(text, counts | {"finished": held.finished, "limit": group.success, "code": "few"})
    return None


def _enough(group: Group, held: Picture) -> bool:
    return 100 * held.finished >= group.success * held.counted


def _begin_group(connection: sqlite3.Connection, rollout: int, place: int, held: Picture, now: int) -> None:
    connection.execute(
        "UPDATE rollout_groups SET state = 'running', begun_at = ? WHERE rollout = ? AND place = ?",
        (now, rollout, place),
    )
    text = f"{held.name}: {held.size} devices"
    _note(connection, rollout, now, "group begun", text, group=held.name, devices=held.size)


def _end_group(connection: sqlite3.Connection, rollout: int, place: int, now: int) -> None:
    connection.execute(
        "UPDATE rollout_groups SET state = 'finished', ended_at = ? "
        "WHERE rollout = ? AND place = ? AND state = 'running'",
        (now, rollout, place),
    )


def _finish(connection: sqlite3.Connection, rollout: int, now: int) -> None:
    connection.execute("UPDATE rollouts SET state = 'finished', changed_at = ? WHERE id = ?", (now, rollout))
    _note(connection, rollout, now, "finished", "every device is done")


def _begin(
    connection: sqlite3.Connection, rollout: Rollout, place: int, group: Group, held: Picture, now: int
) -> int:
    """As many devices of a group as its pace allows begin now."""
    most = min(held.scheduled, MOST_AT_ONCE)
    if group.pace:
        most = min(most, _allowed(connection, rollout.id, place, group.pace, now))
    if most <= 0:
        return 0
    connection.execute(
        "UPDATE rollout_groups SET minute_begun = minute_begun + ? WHERE rollout = ? AND place = ?",
        (most, rollout.id, place),
    )
    rows = connection.execute(
        "SELECT id, target FROM actions WHERE rollout = ? AND place = ? AND state = 'scheduled' "
        "ORDER BY id LIMIT ?",
        (rollout.id, place, most),
    ).fetchall()
    _offer(connection, rollout, rows, now)
    return len(rows)


def _allowed(connection: sqlite3.Connection, rollout: int, place: int, pace: int, now: int) -> int:
    """How many more may begin in this minute: never more than the pace, however long nobody looked."""
    connection.execute(
        "UPDATE rollout_groups SET minute_at = ?, minute_begun = 0 "
        "WHERE rollout = ? AND place = ? AND minute_at <= ?",
        (now, rollout, place, now - 60_000),
    )
    row = connection.execute(
        "SELECT minute_begun FROM rollout_groups WHERE rollout = ? AND place = ?", (rollout, place)
    ).fetchone()
    return pace - int(row["minute_begun"])


def _offer(connection: sqlite3.Connection, rollout: Rollout, rows: Sequence[sqlite3.Row], now: int) -> None:
    manifest = Manifest.from_bytes(
        connection.execute("SELECT raw FROM releases WHERE id = ?", (rollout.release,)).fetchone()["raw"]
    )
    ids = json.dumps([row["id"] for row in rows])
    devices = json.dumps([row["target"] for row in rows])
    there = f"NOT ({_FIT})"
    connection.execute(  # what has changed since the rollout was made
        "UPDATE actions SET state = iif(t.version IS :version, 'finished', 'canceled'), closed_at = :now, "
        "message = 'installed already, or not for this device any more' FROM targets t "
        f"WHERE actions.id IN (SELECT value FROM json_each(:ids)) AND t.id = actions.target AND {there}",
        _parameters(manifest) | {"ids": ids, "now": now},
    )
    connection.execute(
        "UPDATE actions SET state = 'canceling', revision = revision + 1, message = 'superseded' "
        "WHERE state IN ('waiting', 'running') AND target IN (SELECT value FROM json_each(?)) "
        "AND target IN (SELECT target FROM actions WHERE id IN (SELECT value FROM json_each(?)) "
        "AND state = 'scheduled')",
        (devices, ids),
    )
    asks = "t.owned = 1 AND t.auto_confirm IS NULL" if rollout.plan.ask_owner else "0"
    # A product in use is looked at before it installs (`held`), whether or not anybody is asked.
    connection.execute(
        f"UPDATE actions SET open = 1, begun_at = :now, state = iif({asks}, 'waiting', 'running'), "
        f"consent = iif({asks}, 'asked', iif(t.owned, 'agreed', NULL)), "
        f"held = iif(t.owned AND NOT ({asks}), :unchecked, NULL), "
        f"forced_at = iif({asks}, max(forced_at, :now + :notice), forced_at), "
        f"due_at = iif({asks}, NULL, :now + due_after) FROM targets t "
        "WHERE actions.id IN (SELECT value FROM json_each(:ids)) AND t.id = actions.target "
        "AND actions.state = 'scheduled'",
        {
            "ids": ids,
            "now": now,
            "unchecked": UNCHECKED,
            "notice": round(rollout.plan.notice_h * HOUR_MS),
        },
    )


def stopped_since(connection: sqlite3.Connection, since: int) -> list[Rollout]:
    """Rollouts that stopped by themselves since then."""
    rows = connection.execute(
        "SELECT * FROM rollouts r WHERE state = 'stopped' AND changed_at >= ? AND EXISTS "
        "(SELECT 1 FROM rollout_log l WHERE l.rollout = r.id AND l.what = ?) "
        "ORDER BY id DESC LIMIT 5",
        (since, BY_ITSELF),
    )
    return [_rollout(row) for row in rows]


def untold(connection: sqlite3.Connection) -> list[Rollout]:
    """Rollouts that ended, stopped by themselves or whole, and that the operator was not told of yet."""
    rows = connection.execute(
        "SELECT * FROM rollouts r WHERE told_at IS NULL AND (state = 'finished' OR state = 'stopped' "
        "AND EXISTS (SELECT 1 FROM rollout_log l WHERE l.rollout = r.id AND l.what = ?)) "
        "ORDER BY id LIMIT 50",
        (BY_ITSELF,),
    ).fetchall()
    return [_rollout(row) for row in rows]


def told(connection: sqlite3.Connection, rollout: int, now: int) -> None:
    """The operator was told."""
    connection.execute("UPDATE rollouts SET told_at = ? WHERE id = ? AND told_at IS NULL", (now, rollout))


def release_ended(
    connection: sqlite3.Connection, release: int, why: str, now: int, *, by_itself: bool
) -> None:
    """Nobody gets this release any more: its rollouts stop."""
    reason = Why(f"the release {'has' if by_itself else 'was'} {why}", {"code": why})
    rows = connection.execute(
        "SELECT id FROM rollouts WHERE release = ? AND state IN ('ready', 'running', 'paused')", (release,)
    ).fetchall()
    for row in rows:
        _stop(connection, row["id"], now, reason)
        _note(connection, row["id"], now, BY_ITSELF if by_itself else "stop", reason.text, **reason.cause)
