"""What an owner takes along: everything of theirs, nothing of others, and no secret."""

import contextlib
import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from web_lab import DAY, HOUR, NOW, Caller, Lab, web_lab

from gateway.adapters.database import tables
from gateway.adapters.database.personal import IMPERSONAL, PERSONAL
from gateway.domain.access import Role
from gateway.domain.owner import PushSubscription
from gateway.domain.report import Attachment
from gateway.web import export


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        await opened.owner("omar", "car-2")
        yield opened


async def taken(api: Caller, owner: str) -> dict[str, bytes]:
    """{name: content} of the archive."""
    url = f"/api/v1/owners/{owner}/export"
    async with api.client.get(url, headers=api.headers) as response:
        assert (response.status, response.content_type) == (200, "application/zip")
        archive = zipfile.ZipFile(io.BytesIO(await response.read()))
    assert archive.testzip() is None
    return {name: archive.read(name) for name in archive.namelist()}


def rows(files: dict[str, bytes], table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(files[f"{table}.json"])
    return found


def test_no_table_is_forgotten() -> None:
    assert set(tables.metadata.tables) == set(PERSONAL) | IMPERSONAL
    assert not set(PERSONAL) & IMPERSONAL


async def test_an_owner_takes_along_what_is_theirs_and_nothing_of_others(lab: Lab) -> None:
    mine, theirs = await lab.worn_pads("car-1", "jana"), await lab.worn_pads("car-2", "omar")
    files = await taken(await lab.caller(Role.OWNER, "jana"), "jana")
    assert {name.removesuffix(".json") for name in files if name.endswith(".json")} == set(PERSONAL)
    assert [row["id"] for row in rows(files, "touchpoints")] == [mine.id]
    assert [row["id"] for row in rows(files, "findings")] == [mine.finding]
    assert {row["purpose"] for row in rows(files, "consents")} == {"maintenance"}
    assert rows(files, "owners")[0]["created"].endswith("Z")
    told = b"".join(files.values())
    assert mine.id.encode() in told
    assert theirs.id.encode() not in told
    assert b"omar" not in told


async def test_readings_are_those_of_the_time_in_which_a_product_was_theirs(lab: Lab) -> None:
    await lab.measured(
        "car-1", "pad_wear_front", (NOW - 366 * DAY, 1.0), (NOW - HOUR, 80.5), (NOW + DAY, 81.0)
    )
    operator = await lab.caller()
    assert (await operator("PUT", "devices/car-1/owner", {"owner": "omar"})).status == 200
    files = await taken(await lab.caller(Role.OWNER, "jana"), "jana")
    lines = list(csv.reader(io.StringIO(files["readings/car-1/pad_wear_front.csv"].decode())))
    assert lines == [["time", "value"], ["2026-11-23T07:00:00.000Z", "80.5"]]


async def test_photos_are_files_and_keys_stay_here(lab: Lab) -> None:
    subscription = PushSubscription(
        id="s1",
        owner="jana",
        endpoint="https://push.example/1",
        p256dh="PUBLIC",
        auth="SECRET",
        label="phone",
        created=NOW,
    )
    photo = Attachment(
        id="p1",
        owner="jana",
        device="car-1",
        kind="photo",
        media_type="image/png",
        body=b"\x89PNG",
        created=NOW,
    )
    await lab.write(lambda r: r.owners.subscribe(subscription))
    await lab.write(lambda r: r.attachments.add(photo))
    await lab.write(lambda r: r.attachments.add(replace(photo, id="p2", owner="omar")))
    api = await lab.caller(Role.OWNER, "jana")
    files = await taken(api, "jana")
    assert files["files/attachments-p1.png"] == b"\x89PNG"
    assert [row["body"] for row in rows(files, "attachments")] == ["files/attachments-p1.png"]
    assert rows(files, "push_subscriptions")[0]["endpoint"] == "https://push.example/1"
    assert not [name for name, body in files.items() if b"SECRET" in body or b"PUBLIC" in body]
    tokens = rows(files, "tokens")
    assert len(tokens) == 1
    assert "hash" not in tokens[0]


async def test_nobody_takes_what_is_somebody_elses_and_after_sales_is_seen_taking_it(lab: Lab) -> None:
    for role, subject in ((Role.OWNER, "omar"), (Role.WORKSHOP, "north")):
        refused = await (await lab.caller(role, subject))("GET", "owners/jana/export")
        assert refused.status in (403, 404), refused
    await taken(await lab.caller(), "jana")
    newest = (await (await lab.caller(Role.OWNER, "jana")).get("owners/jana/ledger"))["items"][0]
    assert (newest["code"], newest["params"]["thing"]) == ("looked", "everything")


async def test_one_that_is_cut_off_leaves_nothing_behind(lab: Lab) -> None:
    """Who closes the page while it comes is no fault of ours: nothing of it is logged as one."""
    await lab.measured("car-1", "speed", *((NOW + n, 1.0) for n in range(12_000)))

    def parts() -> contextlib.aclosing[Any]:
        return contextlib.aclosing(export.archive(lab.context, "jana", NOW + DAY))

    async with parts() as whole:
        count = len([part async for part in whole])
    for cut in range(count - 4, count):
        async with parts() as some:
            for _ in range(cut):
                await anext(some)
