"""The firmware part as the owners' rooms see it: `UpdateDesk` over firmware_api."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from firmware_api import actions, releases, rollouts, targets
from firmware_api.office import Office
from firmware_api.release import FirmwareError, UnknownError
from firmware_api.targets import Target
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.flow.updates import HOUR_MS, Ended, Product, Waiting

_SELECT = (
    "SELECT a.*, r.raw, r.version AS to_version, o.plan, (SELECT count(*) FROM actions f WHERE "
    "f.target = a.target AND f.release = a.release AND f.state = 'error') AS failures "
    "FROM actions a JOIN releases r ON r.id = a.release "
    "LEFT JOIN rollouts o ON o.id = a.rollout WHERE "
)
LIVE = ("asked", "told", "denied", "yes", "chosen", "agreed")
_LIVE = f"a.consent IN {LIVE} AND "


def _waiting(row: sqlite3.Row) -> Waiting:
    manifest = json.loads(row["raw"])
    plan: dict[str, Any] = json.loads(row["plan"]) if row["plan"] else {}
    return Waiting(
        action=row["id"],
        device=row["target"],
        release=row["release"],
        version=row["to_version"],
        minutes=manifest["minutes"],
        notes=manifest["notes"],
        security=bool(plan.get("security")),
        forced_at=row["forced_at"],
        state=row["state"],
        on_page=row["consent"] == "chosen",
        begin=row["window_from"],
        end=row["window_to"],
        held=row["held"],
        message=row["message"],
        failures=row["failures"],
    )


class FirmwareDesk:
    """UpdateDesk over an Office."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def register(self, products: Sequence[Product]) -> None:
        """These exist, and are so."""
        now = self._office.clock()
        known = [
            Target(id=one.id, kind=one.kind, model=one.model, version=one.firmware, owned=one.owned)
            for one in products
        ]
        await self._office.write(lambda c: targets.register(c, known, now))

    async def _find(self, where: str, *values: object) -> list[Waiting]:
        rows = await self._office.read(lambda c: c.execute(_SELECT + where, values).fetchall())
        return [_waiting(row) for row in rows]

    async def _mark(self, action: int, before: tuple[str, ...], after: str) -> None:
        marks = ", ".join("?" * len(before))
        await self._office.write(
            lambda c: c.execute(
                f"UPDATE actions SET consent = ? WHERE id = ? AND consent IN ({marks})",
                (after, action, *before),
            )
        )

    async def asked(self, limit: int) -> list[Waiting]:
        """Updates whose owners were not asked yet."""
        return await self._find(
            "a.consent = 'asked' AND a.open = 1 AND a.state = 'waiting' ORDER BY a.id LIMIT ?", limit
        )

    async def told(self, action: int) -> None:
        """The owner was asked."""
        await self._mark(action, ("asked",), "told")

    async def ask_again(self, devices: Sequence[str]) -> None:
        """These products may have other owners: what waits is to be asked again."""
        await self._office.write(
            lambda c: c.execute(
                "UPDATE actions SET consent = 'asked' WHERE consent IN ('told', 'denied') AND open = 1 "
                "AND state = 'waiting' AND target IN (SELECT value FROM json_each(?))",
                (json.dumps(list(devices)),),
            )
        )

    async def of_devices(self, devices: Sequence[str]) -> list[Waiting]:
        """Updates of these products that wait or are agreed to."""
        return await self._find(
            _LIVE + "a.open = 1 AND a.state IN ('waiting', 'running') "
            "AND a.target IN (SELECT value FROM json_each(?)) ORDER BY a.id",
            json.dumps(list(devices)),
        )

    async def said_yes(self, limit: int) -> list[Waiting]:
        """Agreed to, on a page or on the device itself, and the matter may still be asked."""
        return await self._find("a.consent IN ('yes', 'chosen') ORDER BY a.id LIMIT ?", limit)

    async def settled(self, action: int) -> None:
        """The matter is asked nowhere any more."""
        await self._mark(action, ("yes", "chosen"), "agreed")

    async def agree(
        self, action: int, window: tuple[int, int] | None, held: str | None = None, *, forced: bool = False
    ) -> None:
        """Install it, in that time, but not while `held`."""
        now = self._office.clock()

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute("SELECT state FROM actions WHERE id = ?", (action,)).fetchone()
            if row is None or row["state"] != "running":
                actions.confirm(
                    connection,
                    action,
                    now,
                    confirmed=True,
                    details=("forced by its date" if forced else "agreed by its owner",),
                    window=window,
                    consent="agreed" if forced else "chosen",
                )
            actions.set_window(connection, action, now, window=window, held=held)

        try:
            await self._office.write(work)
        except UnknownError as error:
            raise NotFoundError(str(error)) from error
        except FirmwareError as error:
            raise ConflictError(str(error)) from error

    async def due(self, now: int, after: int, limit: int) -> list[Waiting]:
        """Agreed to, and their time has come or is over; and those that are forced from now on, whose owners
        have been told. Those behind the action `after`."""
        return await self._find(
            "a.consent IS NOT NULL AND a.open = 1 AND a.id > ? AND ("
            "(a.state = 'running' AND a.consent IN ('yes', 'chosen', 'agreed') "
            "AND coalesce(a.window_from, 0) <= ?) "
            "OR (a.state = 'waiting' AND a.consent IN ('told', 'denied') AND a.forced_at <= ?)) "
            "ORDER BY a.id LIMIT ?",
            after,
            now + HOUR_MS // 4,
            now,
            limit,
        )

    async def hold(self, action: int, held: str | None, window: tuple[int, int] | None) -> None:
        """Why not just now, and the time from now on."""
        now = self._office.clock()
        await self._office.write(lambda c: actions.set_window(c, action, now, window=window, held=held))

    async def ended(self, limit: int) -> list[Waiting]:
        """Finished, failed or cancelled, and nobody was told of it yet."""
        settled = "a.consent NOT IN ('yes', 'chosen') AND "  # a yes is written down before its end
        return await self._find(_LIVE + settled + "a.open = 0 ORDER BY a.id LIMIT ?", limit)

    async def closed(self, action: int) -> None:
        """Whoever had to be told was."""
        await self._mark(action, LIVE, "closed")

    async def ended_rollouts(self) -> list[Ended]:
        """Rollouts that ended, by themselves or whole, and that nobody was told of yet."""
        return await self._office.read(_ended)

    async def rollout_told(self, rollout: int) -> None:
        """The operator was told."""
        now = self._office.clock()
        await self._office.write(lambda c: rollouts.told(c, rollout, now))


def _ended(connection: sqlite3.Connection) -> list[Ended]:
    found = []
    for one in rollouts.untold(connection):
        manifest = releases.by_id(connection, one.release).manifest
        groups = rollouts.picture(connection, one.id)
        found.append(
            Ended(
                rollout=one.id,
                name=one.name,
                release=f"{manifest.kind} {manifest.version}",
                state=one.state,
                reason=one.reason or "",
                cause=one.cause,
                devices=sum(group.size for group in groups),
                finished=sum(group.finished for group in groups),
                failed=sum(group.failed for group in groups),
            )
        )
    return found
