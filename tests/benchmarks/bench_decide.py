"""What a decision costs with 100,000 open and 1,000,000 past touchpoints in the database (2 ms are allowed).

python tests/benchmarks/bench_decide.py [FOLDER] [--decisions 400] [--plans]

FOLDER holds a database made by fill_touchpoints.py; it is made when it is missing. Measured is the processor
time from the finding's insertion to the last row that its decision leaves (touchpoint, ledger, outbox),
by kind; all of it in one transaction that is taken back, so that every run sees the same. What a commit costs
is another matter: what is found together is committed together. `--plans` prints how SQLite goes about every
statement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
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


KINDS = {
    "joins_an_open_matter": "brake-pads-front-worn",
    "joins_with_new_slots": "brake-pads-rear-worn",
    "sent_without_slots": "tyres-worn",
    "hint": "oil-low",
    "warning": "light-broken",
    "first_offer": "brake-pads-front-worn",
}
"""What is measured: the rule that has found something. All but the last in a car with something open."""


class Undo(Exception):
    """Nothing that was measured stays."""


def measure(records: Records, first: int, count: int) -> tuple[dict[str, list[float]], Counter[str]]:
    """({kind: processor milliseconds of each decision}, how often each outcome)."""
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    outcomes: Counter[str] = Counter()
    policy = Policy(rules=RULES, quiet_from="00:00", quiet_to="00:00")
    for n in range(first, first + count):
        (kind, rule_id), whose = [*KINDS.items()][n % len(KINDS)], n * 199 % 100_000
        finding = Finding(
            id=f"new-{n}", device=f"car-{whose}", rule=rule_id, version=1, severity=RULES[rule_id].severity,
            position=n, began_ts=NOW, found_at=NOW, evidence={"ts": NOW},
        )  # fmt: skip
        if kind == "first_offer":
            nothing_open(records, finding.device)
        began = time.thread_time()
        records.touchpoints.add_finding(finding)
        outcome = decide.decide(records, finding, f"o-{whose}", NOW, policy)
        times[kind].append((time.thread_time() - began) * 1000)
        outcomes[f"{kind}: {outcome}"] += 1
        slots = len(records.touchpoints.page(finding=finding.id)[0].slots) if kind == "first_offer" else 2
        assert slots == 2, f"{kind}: {slots} slots were offered"
    return times, outcomes


def nothing_open(records: Records, device: str) -> None:
    """The car's open matter is over; its past stays."""
    connection: sa.Connection = records.transaction.connection  # type: ignore[attr-defined]
    ended = "UPDATE touchpoints SET state = 'closed', closed_at = sent_at WHERE device = ? AND state = 'open'"
    connection.exec_driver_sql(ended, (device,))
    records.transaction.forget()  # type: ignore[attr-defined]


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
    how = f"processor time without the commit; 100,000 open, 1,000,000 past; {dict(outcomes)}"
    for kind, taken in times.items():
        ranked = sorted(taken)
        middle, p95 = statistics.median(ranked), ranked[int(len(ranked) * 0.95)]
        figure = {"name": f"decide_{kind}", "value": round(middle, 2), "unit": "ms", "limit": 2}
        print(json.dumps(figure | {"p95": round(p95, 2), "worst": round(ranked[-1], 2), "how": how}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--decisions", type=int, default=400)
    parser.add_argument("--plans", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(main(asked.folder or Path(made), asked.decisions, asked.plans))
