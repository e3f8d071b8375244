"""Answering over HTTP: the API, the owner's page without a script, the call centre, photos."""

import asyncio
import io
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from garage import TEXTS
from PIL import Image
from real_parts import PATIENCE_S
from web_lab import DAY, NORTH, NOW, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.touchpoint import State, Touchpoint

OURS = {"Sec-Fetch-Site": "same-origin"}
MINUTE = 60_000
SOUTH = replace(NORTH, id="south", name="Werkstatt Süd")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, texts=TEXTS) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        await come_in(opened, Role.OWNER, "jana")
        yield opened


async def come_in(lab: Lab, role: Role, subject: str | None = None) -> None:
    """A browser session."""
    _, secret = await lab.token(role, subject)
    answer = await lab.client.post("/sign-in", data={"token": secret}, headers=OURS, allow_redirects=False)
    assert answer.status == 303


async def post(lab: Lab, url: str, form: Any = None, **fields: str) -> tuple[str, str]:
    """(where it leads, what stands there)."""
    answer = await lab.client.post(url, data=form or fields, headers=OURS)
    assert answer.status == 200, (answer.status, await answer.text())
    return str(answer.url.path_qs), await answer.text()


async def get(lab: Lab, url: str) -> str:
    answer = await lab.client.get(url)
    assert answer.status == 200, (url, answer.status)
    return await answer.text()


async def now_is(lab: Lab, touchpoint: Touchpoint) -> Touchpoint:
    return await lab.read(lambda r: r.touchpoints.get(touchpoint.id))


def photo(size: tuple[int, int] = (32, 24)) -> bytes:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "Camera of mine"
    Image.new("RGB", size, "red").save(out, "JPEG", exif=exif)
    return out.getvalue()


# --- the API ----------------------------------------------------------------------------------------


async def test_the_first_answer_wins_and_another_one_is_told_what_holds(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    jana = await lab.caller(Role.OWNER, "jana")
    path = f"touchpoints/{touchpoint.id}/answer"
    first = await jana("POST", path, {"action": "snooze", "until": "next_week"})
    assert (first.status, first.body["state"], first.body["wake_at"]) == (
        201,
        "deferred",
        "2026-11-30T08:00:00.000Z",
    )
    again = await jana("POST", path, {"action": "snooze"})
    assert (again.status, again.body) == (201, first.body)
    second = await jana("POST", path, {"action": "already_done"})
    assert second.status == 409
    assert second.headers["Content-Type"].startswith("application/problem+json")
    assert second.body["holds"]["answer"]["action"] == "snooze"


async def test_of_fifty_answers_at_once_one_holds_and_all_are_told_which(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    jana = await lab.caller(Role.OWNER, "jana")
    actions = ["not_now", "noted", "already_done", "call_me", "never"] * 10
    answers = await asyncio.gather(
        *(jana("POST", f"touchpoints/{touchpoint.id}/answer", {"action": action}) for action in actions)
    )
    holds = await now_is(lab, touchpoint)
    assert holds.answer is not None
    for action, answer in zip(actions, answers, strict=True):
        told = answer.body if answer.status == 201 else answer.body["holds"]
        assert answer.status == (201 if action == holds.answer.action else 409)
        assert told["answer"]["action"] == holds.answer.action


async def test_the_day_of_return_is_changed_or_it_is_shown_at_once(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    jana = await lab.caller(Role.OWNER, "jana")
    base = f"touchpoints/{touchpoint.id}"
    assert (await jana("POST", f"{base}/return", {"until": "tomorrow"})).status == 409
    await jana("POST", f"{base}/answer", {"action": "not_now"})
    later = await jana("POST", f"{base}/return", {"until": "2026-12-24"})
    assert (later.status, later.body["wake_at"]) == (201, "2026-12-24T08:00:00.000Z")
    assert (await jana("POST", f"{base}/return", {"until": "yesterday"})).status == 422
    shown = await jana("POST", f"{base}/return", {})
    assert (shown.status, shown.body["state"]) == (201, "open")
    assert shown.body["id"] != touchpoint.id


async def test_another_workshop_by_the_api_for_this_matter_and_for_the_product(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    await lab.workshop(SOUTH)
    await lab.workshop(replace(NORTH, id="tyres", name="Tyres", services=()))
    jana = await lab.caller(Role.OWNER, "jana")
    offered = await jana("GET", f"touchpoints/{touchpoint.id}/workshops")
    assert [place["id"] for place in offered.body["items"]] == ["north", "south"]
    path = f"touchpoints/{touchpoint.id}/answer"
    chosen = await jana("POST", path, {"action": "other_workshop", "workshop": "south", "for_product": True})
    assert (chosen.body["state"], chosen.body["workshop"]) == ("open", "south")
    assert {slot["workshop"] for slot in chosen.body["slots"]} == {"south"}
    assert (await lab.read(lambda r: r.devices.get("car-1"))).workshop == "south"


async def test_the_call_centre_answers_for_the_owner_and_the_ledger_says_so(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    operator = await lab.caller()
    body = {"action": "already_done", "done_on": "2026-11-20", "workshop": "north"}
    body |= {"verified": {"asked": ["plate", "address"]}}
    done = await operator("POST", f"touchpoints/{touchpoint.id}/answer", body)
    assert (done.body["answer"]["channel"], done.body["answer"]["by"]) == ("call_centre", "operator")
    assert done.body["answer"]["done_at"] == "2026-11-20T11:00:00.000Z"
    lines = await lab.read(lambda r: r.touchpoints.ledger(owner="jana"))
    codes = [line.code for line in lines if line.code.startswith("answered")]
    assert codes == ["answered_already_done", "answered_for_you"]


# --- the page ---------------------------------------------------------------------------------------


async def test_the_page_offers_every_answer_without_a_script(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    page = await get(lab, f"/me/touchpoints/{touchpoint.id}")
    for action in ("not_now", "already_done", "call_me", "never", "snooze:tomorrow", "snooze:weekend"):
        assert f'name="action" value="{action}"' in page, action
    assert f"/me/touchpoints/{touchpoint.id}/workshops" in page
    assert 'type="date" name="until" min="2026-11-24"' in page


async def test_after_not_now_the_page_says_when_it_returns_and_lets_that_be_changed(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url, page = await post(lab, f"/me/touchpoints/{touchpoint.id}/answer", action="not_now")
    assert url == f"/me/touchpoints/{touchpoint.id}?said=not_now"
    assert "Montag, 30." in page
    url, page = await post(lab, f"/me/touchpoints/{touchpoint.id}/return", until="2026-12-24")
    assert "24." in page
    assert (await now_is(lab, touchpoint)).wake_at == NOW + 31 * DAY
    url, _ = await post(lab, f"/me/touchpoints/{touchpoint.id}/return")
    assert url.endswith("said=shown")
    assert touchpoint.id not in url, "a new contact about the same matter"
    url, _ = await post(lab, f"/me/touchpoints/{touchpoint.id}/return")
    assert url.endswith("said=conflict")


async def test_already_done_asks_when_and_where(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    answer = f"/me/touchpoints/{touchpoint.id}/answer"
    url, page = await post(lab, answer, action="already_done")
    assert url == f"/me/touchpoints/{touchpoint.id}/done?said=done"
    assert 'value="north"' in page
    url, _ = await post(lab, answer, action="already_done", done_on="2026-11-20", workshop="north", place="")
    assert "/done" not in url
    told = (await now_is(lab, touchpoint)).answer
    assert told is not None
    assert (told.workshop, told.done_at) == ("north", NOW - 3 * DAY + 3 * 60 * MINUTE)


async def test_another_workshop_is_chosen_on_its_page(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    await lab.workshop(SOUTH)
    page = await get(lab, f"/me/touchpoints/{touchpoint.id}/workshops")
    assert "Werkstatt Süd" in page
    url, page = await post(
        lab, f"/me/touchpoints/{touchpoint.id}/answer", action="other_workshop", workshop="south"
    )
    assert url.endswith("said=workshop")
    assert "Werkstatt Süd" in page


async def test_what_cannot_be_is_told_calmly(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    for fields in ({"action": "snooze", "until": "2020-01-01"}, {"action": "explode"}, {}):
        url, _ = await post(lab, f"/me/touchpoints/{touchpoint.id}/answer", fields or {"x": "y"})
        assert url.endswith("said=not_possible")
    assert (await now_is(lab, touchpoint)).answer is None


async def test_never_is_shown_in_the_settings_and_can_be_taken_back(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    await post(lab, f"/me/touchpoints/{touchpoint.id}/answer", action="never")
    page = await get(lab, "/me/you")
    assert 'name="rule" value="brake-pads-front-worn"' in page
    await post(lab, "/me/mute", rule="brake-pads-front-worn", muted="")
    wanted = await lab.read(lambda r: r.owners.preferences("jana"))
    assert (wanted.muted, dict(wanted.muted_at)) == ((), {})


async def test_the_display_offers_other_times_and_what_was_answered_elsewhere_is_gone_from_it(
    lab: Lab,
) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    assert 'value="other_time"' in await get(lab, "/car/car-1")
    before = (await now_is(lab, touchpoint)).slots
    await post(lab, "/display/car-1/answer", touchpoint=touchpoint.id, action="other_time")
    assert (await now_is(lab, touchpoint)).slots != before
    await post(lab, f"/me/touchpoints/{touchpoint.id}/answer", action="snooze:tomorrow")
    assert f'value="{touchpoint.id}"' not in await get(lab, "/car/car-1")


async def test_an_open_page_hears_of_an_answer_at_once(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    async with lab.client.get("/events?as=owner") as stream:
        jana = await lab.caller(Role.OWNER, "jana")
        answered = asyncio.create_task(
            jana("POST", f"touchpoints/{touchpoint.id}/answer", {"action": "noted"})
        )
        heard = b""
        async with asyncio.timeout(PATIENCE_S):
            while b"event: change" not in heard:
                heard += await stream.content.readany()
        assert (await answered).status == 201


# --- the call centre --------------------------------------------------------------------------------


async def test_the_call_centres_page_has_every_answer_once_the_caller_is_verified(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    await come_in(lab, Role.OPERATOR)
    there = f"/operator/touchpoints/{touchpoint.id}"
    page = await get(lab, there)
    assert 'name="action"' not in page
    assert "HH-T 1" in page, "what the caller should know stands there"
    assert 'href="/me' not in page, "after-sales may not open an owner's pages"
    url, _ = await post(lab, f"{there}/talk/answer?from=matter", action="noted")
    assert url.endswith(f"{there}?said=talk_verify_first")
    assert 'name="action"' not in await get(lab, "/operator/owners/jana")
    form = FormData([("asked", "plate"), ("asked", "address")])
    url, page = await post(lab, f"{there}/talk/verify?from=matter", form)
    assert url.endswith(f"{there}?said=talk_verified")
    assert f"{there}/talk/answer?from=matter" in await get(lab, "/operator/owners/jana")
    for action in ("book", "not_now", "call_me", "never", "snooze:tomorrow", "already_done"):
        assert f'name="action" value="{action}"' in page, action
    url, _ = await post(lab, f"{there}/talk/answer?from=matter", action="call_me")
    assert url.endswith("said=talk_answered")
    page = await get(lab, f"/operator/touchpoints/{touchpoint.id}")
    slot = (await now_is(lab, touchpoint)).slots[0].id
    assert slot in page, "what is agreed in the call is taken down"
    await post(lab, f"{there}/talk/answer?from=matter", action="book", slot=slot)
    booked = await now_is(lab, touchpoint)
    assert booked.state is State.BOOKED
    assert booked.answer is not None
    assert booked.answer.channel == "call_centre"


# --- something is wrong -------------------------------------------------------------------------------


async def test_a_report_with_a_photo_reaches_the_workshop_and_nobody_else(lab: Lab) -> None:
    await lab.measured("car-1", "pad_wear_front", (NOW - 5 * MINUTE, 81.0), (NOW - MINUTE, 82.0))
    await lab.write(
        lambda r: r.devices.put_facts(
            [replace(r.devices.facts("car-1"), latest={"pad_wear_front": (NOW - MINUTE, 82.0)})]
        )
    )
    assert "multipart/form-data" in await get(lab, "/me/products/car-1/report")
    form = FormData()
    form.add_field("text", "Es quietscht beim Bremsen.")
    form.add_field("photo", photo((3_000, 2_000)), filename="a.jpg", content_type="image/jpeg")
    url, page = await post(lab, "/me/products/car-1/report", form)
    assert url.endswith("said=reported")
    assert "Es quietscht beim Bremsen." in page
    (report,) = await lab.read(lambda r: r.reports.page(owner="jana"))
    assert len(report.around["readings"]["pad_wear_front"]) == 2
    picture = f"/attachments/{report.photo}"
    kept = await lab.client.get(picture)
    assert (kept.status, kept.content_type) == (200, "image/jpeg")
    assert b"Camera" not in await kept.read()
    north, south = await lab.caller(Role.WORKSHOP, "north"), await lab.caller(Role.WORKSHOP, "south")
    assert await seen_by(lab, north, picture) == 404, "nothing is booked there yet"
    slot = (await lab.read(lambda r: r.touchpoints.get(report.touchpoint))).slots[0].id
    await post(lab, f"/me/touchpoints/{report.touchpoint}/answer", action="book", slot=slot)
    assert await seen_by(lab, north, picture) == 200
    assert await seen_by(lab, south, picture) == 404
    assert await seen_by(lab, await lab.caller(Role.OWNER, "max"), picture) == 404
    await come_in(lab, Role.WORKSHOP, "north")
    (appointment,) = await lab.read(lambda r: r.workshops.appointments(workshop="north"))
    page = await get(lab, f"/workshop?booking={appointment.id}")
    assert "Es quietscht beim Bremsen." in page
    assert picture in page


async def seen_by(lab: Lab, caller: Any, path: str) -> int:
    """What somebody without a browser gets."""
    lab.client.session.cookie_jar.clear()
    status = (await lab.client.get(path, headers=dict(caller.headers))).status
    await come_in(lab, Role.OWNER, "jana")
    return status


async def sends(lab: Lab, caller: Any, picture: bytes) -> tuple[int, Any]:
    """A report with a photo, however large."""
    body = io.BytesIO(json.dumps({"text": "It squeals.", "photo": b64encode(picture).decode()}).encode())
    headers = {**dict(caller.headers), "Content-Type": "application/json"}
    answer = await lab.client.post("/api/v1/devices/car-1/reports", data=body, headers=headers)
    return answer.status, await answer.json()


async def test_a_report_by_the_api_takes_a_photo_of_eight_megabytes_and_no_more(lab: Lab) -> None:
    jana = await lab.caller(Role.OWNER, "jana")
    noise = photo() + b"\0" * (8 * 1024 * 1024 - len(photo()))
    status, made = await sends(lab, jana, noise)
    assert status == 201
    assert (made["matter"]["state"], made["matter"]["rule"]) == ("open", "owner-report")
    assert (await sends(lab, jana, noise + b"\0"))[0] == 422
    assert (await sends(lab, jana, noise + b"\0" * 1_000_000))[0] == 413
    for body in (
        {"text": ""},
        {"text": "x", "photo": "!"},
        {"text": "x", "photo": b64encode(b"no").decode()},
    ):
        assert (await jana("POST", "devices/car-1/reports", body)).status == 422
    listed = await jana("GET", "devices/car-1/reports")
    assert [one["text"] for one in listed.body["items"]] == ["It squeals."]


async def test_a_report_without_words_keeps_what_was_written_and_says_what_is_missing(lab: Lab) -> None:
    form = FormData()
    form.add_field("text", "Riecht komisch.")
    form.add_field("photo", b"GIF89a", filename="a.gif", content_type="image/gif")
    _, page = await post(lab, "/me/products/car-1/report", form)
    assert "Riecht komisch." in page
    assert 'role="alert"' in page
    assert await lab.read(lambda r: r.reports.page(owner="jana")) == []


async def test_a_workshops_photo_for_extra_work_is_seen_by_the_owner(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    slot = touchpoint.slots[0].id
    await post(lab, f"/me/touchpoints/{touchpoint.id}/answer", action="book", slot=slot)
    (appointment,) = await lab.read(lambda r: r.workshops.appointments(workshop="north"))
    north = await lab.caller(Role.WORKSHOP, "north")
    body = {"photo": b64encode(photo()).decode()}
    kept = await north("POST", f"appointments/{appointment.id}/photos", body)
    assert (kept.status, kept.body["kind"]) == (201, "extra_work")
    assert await seen_by(lab, north, f"/attachments/{kept.body['id']}") == 200
    assert (await lab.client.get(f"/attachments/{kept.body['id']}")).status == 200
