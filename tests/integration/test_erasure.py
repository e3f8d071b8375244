"""Who is erased is erased everywhere: every table, every file, the journal and the time series; others keep
what is theirs, and what stays names nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from gateway_lab import PADS
from real_parts import PATIENCE_S
from web_lab import DAY, HOUR, NOW, Lab, web_lab

from gateway.adapters.codecs import make_decoder
from gateway.adapters.database import tables
from gateway.adapters.database.personal import PERSONAL, STAYS
from gateway.channels.letter import LetterChannel
from gateway.domain.access import Role
from gateway.domain.appointment import AppointmentState
from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, DeliveryState
from gateway.domain.messages import QuarantineRow
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import State
from gateway.domain.webhooks import SigningSecret, Webhook
from gateway.flow import erase, follow_up, returning
from gateway.flow import visit as visits
from gateway.flow.assess import Assessor
from gateway.flow.record import Recorder
from gateway.ports import Records
from rules import Engine, load

MARK = "Mrkwrdt"
"""Stands in everything of Jana's, and nowhere else."""
EMAIL = f"{MARK.lower()}@owners.example"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        await opened.owner("omar", "car-2")
        yield opened


# --- every table ----------------------------------------------------------------------------------


def row_of(table: sa.Table, owner: str, mark: str) -> dict[str, Any]:
    """A row with something in every column; of texts that say nothing to the program, the mark."""
    return {
        column.name: value
        for column in table.columns
        if (value := _value(table, column, owner, mark)) is not None
    }


def _value(table: sa.Table, column: sa.Column[Any], owner: str, mark: str) -> Any:
    name, kind = column.name, column.type
    if column.autoincrement is True or name == "seq":
        return None
    for key in column.foreign_keys:
        parent = key.column.table.name
        return {"owners": owner, "devices": f"car-{owner}", "workshops": "north"}.get(
            parent, f"{parent}-{owner}"
        )
    if name in ("owner", "subject"):
        return owner
    if name == "device":
        return f"car-{owner}"
    if isinstance(kind, tables.Coded) and name in ("party", "role"):
        return kind.members("owner")
    if name == "id":
        return f"{table.name}-{owner}"
    if isinstance(kind, tables.Coded):
        return next(iter(kind.members))
    if (table.name, name) in SETS:
        return None
    if isinstance(kind, tables.Json):
        return _shaped(kind.shape, mark)
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.LargeBinary):
        return mark.encode()
    if isinstance(kind, sa.Integer | sa.BigInteger):
        return None if column.nullable and name in ("until", "ended") else NOW - HOUR
    if "hash" in name or name in ("endpoint", "token", "uid", "message_id", "target"):
        return f"{mark}-{table.name}"
    return mark


def _shaped(shape: Any, mark: str) -> Any:
    """The first form that fits of the few that a column of JSON may have."""
    for form in ({"text": mark}, [mark], {}, []):
        try:
            msgspec.convert(form, shape)
        except msgspec.ValidationError:
            continue
        return form
    raise AssertionError(shape)


SETS: dict[tuple[str, str], Any] = {
    ("facts", "format"): tables.FACTS_FORMAT,
    ("facts", "latest"): {"pad_wear_front": (NOW - HOUR, 81.0)},
    ("outbox", "state"): DeliveryState.SENT,
    ("outbox", "channel"): "email",
    ("touchpoints", "state"): State.FULFILLED,
    ("touchpoints", "wake_at"): None,
    ("touchpoints", "answer"): None,
    ("appointments", "state"): AppointmentState.DONE,
    ("appointments", "service"): "brakes-front",
    ("appointments", "services"): ("brakes-front",),
    ("appointments", "wished"): (),
    ("appointments", "offered"): (),
    ("appointments", "terms"): {},
    ("appointments", "progress"): {},
    ("calendar_events", "uid"): "visit@example",
    ("calendar_events", "status"): "CONFIRMED",
    ("tokens", "expires"): NOW + DAY,
    ("proofs", "kind"): "link",
    ("device_people", "asked"): False,
}
"""Where what stands there matters."""


def fill(records: Records, owner: str, mark: str) -> None:
    """A row of theirs in every table that holds something on people."""
    connection = records.transaction.connection  # type: ignore[attr-defined]
    made = {"owners", "devices", "ownerships", "workshops"}
    for table in tables.metadata.sorted_tables:
        if table.name in PERSONAL and table.name not in made:
            row = row_of(table, owner, mark)
            row |= {name: value for (of, name), value in SETS.items() if of == table.name}
            if table.name == "appointments":
                row["bay"] = owner[:1]
            if table.name == "mail_addresses":
                row["address"] = EMAIL if owner == "jana" else "omar@owners.example"
            if table.name == "device_people":  # of each other's
                row["device"] = "car-omar" if owner == "jana" else "car-jana"
            if table.name == "invitations":
                row["by"] = owner
            if table.name == "consents":
                connection.execute(sa.delete(table).where(table.c.owner == owner))
            if table.name == "proofs":
                row["about"] = owner
            if table.name == "recall_devices":
                row |= {"recall": "recall-1", "finding": None}
            if "taken_by" in table.c:
                row["taken_by"] = None
            connection.execute(sa.insert(table).values(row))


def recall(records: Records) -> None:
    table = tables.metadata.tables["recalls"]
    row = {column.name: NOW for column in table.columns if isinstance(column.type, sa.BigInteger)}
    texts = {"id": "recall-1", "kind": "car", "severity": "warning", "by": "operator", "reference": "R1"}
    connection = records.transaction.connection  # type: ignore[attr-defined]
    connection.execute(sa.insert(table).values(row | texts | {"title": {"en": "x"}, "body": {"en": "x"}}))


def dump(records: Records, skip: tuple[str, ...] = ("changes", "alembic_version")) -> dict[str, list[str]]:
    """{table: rows as text}."""
    connection = records.transaction.connection  # type: ignore[attr-defined]
    return {
        name: [repr(tuple(row)) for row in connection.execute(sa.select(table))]
        for name, table in tables.metadata.tables.items()
        if name not in skip
    }


async def test_nothing_of_theirs_is_left_in_any_table_and_all_of_others(lab: Lab) -> None:
    await lab.owner("jana2", "car-jana2", workshop="north")  # whose id begins like hers
    for owner in ("jana", "omar"):
        await lab.owner(f"{owner}-", f"car-{owner}")
    await lab.write(recall)

    def people(records: Records) -> None:
        for owner, mark, mail in (("jana", MARK, EMAIL), ("omar", "Other", "omar@owners.example")):
            known = records.owners.get(owner)
            told = replace(known, name=mark, email=mail, phone=mark, address=mark, wishes={"units": mark})
            records.owners.update(told)
            records.devices.transfer(f"car-{owner}", owner, NOW - 2 * HOUR)
            records.devices.update(replace(records.devices.get(f"car-{owner}"), name=mark, plate=mark))
            fill(records, owner, mark)

    await lab.write(people)
    before = await lab.read(dump)
    filled = {name for name, found in before.items() if any(MARK in row or "jana'" in row for row in found)}
    assert not set(PERSONAL) - filled, "the test does not fill these tables"
    await lab.write(lambda r: erase.erase(r, "jana", NOW, lab.context.policy))
    after = await lab.read(dump)
    assert not [row for found in after.values() for row in found if MARK in row or EMAIL in row]
    assert not [row for found in after.values() for row in found if "'jana'" in row]
    for name, found in before.items():
        theirs = {row for row in found if "jana" not in row and MARK not in row}
        assert theirs <= set(after[name]), name
    stays = {name for name in PERSONAL if any(f"'{name}-jana'" in row for row in after[name])}
    assert stays <= set(STAYS), "only what is said to stay"


# --- what it means for others ---------------------------------------------------------------------


async def hook(lab: Lab, audience: str) -> None:
    endpoint = Webhook(
        id=audience,
        audience=audience,
        url="https://hooks.example/1",
        types=(),
        secrets=(SigningSecret(text="whsec_eA=="),),
        created=NOW,
    )
    await lab.write(lambda r: r.webhooks.put(endpoint))


async def events(lab: Lab, target: str) -> list[dict[str, Any]]:
    """What waits for an endpoint, oldest first."""
    rows = await lab.read(lambda r: r.outbox.page(limit=500))
    found = [row.payload["event"] for row in rows if row.channel == "webhook" and row.target == target]
    return sorted(found, key=lambda event: str(event["type"]))


async def test_visits_are_cancelled_displays_cleared_and_who_knew_is_told(lab: Lab) -> None:
    await hook(lab, "manufacturer")
    await hook(lab, "workshop:north")
    matter = await lab.worn_pads("car-1", "jana")
    jana = await lab.caller(Role.OWNER, "jana")
    await jana("POST", f"touchpoints/{matter.id}/answer", {"action": "book", "slot": matter.slots[0].id})
    await lab.owner("mia", "car-3")
    lab.clock.advance(NOW + HOUR)
    erased = await jana("DELETE", "owners/jana")
    assert erased.status == 204
    # 401 as soon as what the gatekeeper looked up is no longer believed, a second at most.
    assert (await jana("GET", "owners/jana")).status in (401, 404)
    operator = await lab.caller()
    assert (await operator("GET", "owners/jana")).status == 404
    assert (await operator("DELETE", "owners/jana")).status == 404
    [visit] = await (await lab.caller(Role.WORKSHOP, "north")).all("appointments")
    assert (visit["state"], visit["owner"], visit["device"], visit["diagnosis"]) == (
        "cancelled",
        None,
        "car-1",
        {},
    )
    heard = {str(event["type"]): event["data"] for event in await events(lab, "workshop:north")}
    assert "appointment.cancelled" in heard
    assert heard["owner.erased"] == {"owner": "jana", "appointments": [visit["id"]]}
    assert {"owner": "jana"} in [event["data"] for event in await events(lab, "manufacturer")]
    device = await lab.read(lambda r: r.devices.get("car-1"))
    assert (device.owner, device.workshop, device.kind) == (None, None, "car")
    entries = [entry for batch in lab.announced for entry in batch if entry["type"] == "erase"]
    assert [entry["devices"] for entry in entries] == [{"car-1": [[0, NOW + HOUR]]}]
    assert entries[0]["left"] == ["car-1"]


async def test_a_job_that_has_begun_is_finished_without_a_name(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    jana, north = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.WORKSHOP, "north")
    await jana("POST", f"touchpoints/{matter.id}/answer", {"action": "book", "slot": matter.slots[0].id})
    [visit] = await north.all("appointments")
    lab.clock.advance(matter.slots[0].start)
    for step in ("checked_in", "in_work"):
        assert (await north("POST", f"appointments/{visit['id']}/progress", {"step": step})).status == 201
    assert (await (await lab.caller())("DELETE", "owners/jana")).status == 204
    asked = await north("POST", f"appointments/{visit['id']}/extra-work", {"reason": "Discs", "price": 240})
    assert asked.status == 409, asked
    done = await north("POST", f"appointments/{visit['id']}/done", {"note": "new pads"})
    assert (done.status, done.body["state"], done.body["owner"]) == (201, "done", None), done
    policy, later = lab.context.policy, lab.clock.now() + 400 * DAY
    lab.clock.advance(later)
    await lab.write(lambda r: visits.settle_due(r, later, policy))
    await lab.write(lambda r: returning.settle_due(r, later, policy))
    await lab.write(lambda r: follow_up.step(r, later, policy))
    assert await lab.read(lambda r: r.feedback.page(limit=10)) == []


async def test_what_stood_on_a_display_is_cleared(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    await lab.write(lambda r: erase.erase(r, "jana", NOW, lab.context.policy))
    [row] = [row for row in await lab.read(lambda r: r.outbox.page(limit=100)) if row.channel == "display"]
    assert (row.target, dict(row.payload)) == ("car-1", {"touchpoint": matter.id, "show": None})
    assert (row.owner, row.touchpoint, row.state) == (None, None, DeliveryState.PENDING)


async def test_whom_they_shared_with_keeps_their_ledger_without_the_name(lab: Lab) -> None:
    await lab.write(lambda r: r.owners.update(replace(r.owners.get("jana"), name=MARK)))
    operator = await lab.caller()
    await operator("PUT", "devices/car-2/people/jana", {"role": "driver", "asked": True})
    await lab.worn_pads("car-2", "jana")
    omar = await lab.caller(Role.OWNER, "omar")
    assert MARK in json.dumps(await omar.get("owners/omar/ledger"))
    await operator("DELETE", "owners/jana")
    ledger = json.dumps(await omar.get("owners/omar/ledger"), ensure_ascii=False)
    assert MARK not in ledger
    assert "jana" not in ledger
    assert "–" in ledger
    [matter] = await lab.read(lambda r: r.touchpoints.page(device="car-2"))
    assert matter.owner == "omar"  # it is theirs to answer now


async def test_only_they_themselves_and_after_sales_may_erase(lab: Lab) -> None:
    for role, subject in ((Role.OWNER, "omar"), (Role.WORKSHOP, "north")):
        refused = await (await lab.caller(role, subject))("DELETE", "owners/jana")
        assert refused.status in (403, 404), refused
    assert await lab.read(lambda r: r.owners.get("jana"))


async def test_undecodable_messages_go_with_the_time_in_which_it_was_theirs(lab: Lab) -> None:
    def quarantined(records: Records) -> None:
        for position, (device, received) in enumerate(
            (("car-1", NOW - HOUR), ("car-1", NOW - 500 * DAY), ("car-11", NOW - HOUR))
        ):
            row = QuarantineRow(
                position=position,
                received=received,
                topic=f"touchpoint/v1/{device}/telemetry",
                payload=b"{",
                reason="not_json",
                detail="x",
            )
            records.quarantine.add([row])

    await lab.write(quarantined)
    await lab.write(lambda r: r.devices.transfer("car-1", "omar", NOW - 400 * DAY))
    await lab.write(lambda r: r.devices.transfer("car-1", "jana", NOW - 300 * DAY))
    await lab.write(lambda r: erase.erase(r, "jana", NOW, lab.context.policy))
    left = await lab.read(lambda r: r.quarantine.page(limit=10))
    assert sorted(row.topic for row in left)[-1].startswith("touchpoint/v1/car-11/")


# --- the page -------------------------------------------------------------------------------------


async def test_the_page_says_what_goes_and_stays_and_asks_twice(lab: Lab) -> None:
    _, secret = await lab.token(Role.OWNER, "jana")
    headers = {"Cookie": f"session-owner={secret}", "Sec-Fetch-Site": "same-origin"}
    async with lab.client.get("/me/delete", headers=headers) as first:
        assert first.status == 200
        assert "/me/export.zip" in await first.text()
    async with lab.client.post("/me/delete", headers=headers) as asked:
        assert asked.status == 200
        assert 'name="sure"' in await asked.text()
    assert await lab.read(lambda r: r.owners.get("jana"))
    async with lab.client.post(
        "/me/delete", headers=headers, data={"sure": "yes"}, allow_redirects=False
    ) as done:
        assert (done.status, done.headers["Location"].partition("?")[0]) == (303, "/deleted")
    async with lab.client.get("/deleted") as said:
        assert said.status == 200
    operator = await lab.caller()
    assert (await operator("GET", "owners/jana")).status == 404


# --- letters --------------------------------------------------------------------------------------


async def test_letters_of_theirs_are_taken_out_of_the_files(tmp_path: Path) -> None:
    channel = LetterChannel(tmp_path, lambda: NOW)
    for name, number in ((MARK, "1"), ("Omar", "2")):
        await channel.send(letter(number, {"name": name}))
    await channel.send(letter("3", {"erase": ["1"]}))
    [path] = tmp_path.iterdir()
    text = path.read_text()
    assert MARK not in text
    assert [line.split(",")[0] for line in text.splitlines()] == ['"delivery"', '"2"']


def letter(number: str, payload: dict[str, Any]) -> Delivery:
    return Delivery(
        id=number, channel="letter", target="letter", key=number, payload=payload, due_at=NOW, created=NOW
    )


# --- the journal and its readers ------------------------------------------------------------------


def said(device: str, ts: int, **signals: Any) -> tuple[str, bytes]:
    return (f"touchpoint/v1/{device}/telemetry", json.dumps({"ts": ts, "signals": signals}).encode())


async def test_every_reader_honours_the_entry_and_no_file_holds_it_any_more(tmp_path: Path) -> None:
    """Two cars report; the first changes hands twice. Jana, who had it in between and has it now, is erased:
    what the first owner's car sent before stays, and so does Omar's."""
    async with web_lab(tmp_path) as lab:
        await lab.workshop()
        await lab.owner("jana")
        await lab.owner("first", "car-1")
        await lab.owner("omar", "car-2")
        await lab.write(lambda r: r.devices.transfer("car-1", "jana", NOW - 10 * DAY))
        engine = Engine(load([("rules.yaml", PADS)], lab.context.signals))
        decode = make_decoder({})
        lab.journal._decoder = decode
        messages = [
            said("car-1", NOW - 20 * DAY, pad_wear_front=10.0, note="before"),
            said("car-1", NOW - HOUR, pad_wear_front=90.0, note=MARK),
            said("car-2", NOW - HOUR, pad_wear_front=20.0, note="Omar"),
        ]
        recorder, assessor = readers(lab, engine)
        tasks = [asyncio.create_task(recorder.run()), asyncio.create_task(assessor.run())]
        try:
            await lab.journal.append(messages[:1], NOW - 20 * DAY)
            await lab.journal.append(messages[1:], NOW)
            await lab.write(lambda r: erase.erase(r, "jana", NOW + HOUR, lab.context.policy))
            due = await lab.write(
                lambda r: r.outbox.claim(NOW + HOUR, lease_ms=1, limit=10, channels=["journal"])
            )
            for row in due:
                await lab.journal.append_controls([{**row.payload, "id": row.id}], NOW + HOUR)
            async with asyncio.timeout(PATIENCE_S):
                while {await lab.series.position(), assessor.position} != {lab.journal.head()}:
                    await asyncio.sleep(0.01)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        kept = await lab.series.readings("car-1", "note", start=None, end=None, after=None, limit=10)
        assert kept == [(NOW - 20 * DAY, "before")]
        assert await lab.series.readings("car-2", "note", start=None, end=None, after=None, limit=10)
        assert "note" in await lab.series.latest("car-1")
        assert engine.open_episodes("car-1") == ()
        facts = await lab.read(lambda r: r.devices.facts("car-1"))
        assert not [value for _, value in facts.latest.values() if value in (90.0, MARK)]
        batches = await lab.journal.read(0, limit=100)
        assert sum(batch.count for batch in batches) == lab.journal.head()  # positions stand
        assert not [batch for batch in batches if batch.decoded.undecodable]
    held = [path.name for path in tmp_path.iterdir() if path.is_file() and MARK.encode() in path.read_bytes()]
    assert held == []


def readers(lab: Lab, engine: Engine) -> tuple[Recorder, Assessor]:
    recorder = Recorder(
        journal=lab.journal,
        timeseries=lab.series,
        database=lab.database,
        clock=lab.clock,
        counters=Counters(),
        kinds=lambda device: ("car", ""),
        random=lambda: 0.0,
        linger_ms=0,
    )
    assessor = Assessor(
        journal=lab.journal,
        database=lab.database,
        state=lab.context.state,
        engine=engine,
        clock=lab.clock,
        counters=Counters(),
        policy=Policy(rules={}),
        kind_of=lambda device: "car",
    )
    return recorder, assessor
