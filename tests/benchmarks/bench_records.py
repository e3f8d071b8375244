"""What a large house costs: 100,000 touchpoints open and 1,000,000 past, 100,000 owners, in one SQLite file.

Everything is real but the rows' origin: a first contact is made by the gateway's own code, and its rows are
copied under other ids. Measured are the decision on a new finding (from its insertion to the commit), the
owner's page as a browser gets it, a claim of 100 outbox rows among those due, and what the timers settle.
`TOUCHPOINT_BENCH_PAST` sets how many are past (1,000,000). Filling takes minutes: `TOUCHPOINT_BENCH_KEEP` may
name a folder where the filled file is kept, and from which the next run takes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from garage import TEXTS
from web_lab import DAY, HOUR, NOW, PADS, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.delivery import Attempt, DeliveryState
from gateway.domain.ids import derived_id
from gateway.domain.owner import PushSubscription
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import Answer, Finding
from gateway.flow import decide, respond
from gateway.ports import Records

PAST = int(os.environ.get("TOUCHPOINT_BENCH_PAST", "1000000"))
OPEN = PAST // 10
OWNERS = OPEN
DUE = 5_000
"""Outbox rows that are due on one channel at once."""
TAKEN = 200
"""How often each thing is measured."""
CLAIMS = 20
KEEP = "TOUCHPOINT_BENCH_KEEP" in os.environ

Change = dict[str, str]
"""Column: what stands in it, as SQL over the number `i`."""


def copies(
    database: sqlite3.Connection, table: str, key: tuple[str, str], count: int, change: Change
) -> None:
    """So many copies of the row with that key, changed."""
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    taken = [f'"{column}"' for column in columns if change.get(column) != "-"]
    values = [change.get(column.strip('"'), f"t.{column}") for column in taken]
    database.execute(
        f"""
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
        INSERT INTO {table} ({", ".join(taken)})
        SELECT {", ".join(values)} FROM n, (SELECT * FROM {table} WHERE "{key[0]}" = '{key[1]}' LIMIT 1) t
        """
    )


def numbered(prefix: str) -> str:
    """An id that sorts by `i`."""
    return f"printf('{prefix}-%08d', i)"


def spread(prefix: str) -> str:
    """One of the owners, or their device."""
    return f"printf('{prefix}-%08d', 1 + i % {OWNERS})"


def fill(path: Path, first: dict[str, str]) -> None:
    """The house, out of the first owner's rows."""
    database = sqlite3.connect(path, timeout=60)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA foreign_keys = OFF")
    copies(database, "owners", ("id", "jana"), OWNERS, {"id": numbered("owner"), "search": numbered("owner")})
    copies(database, "consents", ("owner", "jana"), OWNERS, {"seq": "-", "owner": numbered("owner")})
    copies(database, "push_subscriptions", ("owner", "jana"), OWNERS, {
        "id": numbered("phone"), "owner": numbered("owner"), "endpoint": numbered("https://push.example/"),
    })  # fmt: skip
    copies(database, "devices", ("id", "car-1"), OWNERS, {
        "id": numbered("car"), "owner": numbered("owner"), "search": numbered("car"),
    })  # fmt: skip
    copies(database, "ownerships", ("device", "car-1"), OWNERS, {
        "seq": "-", "device": numbered("car"), "owner": numbered("owner"),
    })  # fmt: skip
    copies(database, "facts", ("device", "car-1"), OWNERS, {"device": numbered("car")})
    for name, count, made in (("past", PAST, first["past"]), ("open", OPEN, first["open"])):
        _matters(database, name, count, made)
    database.commit()
    database.execute("PRAGMA optimize")
    database.close()


def _matters(database: sqlite3.Connection, name: str, count: int, made: str) -> None:
    """Touchpoints with all that belongs to them, out of one."""
    (finding,) = database.execute("SELECT finding FROM touchpoints WHERE id = ?", (made,)).fetchone()
    owner, device, matter, found = spread("owner"), spread("car"), numbered(f"0{name}"), numbered(f"f-{name}")
    ago = f"{DAY} * 7 + i % 1000 * {DAY // 3}" if name == "past" else f"i % 600 * {HOUR // 60}"
    age = {column: f"t.{column} - {ago}" for column in ("created", "sent_at", "closed_at", "answered_at")}
    age["expires_at"] = f"t.expires_at + i % 100 * {HOUR}"
    copies(database, "findings", ("id", finding), count, {
        "id": found, "device": device, "found_at": f"t.found_at - {ago}", "rule": "'rule-' || i % 120",
    })  # fmt: skip
    rule = "'rule-' || i % 120" if name == "past" else "t.rule"
    copies(database, "touchpoints", ("id", made), count, {
        "id": matter, "finding": found, "device": device, "owner": owner, "rule": rule, **age,
    })  # fmt: skip
    copies(
        database, "touchpoint_findings", ("touchpoint", made), count, {"touchpoint": matter, "finding": found}
    )
    copies(database, "contacts", ("about", made), count, {
        "seq": "-", "owner": owner, "about": matter, "at": f"t.at - {ago}",
    })  # fmt: skip
    for n, line in enumerate(row[0] for row in database.execute(
        "SELECT id FROM ledger WHERE touchpoint = ? OR finding = ?", (made, finding)
    ).fetchall()):  # fmt: skip
        copies(database, "ledger", ("id", line), count, {
            "seq": "-", "id": numbered(f"l{n}-{name}"), "owner": owner, "device": device, "finding": found,
            "touchpoint": f"CASE WHEN t.touchpoint IS NULL THEN NULL ELSE {matter} END",
        })  # fmt: skip
    for n, row in enumerate(row[0] for row in database.execute(
        "SELECT id FROM outbox WHERE touchpoint = ? AND state = 'sent'", (made,)
    ).fetchall()):  # fmt: skip
        copies(database, "outbox", ("id", row), count, {
            "seq": "-", "id": numbered(f"o{n}-{name}"), "key": numbered(f"o{n}-{name}"), "touchpoint": matter,
            "owner": owner,
        })  # fmt: skip
    due = database.execute(
        "SELECT id FROM outbox WHERE touchpoint = ? AND channel = 'web_push' AND state = 'pending'", (made,)
    ).fetchone()
    if name == "open" and due:
        copies(database, "outbox", ("id", due[0]), DUE, {
            "seq": "-", "id": numbered("due"), "key": numbered("due"), "touchpoint": matter, "owner": owner,
            "due_at": f"{NOW} - i",
        })  # fmt: skip


async def first_contacts(lab: Lab) -> dict[str, str]:
    """One matter that was answered, and one that is open; made by the gateway's own code."""
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    await lab.owner("omar", "car-2", workshop="north")
    for owner in ("jana", "omar"):
        endpoint = f"https://push.example/{owner}"
        phone = PushSubscription(
            id=owner, owner=owner, endpoint=endpoint, p256dh="x", auth="y", label="", created=NOW
        )
        await lab.write(lambda records, phone=phone: records.owners.subscribe(phone))
    past = await lab.worn_pads("car-1", "jana")
    policy = lab.context.policy

    def settle(records: Records) -> None:
        answer = Answer(action="already_done", channel="page", at=NOW, by="jana")
        respond.answer(records, past.id, answer, NOW, policy)
        records.touchpoints.clear_finding(past.finding, NOW)
        for delivery in records.outbox.claim(NOW, lease_ms=1, limit=100, channels=["display", "web_push"]):
            records.outbox.finish(replace(delivery, state=DeliveryState.SENT), _attempt(delivery.id))

    await lab.write(settle)
    lab.clock.advance(NOW + 1)
    still = await lab.worn_pads("car-2", "omar")
    return {"past": past.id, "open": still.id}


def _attempt(delivery: str) -> Any:
    return Attempt(delivery=delivery, number=1, at=NOW, result="sent", detail="201")


async def timed(work: Callable[[int], Awaitable[Any]], times: int) -> list[float]:
    """Milliseconds of each, sorted; the first ones warm up and do not count."""
    taken = []
    for number in range(times + 5):
        began = time.perf_counter()
        await work(number)
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken[5:])


async def measure(lab: Lab) -> None:
    policy = lab.context.policy
    how = f"{OPEN:,} open and {PAST:,} past touchpoints, {OWNERS:,} owners, SQLite"

    async def decision(number: int) -> None:
        n = 1 + number * 479 % OWNERS
        device, owner = f"car-{n:08d}", f"owner-{n:08d}"
        finding = Finding(
            id=derived_id(device, "new", number), device=device, rule="second", version=1, severity="warning",
            position=number, began_ts=NOW, found_at=NOW, evidence={"pad_wear_front": 99},
        )  # fmt: skip

        def work(records: Records) -> None:
            records.touchpoints.add_finding(finding)
            decide.decide(records, finding, owner, lab.clock.now(), policy)

        await lab.write(work)

    async def page(number: int) -> None:
        await lab.client.get("/me")

    async def claim(number: int) -> None:
        def work(records: Records) -> None:
            rows = records.outbox.claim(lab.clock.now(), lease_ms=60_000, limit=100, channels=["web_push"])
            assert len(rows) == 100, len(rows)

        await lab.write(work)

    report("decision", await timed(decision, TAKEN), 2, "add the finding, decide, commit; " + how)
    _, secret = await lab.token(Role.OWNER, "owner-00000711")
    async with lab.client.post("/sign-in", data={"token": secret}) as answer:
        assert answer.status == 200, await answer.text()
    async with lab.client.get("/me") as answer:
        assert answer.status == 200
        assert "Brake" in await answer.text() or "Brems" in await answer.text()
    report("owner_page", await timed(page, 50), 50, "GET /me with one open and ten past; " + how)
    report("claim_100", await timed(claim, CLAIMS), 10, f"of {DUE:,} due rows, with commit; " + how)


def report(name: str, taken: list[float], limit: float, how: str) -> None:
    for part, value in (("median", taken[len(taken) // 2]), ("p90", taken[int(len(taken) * 0.9)])):
        figure = {"name": f"records_{name}_{part}", "value": round(value, 2), "unit": "ms", "how": how}
        print(json.dumps(figure | ({"limit": limit} if part == "median" else {})), flush=True)


async def main() -> None:
    rules = {info.id: info for info in (PADS, replace(PADS, id="second", severity="warning"))}
    options: dict[str, Any] = {"texts": TEXTS, "policy": Policy(rules=rules)}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TOUCHPOINT_BENCH_KEEP")) as made:
        folder = Path(made)
        filled = await house(folder.parent if KEEP else folder, options)
        if KEEP:
            shutil.copy(filled, folder / filled.name)
        async with web_lab(folder, **options) as lab:
            lab.clock.advance(NOW + 1)
            await measure(lab)


async def house(folder: Path, options: dict[str, Any]) -> Path:
    """The filled file; made once."""
    path = folder / "domain.db"
    if not path.exists():
        began = time.monotonic()
        async with web_lab(folder, **options) as lab:
            first = await first_contacts(lab)
            await asyncio.to_thread(fill, path, first)
        print(f"filled in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return path


if __name__ == "__main__":
    asyncio.run(main())
