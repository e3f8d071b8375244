"""What is measured of matters: one day of findings at a time, and sums of days."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Transaction
from gateway.domain.feedback import AskState
from gateway.domain.measures import Cell, Followed, Hit, Tally
from gateway.domain.moments import DAY_MS

_DAY = sa.text(
    """
    SELECT f.id, f.rule, f.severity, f.found_at, f.cleared_at,
        d.kind, d.model, d.firmware,
        t.id AS touchpoint, t.sent_at, t.answered_at, t.action,
        (SELECT min(o.at) FROM outbox b JOIN delivery_outcomes o ON o.delivery = b.id
            WHERE b.touchpoint = t.id AND o.outcome IN ('seen', 'answered')) AS seen_at,
        (SELECT min(a.created) FROM appointments a WHERE a.touchpoint = t.id) AS booked_at,
        r.done_at, r.helped,
        CASE WHEN t.id IS NULL THEN (SELECT count(*) FROM ledger l
            WHERE l.finding = f.id AND l.code IN ('held_out', 'suppressed_held_out')) ELSE 0 END AS held_out
    FROM findings f
    LEFT JOIN devices d ON d.id = f.device
    LEFT JOIN touchpoints t ON t.id = coalesce(
        (SELECT tf.touchpoint FROM touchpoint_findings tf WHERE tf.finding = f.id
            ORDER BY tf.added_at DESC LIMIT 1),
        (SELECT x.id FROM touchpoints x WHERE x.finding = f.id ORDER BY x.id DESC LIMIT 1))
    LEFT JOIN results r ON r.touchpoint = t.id
    WHERE f.found_at >= :since AND f.found_at < :until AND NOT f.shadow
    """
).columns(helped=sa.Boolean)
"""Every finding of a day with what became of it: a bundled one has its bundle's story."""

_WORSE = sa.text(
    """
    SELECT f.id, g.rule, g.severity, g.found_at
    FROM findings f JOIN findings g
        ON g.device = f.device AND g.found_at > f.found_at AND g.found_at <= f.found_at + :watched
    WHERE f.found_at >= :since AND f.found_at < :until AND f.severity = 'advice' AND NOT f.shadow
        AND g.severity IN ('warning', 'critical') AND NOT g.shadow
    """
)
"""What was found on the same device afterwards and was worse."""

_CELLS = sa.text(
    """
    SELECT f.rule, max(f.severity) AS severity, d.kind, coalesce(d.model, '') AS model,
        coalesce(d.firmware, '') AS firmware, count(DISTINCT f.device) AS observed,
        count(DISTINCT CASE WHEN f.found_at >= :middle THEN f.device END) AS lately,
        min(f.found_at) AS first, count(DISTINCT d.owner) AS customers
    FROM findings f JOIN devices d ON d.id = f.device
    WHERE f.found_at >= :since AND NOT f.shadow
    GROUP BY f.rule, d.kind, coalesce(d.model, ''), coalesce(d.firmware, '')
    """
)

_CELLS_BY_DAY = sa.text(
    """
    SELECT f.rule, d.kind, coalesce(d.model, ''), coalesce(d.firmware, ''),
        f.found_at / 86400000 AS day, count(DISTINCT f.device)
    FROM findings f JOIN devices d ON d.id = f.device
    WHERE f.found_at >= :since AND NOT f.shadow
    GROUP BY f.rule, d.kind, coalesce(d.model, ''), coalesce(d.firmware, ''), f.found_at / 86400000
    """
)

_HITS = sa.text(
    """
    SELECT f.device, d.owner, f.found_at, f.cleared_at, t.id AS touchpoint, t.state
    FROM findings f JOIN devices d ON d.id = f.device
    LEFT JOIN touchpoints t ON t.id = coalesce(
        (SELECT tf.touchpoint FROM touchpoint_findings tf WHERE tf.finding = f.id
            ORDER BY tf.added_at DESC LIMIT 1),
        (SELECT x.id FROM touchpoints x WHERE x.finding = f.id ORDER BY x.id DESC LIMIT 1))
    WHERE f.rule = :rule AND f.found_at >= :since AND NOT f.shadow
        AND d.kind = :kind AND coalesce(d.model, '') = :model AND coalesce(d.firmware, '') = :firmware
        AND f.found_at = (SELECT max(g.found_at) FROM findings g
            WHERE g.device = f.device AND g.rule = f.rule AND NOT g.shadow)
    ORDER BY f.found_at DESC, f.device LIMIT :limit
    """
)

_FLEET = sa.text(
    """
    SELECT kind, coalesce(model, ''), coalesce(firmware, ''), count(*) FROM devices
    GROUP BY kind, coalesce(model, ''), coalesce(firmware, '')
    """
)


WEEK_MS = 7 * DAY_MS
MONDAY_MS = 3 * DAY_MS
"""1970 began on a Thursday, a week on a Monday."""


class SqlAnalytics:
    """See `gateway.ports.Analytics`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    # --- which days are to be measured again

    def stale(self, due_by: int, limit: int = 10) -> list[tuple[int, int]]:
        c = tables.stale_days.c
        query = sa.select(c.day, c.due_at).where(c.due_at <= due_by).order_by(c.day.desc()).limit(limit)
        return [(day, due) for day, due in self._connection.execute(query)]

    def next_stale(self) -> int | None:
        c = tables.stale_days.c
        return self._connection.scalar(sa.select(c.due_at).order_by(c.due_at).limit(1))

    def lease(self, day: int, until: int) -> None:
        stale = tables.stale_days
        self._connection.execute(sa.update(stale).where(stale.c.day == day).values(due_at=until))

    def keep(
        self, day: int, lease: int, groups: Mapping[tuple[str, str], Tally], again_at: int | None
    ) -> None:
        measured, stale = tables.measured_days, tables.stale_days
        self._connection.execute(sa.delete(measured).where(measured.c.by.in_(BY), measured.c.day == day))
        rows = [
            {"by": by, "day": day, "key": key, "counts": _text(tally.counts), "times": _text(tally.times)}
            for (by, key), tally in groups.items()
        ]
        if rows:
            self._connection.execute(sa.insert(measured), rows)
        mine = sa.and_(stale.c.day == day, stale.c.due_at == lease)  # else it changed meanwhile, and stays
        if again_at is None:
            self._connection.execute(sa.delete(stale).where(mine))
        else:
            self._connection.execute(sa.update(stale).where(mine).values(due_at=again_at))

    # --- what happened on a day

    def day(self, day: int) -> Iterator[Followed]:
        for row in self._connection.execute(_DAY, _span(day)).mappings():
            yield Followed(**{**row, "held_out": bool(row["held_out"])})

    def worse(self, day: int, watched_ms: int) -> list[tuple[str, str, str, int]]:
        rows = self._connection.execute(_WORSE, {**_span(day), "watched": watched_ms})
        return [(finding, rule, severity, at) for finding, rule, severity, at in rows]

    # --- sums

    def measured(
        self, by: str, first: int, last: int, *, timed: bool = True
    ) -> Iterator[tuple[int, str, Mapping[str, int], Mapping[str, Mapping[str, int]]]]:
        c = tables.measured_days.c
        query = sa.select(c.day, c.key, c.counts, c.times).where(c.by == by, c.day >= first, c.day <= last)
        for day, key, counts, times in self._connection.execute(query):
            yield day, key, _COUNTS.decode(counts), _TIMES.decode(times) if timed else {}

    def cells(self, since: int, middle: int) -> list[Cell]:
        rows = self._connection.execute(_CELLS, {"since": since, "middle": middle}).mappings()
        return [Cell(**row) for row in rows]

    def cells_by_day(self, since: int) -> list[tuple[tuple[str, str, str, str], int, int]]:
        rows = self._connection.execute(_CELLS_BY_DAY, {"since": since})
        return [((rule, kind, model, firmware), int(day), n) for rule, kind, model, firmware, day, n in rows]

    def hits(self, cell: tuple[str, str, str, str], since: int, limit: int = 200) -> list[Hit]:
        asked = dict(zip(("rule", "kind", "model", "firmware"), cell, strict=True))
        rows = self._connection.execute(_HITS, {**asked, "since": since, "limit": limit}).mappings()
        return [Hit(**row) for row in rows]

    def affected(self, by: str, since: int) -> list[tuple[str, int, int]]:
        c, d = tables.findings.c, tables.devices.c
        keys: dict[str, sa.ColumnElement[Any]] = {"rule": c.rule, "kind": d.kind} | {
            name: sa.func.coalesce(d[name], "") for name in ("model", "firmware")
        }
        key = keys.get(by, (c.found_at + MONDAY_MS) // WEEK_MS)
        query = (
            sa.select(key, sa.func.count(c.device.distinct()), sa.func.count(d.owner.distinct()))
            .join_from(tables.findings, tables.devices, d.id == c.device)
            .where(c.found_at >= since, c.shadow.is_(False))
            .group_by(key)
        )
        return [(str(name), products, owners) for name, products, owners in self._connection.execute(query)]

    def fleet(self) -> Mapping[tuple[str, str, str], int]:
        return {(kind, model, firmware): n for kind, model, firmware, n in self._connection.execute(_FLEET)}

    def scores_by(
        self, by: str, since: int, until: int
    ) -> list[tuple[str, str, int | None, str | None, int]]:
        c, t, d = tables.feedback.c, tables.touchpoints.c, tables.devices.c
        keys: dict[str, sa.ColumnElement[Any]] = {
            "rule": sa.func.coalesce(t.rule, ""),
            "kind": sa.func.coalesce(d.kind, ""),
            "model": sa.func.coalesce(d.model, ""),
            "firmware": sa.func.coalesce(d.firmware, ""),
        }
        key = keys.get(by, (c.asked_at + MONDAY_MS) // WEEK_MS)
        query = (
            sa.select(key, c.question, c.score, c.expected, sa.func.count())
            .select_from(
                tables.feedback.outerjoin(tables.touchpoints, t.id == c.touchpoint).outerjoin(
                    tables.devices, d.id == c.device
                )
            )
            .where(c.question.in_(("csat", "ces", "nps")), c.asked_at >= since, c.asked_at < until)
            .where(sa.func.coalesce(c.state, "") == AskState.ASKED)
            .group_by(key, c.question, c.score, c.expected)
        )
        rows = self._connection.execute(query)
        return [(str(name), question, score, how, n) for name, question, score, how, n in rows]

    def scores(self, since: int, until: int) -> list[tuple[str, int | None, str | None, int]]:
        c = tables.feedback.c
        query = (
            sa.select(c.question, c.score, c.expected, sa.func.count())
            .where(c.question.in_(("csat", "ces", "nps")), c.asked_at >= since, c.asked_at < until)
            .where(sa.func.coalesce(c.state, "") == AskState.ASKED)  # so worded that no index on it serves
            .group_by(c.question, c.score, c.expected)
        )
        return [
            (question, score, expected, n) for question, score, expected, n in self._connection.execute(query)
        ]


BY = ("rule", "kind", "model", "firmware", "all")
"""What findings of a day are grouped by; all: their sum."""


_COUNTS = msgspec.json.Decoder(dict[str, int])
_TIMES = msgspec.json.Decoder(dict[str, dict[str, int]])


def _text(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _span(day: int) -> dict[str, Any]:
    return {"since": day * DAY_MS, "until": (day + 1) * DAY_MS}
