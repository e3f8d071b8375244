"""Fills a database with 100,000 open and 1,000,000 past touchpoints, for measuring what deciding costs.

python tests/benchmarks/fill_touchpoints.py FOLDER [--open 100000] [--past 1000000]

Written straight into the tables: a million decisions would take hours, and only their number matters here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.adapters.database import SqlDatabase

NOW = 1_795_420_800_000
DAY = 86_400_000
RULES = ("brake-pads-front-worn", "brake-pads-rear-worn", "battery-weak", "service-due", "engine-light-on")
SERVICES = ("brakes-front", "brakes-rear", "battery", "inspection", "diagnosis")
EVIDENCE = json.dumps({"pad_wear_front": 91.5, "ts": NOW - DAY})
PAST = ("fulfilled", "expired", "closed", "withdrawn")
ALL_DAY = json.dumps({day: [["08:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")})
JOBS = json.dumps([{"id": service, "names": {"en": service}, "minutes": 60} for service in SERVICES])
CHUNK = 20_000


def fill(path: Path, open_ones: int, past: int) -> None:
    """`past` and `open_ones` touchpoints of as many cars as there are open ones, one owner each."""
    base = sqlite3.connect(path)
    base.executescript("PRAGMA synchronous=OFF; PRAGMA cache_size=-200000;")
    people = open_ones
    columns = {row[1]: row for row in base.execute("PRAGMA table_info(workshops)")}
    shop: dict[str, Any] = {
        "id": "north", "name": "Autohaus Nord", "time_zone": "Europe/Berlin", "bays": '["Bay 1", "Bay 2"]',
        "hours": ALL_DAY, "holidays": "[]", "services": JOBS, "books": "at_once", "created": 0,
    }  # fmt: skip
    _insert(base, "workshops", columns, iter([shop]))
    _insert(base, "owners", None, (_owner(n) for n in range(people)))
    _insert(base, "push_subscriptions", None, (_phone(n) for n in range(people)))
    _insert(base, "devices", None, (_device(n) for n in range(people)))
    _insert(
        base,
        "ownerships",
        None,
        ({"device": f"car-{n}", "owner": f"o-{n}", "since": 0} for n in range(people)),
    )
    consents = (
        {"owner": f"o-{n}", "purpose": "maintenance", "granted": 1, "at": 1, "source": "owner"}
        for n in range(people)
    )
    _insert(base, "consents", None, consents)
    _insert(base, "facts", None, (_facts(n) for n in range(people)))
    total = past + open_ones
    _insert(base, "findings", None, (_finding(n, people, past) for n in range(total)))
    _insert(base, "touchpoints", None, (_touchpoint(n, people, past) for n in range(total)))
    _insert(base, "contacts", None, (_contact(n, people) for n in range(total)))
    _insert(base, "ledger", None, (_line(n, people) for n in range(total)))
    base.commit()
    base.close()


def _insert(base: sqlite3.Connection, table: str, _: Any, rows: Iterator[dict[str, Any]]) -> None:
    """With a plain value in every column that has none and needs one."""
    info = base.execute(f"PRAGMA table_info({table})").fetchall()
    first = next(rows)
    blank = {
        name: "[]" if "JSON" in kind else "" if kind == "TEXT" else 0
        for _, name, kind, needed, default, key in info
        if needed and default is None and name not in first and not (key and kind == "INTEGER")
    }
    names = [*first, *blank]
    statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    tail = tuple(blank.values())
    chunk = [(*first.values(), *tail)]
    for row in rows:
        chunk.append((*row.values(), *tail))
        if len(chunk) >= CHUNK:
            base.executemany(statement, chunk)
            chunk.clear()
    base.executemany(statement, chunk)
    base.commit()


def _owner(n: int) -> dict[str, Any]:
    return {
        "id": f"o-{n}",
        "name": f"Owner {n}",
        "email": f"o-{n}@owners.example",
        "language": "de",
        "time_zone": "Europe/Berlin",
        "wishes": "{}",
        "created": 0,
        "search": f"o-{n}",
    }


def _phone(n: int) -> dict[str, Any]:
    return {
        "id": f"p-{n}",
        "owner": f"o-{n}",
        "endpoint": f"https://push.example/{n}",
        "p256dh": "x",
        "auth": "y",
        "label": "phone",
        "created": 0,
    }


def _device(n: int) -> dict[str, Any]:
    return {
        "id": f"car-{n}",
        "kind": "car",
        "owner": f"o-{n}",
        "name": "Arden 5",
        "workshop": "north",
        "created": 0,
        "search": f"car-{n}",
    }


def _facts(n: int) -> dict[str, Any]:
    latest = json.dumps({"pad_wear_front": [NOW - 60_000, 92.0], "odometer": [NOW - 60_000, 48_000]})
    return {
        "device": f"car-{n}",
        "format": 1,
        "last_seen": NOW - 60_000,
        "moving": 0,
        "moving_since": NOW - DAY,
        "open": "[]",
        "latest": latest,
    }


def _rule(n: int, people: int) -> int:
    return (n // people) % len(RULES)


def _finding(n: int, people: int, past: int) -> dict[str, Any]:
    at = NOW - 400 * DAY + n * 300
    return {
        "id": f"f-{n}",
        "device": f"car-{n % people}",
        "rule": RULES[_rule(n, people)],
        "version": 1,
        "severity": "advice",
        "position": n,
        "began_ts": at,
        "found_at": at,
        "shadow": 0,
        "evidence": EVIDENCE,
        "cleared_at": at + DAY if n < past else None,
    }


def _touchpoint(n: int, people: int, past: int) -> dict[str, Any]:
    at, kind, whose = NOW - 400 * DAY + n * 300, _rule(n, people), n % people
    over = n < past
    declined = over and n % len(PAST) == PAST.index("closed")
    said = {"action": "not_now", "channel": "page", "at": at + DAY, "by": f"o-{whose}"}
    return {
        "id": f"t-{n:09d}",
        "finding": f"f-{n}",
        "device": f"car-{whose}",
        "owner": f"o-{whose}",
        "rule": RULES[kind],
        "rule_version": 1,
        "kind": "appointment",
        "service": SERVICES[kind],
        "severity": "advice",
        "purpose": "maintenance",
        "state": PAST[n % len(PAST)] if over else "open",
        "created": at,
        "sent_at": at,
        "expires_at": at + 800 * DAY,
        "action": "not_now" if declined else None,
        "answered_at": at + DAY if declined else None,
        "answer": json.dumps(said) if declined else None,
        "closed_at": at + 2 * DAY if over else None,
        "slots": "[]",
        "evidence": EVIDENCE,
    }


def _contact(n: int, people: int) -> dict[str, Any]:
    return {
        "owner": f"o-{n % people}",
        "purse": "service",
        "at": NOW - 400 * DAY + n * 300,
        "about": f"t-{n:09d}",
    }


def _line(n: int, people: int) -> dict[str, Any]:
    return {
        "id": f"l-{n}",
        "at": NOW - 400 * DAY + n * 300,
        "code": "sent",
        "params": "{}",
        "owner": f"o-{n % people}",
        "device": f"car-{n % people}",
        "finding": f"f-{n}",
        "touchpoint": f"t-{n:09d}",
    }


async def prepared(folder: Path, open_ones: int, past: int) -> Path:
    """The filled database's file; made once."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "domain.db"
    new = not path.exists()
    database = SqlDatabase(f"sqlite:///{path}", now=lambda: NOW)
    await database.prepare()
    await database.close()
    if new:
        fill(path, open_ones, past)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--open", type=int, default=100_000)
    parser.add_argument("--past", type=int, default=1_000_000)
    asked = parser.parse_args()
    began = time.monotonic()
    made = asyncio.run(prepared(asked.folder, asked.open, asked.past))
    print(f"{made}: {made.stat().st_size >> 20} MiB in {time.monotonic() - began:.0f} s")
