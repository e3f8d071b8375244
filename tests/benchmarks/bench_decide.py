"""What a decision costs with 100,000 open and 1,000,000 past touchpoints in the database (2 ms are allowed).

python tests/benchmarks/bench_decide.py FOLDER [--decisions 400] [--plans]

FOLDER holds a database made by fill_touchpoints.py; it is made when it is missing. What is measured is taken
back, so that every run sees the same. `--plans` prints how SQLite goes about every statement.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fill_touchpoints import NOW, prepared

from gateway.adapters.database import SqlDatabase
from gateway.domain.policy import Policy, RuleInfo
from gateway.domain.touchpoint import Finding
from gateway.flow import decide
from gateway.ports import Records


def rule(rule_id: str, service: str | None, **changes: Any) -> RuleInfo:
    plain = {
        "version": 1, "kind": "car", "purpose": "maintenance", "severity": "advice",
        "touchpoint_kind": "appointment" if service else "hint", "expires_ms": 14 * 86_400_000,
        "signals": ("pad_wear_front",),
    }  # fmt: skip
    return RuleInfo(id=rule_id, service=service, **(plain | changes))


RULES = {
    info.id: info
    for info in (
        rule("brake-pads-front-worn", "brakes-front"),
        rule("brake-pads-rear-worn", "brakes-rear"),
        rule("tyres-worn", "tyres"),
        rule("oil-low", None),
        rule("light-broken", None, severity="warning"),
    )
}


class Undo(Exception):
    """Nothing that was measured stays."""


def measure(records: Records, first: int, count: int) -> tuple[dict[str, list[float]], Counter[str]]:
    """({rule: processor milliseconds of each decision}, how often each outcome)."""
    times: dict[str, list[float]] = {rule_id: [] for rule_id in RULES}
    outcomes: Counter[str] = Counter()
    policy = Policy(rules=RULES, quiet_from="00:00", quiet_to="00:00")
    for n in range(first, first + count):
        rule_id, whose = [*RULES][n % len(RULES)], n * 199 % 100_000
        finding = Finding(
            id=f"new-{n}", device=f"car-{whose}", rule=rule_id, version=1, severity=RULES[rule_id].severity,
            position=n, began_ts=NOW, found_at=NOW, evidence={"ts": NOW},
        )  # fmt: skip
        began = time.thread_time()
        records.touchpoints.add_finding(finding)
        outcome = decide.decide(records, finding, f"o-{whose}", NOW, policy)
        times[rule_id].append((time.thread_time() - began) * 1000)
        outcomes[f"{rule_id}: {outcome}"] += 1
    return times, outcomes


def plans(records: Records) -> list[str]:
    said: dict[str, Any] = {}

    def listen(_c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> None:
        said.setdefault(statement, parameters)

    connection: sa.Connection = records.transaction.connection  # type: ignore[attr-defined]
    sa.event.listen(connection, "before_cursor_execute", listen)
    measure(records, 0, 10)
    decide.settle_due(records, NOW, Policy(rules=RULES))
    records.touchpoints.next_wake()
    sa.event.remove(connection, "before_cursor_execute", listen)
    lines = []
    for statement, parameters in said.items():
        if not statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE")):
            continue
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        lines.append(" ".join(statement.split())[-160:])
        lines += [f"    {row.detail}" for row in rows]
    return lines


async def main(folder: Path, count: int, show: bool) -> None:
    path = await prepared(folder, 100_000, 1_000_000)
    database = SqlDatabase(f"sqlite:///{path}", now=lambda: NOW)
    found: list[Any] = []

    def work(records: Records) -> None:
        if show:
            found.extend(plans(records))
        else:
            measure(records, 0, 100)
            found.append(measure(records, 1_000, count))
        raise Undo

    try:
        await database.write(work)
    except Undo:
        pass
    finally:
        await database.close()
    if show:
        print("\n".join(found))
        return
    times, outcomes = found[0]
    for rule_id, taken in times.items():
        ranked = sorted(taken)
        p95, middle = ranked[int(len(ranked) * 0.95)], statistics.median(ranked)
        print(f"{rule_id:24} median {middle:5.2f} ms  p95 {p95:5.2f} ms  worst {ranked[-1]:5.2f} ms")
    print(dict(outcomes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--decisions", type=int, default=400)
    parser.add_argument("--plans", action="store_true")
    asked = parser.parse_args()
    asyncio.run(main(asked.folder, asked.decisions, asked.plans))
