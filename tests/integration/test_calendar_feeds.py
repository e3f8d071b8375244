"""Feeds to subscribe to, the pages that give their addresses, and the API of calendars and mail."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import icalendar
import pytest
import vobject
from web_lab import DAY, HOUR, NORTH, NOW, Caller, Lab, web_lab

import config
from gateway.domain.access import Role
from gateway.domain.appointment import Appointment, AppointmentState
from gateway.domain.delivery import MailAddress
from gateway.domain.texts import Texts

TEXTS = Texts({language: config.messages(language) for language in ("en", "de")})


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, texts=TEXTS) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        yield opened


async def visit(lab: Lab, start: int, state: AppointmentState = AppointmentState.CONFIRMED) -> str:
    made = Appointment(
        id=f"visit-{start}-{state}",
        workshop="north",
        service="brakes-front",
        bay="Bay 1",
        start=start,
        end=start + HOUR,
        state=state,
        created=NOW,
        owner="jana",
        device="car-1",
        diagnosis={"codes": ["P0420"], "evidence": {"pad_wear_front": 81}},
    )
    await lab.write(lambda records: records.workshops.book(made))
    return made.id


async def fetched(lab: Lab, url: str, **headers: str) -> Any:
    path = url.removeprefix("http://127.0.0.1")
    async with lab.client.get(path, headers=headers) as response:
        return response.status, await response.read(), response.headers.copy()


async def rotated(caller: Caller, path: str) -> str:
    made = await caller("POST", path)
    assert made.status == 201
    return str(made.body["url"])


async def test_a_workshop_subscribes_to_its_visits(lab: Lab) -> None:
    """Two independent readers read the same: what is to come and thirty days back, and nothing found."""
    coming = await visit(lab, NOW + 2 * DAY)
    await visit(lab, NOW - 10 * DAY, AppointmentState.DONE)
    await visit(lab, NOW - 40 * DAY, AppointmentState.DONE)
    await visit(lab, NOW + 3 * DAY, AppointmentState.CANCELLED)
    north = await lab.caller(Role.WORKSHOP, "north")
    url = await rotated(north, "workshops/north/calendar/feed")
    status, body, headers = await fetched(lab, url)
    assert (status, headers["Content-Type"]) == (200, "text/calendar; charset=utf-8")
    events = vobject.readOne(body.decode()).vevent_list
    assert len(events) == 2
    again = icalendar.Calendar.from_ical(body)
    assert {str(e["uid"]) for e in again.walk("VEVENT")} == {e.uid.value for e in events}
    event = next(e for e in events if e.uid.value.startswith(coming))
    assert event.summary.value == "Front brakes · Arden 5 · HH-T 1"
    assert event.dtstart.value.utcoffset().total_seconds() == 3_600
    assert b"P0420" not in body
    assert b"Jana" not in body
    assert str(again["refresh-interval"].to_ical(), "ascii") == "PT15M"
    assert again["x-wr-calname"] == "Autohaus Nord: visits"


async def test_a_feed_that_did_not_change_is_not_sent_again(lab: Lab) -> None:
    await visit(lab, NOW + 2 * DAY)
    north = await lab.caller(Role.WORKSHOP, "north")
    url = await rotated(north, "workshops/north/calendar/feed")
    _, _, headers = await fetched(lab, url)
    lab.clock.advance(NOW + HOUR)
    assert (await fetched(lab, url, **{"If-None-Match": headers["ETag"]}))[0] == 304
    await visit(lab, NOW + 4 * DAY)
    assert (await fetched(lab, url, **{"If-None-Match": headers["ETag"]}))[0] == 200


async def test_a_new_address_ends_the_one_before(lab: Lab) -> None:
    jana = await lab.caller(Role.OWNER, "jana")
    await visit(lab, NOW + 2 * DAY)
    first = await rotated(jana, "owners/jana/calendar/feed")
    assert (await fetched(lab, first))[0] == 200
    second = await rotated(jana, "owners/jana/calendar/feed")
    assert (await fetched(lab, first))[0] == 404
    assert (await fetched(lab, second))[0] == 200
    assert (await jana.get("owners/jana/calendar/feed"))["url"] == second
    assert (await jana("DELETE", "owners/jana/calendar/feed")).status == 204
    assert (await fetched(lab, second))[0] == 404
    assert (await jana.get("owners/jana/calendar/feed"))["url"] is None


async def test_an_address_whose_key_is_lost_is_not_shown(lab: Lab) -> None:
    """A new key in the data folder: the page offers a new address, not one that opens nothing."""
    jana = await lab.caller(Role.OWNER, "jana")
    before = await rotated(jana, "owners/jana/calendar/feed")
    lab.context.policy = replace(lab.context.policy, calendar_key=b"new" * 11)
    assert (await jana.get("owners/jana/calendar/feed"))["url"] is None
    after = await rotated(jana, "owners/jana/calendar/feed")
    assert [(await fetched(lab, url))[0] for url in (before, after)] == [404, 200]


async def test_nobody_else_gets_an_owners_address(lab: Lab) -> None:
    await lab.owner("max")
    for caller in (await lab.caller(Role.OWNER, "max"), await lab.caller(Role.OPERATOR)):
        assert (await caller("GET", "owners/jana/calendar/feed")).status in (403, 404)


async def test_a_guessed_address_opens_nothing(lab: Lab) -> None:
    for token in ("a" * 32, "../etc/passwd", "A" * 32):
        assert (await fetched(lab, f"/calendar/{token}.ics"))[0] == 404


async def test_a_workshop_chooses_how_it_is_reached(lab: Lab) -> None:
    north = await lab.caller(Role.WORKSHOP, "north")
    wanted = {"reach": "mail", "email": "service@nord.example", "language": "de"}
    wanted["busy_url"] = "webcal://calendar.nord.example/busy.ics"
    put = await north("PUT", "workshops/north/calendar", wanted)
    assert put.status == 200
    assert put.body["busy_url"] == "https://calendar.nord.example/busy.ics"
    assert (await north.get("workshops/north/calendar"))["reach"] == "mail"
    assert (await north("PUT", "workshops/north/calendar", {"reach": "mail"})).status == 422
    assert (await north("PUT", "workshops/north/calendar", {"busy_url": "file:///etc"})).status == 422
    await lab.workshop(type(NORTH)(id="south", name="Süd"))
    south = await lab.caller(Role.WORKSHOP, "south")
    assert (await south("GET", "workshops/north/calendar")).status == 404


async def test_the_page_of_a_workshop_says_how_its_calendar_stands(lab: Lab) -> None:
    _, secret = await lab.token(Role.WORKSHOP, "north")
    page = {"Authorization": f"Bearer {secret}"}
    forms = (
        (
            "/workshop/calendars",
            {"reach": "mail", "email": "x@nord.example", "language": "en"},
            "calendar_saved",
        ),
        ("/workshop/calendars", {"reach": "mail", "email": "no address"}, "no_mail"),
        ("/workshop/calendars/busy", {"url": "https://calendar.nord.example/x.ics"}, "busy_taken"),
        ("/workshop/calendars/busy", {"url": "nonsense"}, "no_calendar"),
        ("/workshop/calendars/feed", {}, "feed_made"),
    )
    for path, form, said in forms:
        async with lab.client.post(path, data=form, headers=page, allow_redirects=False) as response:
            assert response.headers["Location"] == f"/workshop/calendars?said={said}"
    async with lab.client.get("/workshop/calendars", headers=page) as response:
        text = await response.text()
    assert "x@nord.example" in text
    assert "https://calendar.nord.example/x.ics" in text
    assert "It is read within minutes." in text
    assert "http://127.0.0.1/calendar/" in text
    assert "webcal://127.0.0.1/calendar/" in text


async def test_a_workshop_whose_mail_comes_back_is_told_and_so_is_the_operator(lab: Lab) -> None:
    north = await lab.caller(Role.WORKSHOP, "north")
    await north("PUT", "workshops/north/calendar", {"reach": "mail", "email": "Service@nord.example"})
    gone = MailAddress(address="service@nord.example", state="undeliverable", reason="5.1.1 gone", at=NOW)
    await lab.write(lambda records: records.mail_addresses.mark(gone))
    _, workshop = await lab.token(Role.WORKSHOP, "north")
    _, operator = await lab.token(Role.OPERATOR)
    for secret, path, said in (
        (workshop, "/workshop/calendars", "Mail to this address came back"),
        (operator, "/operator/mail", "Mail to Service@nord.example comes back: 5.1.1 gone"),
    ):
        async with lab.client.get(path, headers={"Authorization": f"Bearer {secret}"}) as response:
            assert said in await response.text()
    form = {"reach": "mail", "email": "Service@nord.example"}
    page = {"Authorization": f"Bearer {workshop}"}
    async with lab.client.post("/workshop/calendars", data=form, headers=page, allow_redirects=False):
        pass
    assert await lab.read(lambda records: records.calendars.unreached()) == []


async def test_the_owner_finds_the_address_on_a_page(lab: Lab) -> None:
    _, secret = await lab.token(Role.OWNER, "jana")
    page = {"Authorization": f"Bearer {secret}"}
    async with lab.client.get("/me/visits", headers=page) as response:
        assert "/me/calendar" in await response.text()
    async with lab.client.post("/me/calendar", headers=page, allow_redirects=False) as response:
        assert response.status == 303
    async with lab.client.get("/me/calendar", headers=page) as response:
        assert "webcal://127.0.0.1/calendar/" in await response.text()


MAIL = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@x.example>\r\nSubject: <script>alert(1)</script>\r\n"
    b"Message-ID: <1@x>\r\n\r\nHello"
)


async def test_mail_is_handed_in_and_waits_for_the_operator(lab: Lab) -> None:
    system, operator = await lab.caller(Role.INTEGRATION), await lab.caller(Role.OPERATOR)
    body = {"message": b64encode(MAIL).decode(), "recipients": []}
    taken = await system("POST", "mail", body)
    assert (taken.status, taken.body["items"][0]["reason"]) == (201, "no_token")
    again = await system("POST", "mail", body)
    assert again.body["items"][0] == {"outcome": "ignored", "reason": "duplicate", "appointment": None}
    [waiting] = await operator.all("mail?waiting=true")
    shown = await operator.get(f"mail/{waiting['id']}")
    assert shown["message"] == body["message"]
    _, secret = await lab.token(Role.OPERATOR)
    page = {"Authorization": f"Bearer {secret}"}
    for path in ("/operator/mail", "/operator/mail?all=1", f"/operator/mail/{waiting['id']}"):
        async with lab.client.get(path, headers=page) as response:
            text = await response.text()
            assert response.status == 200
        assert "&lt;script&gt;" in text
        assert "<script>alert" not in text
    assert (await operator("POST", f"mail/{waiting['id']}/seen")).status == 201
    assert await operator.all("mail?waiting=true") == []
    assert (await operator.get(f"mail/{waiting['id']}"))["message"] is None  # kept no longer than needed


async def test_only_staff_hands_in_mail(lab: Lab) -> None:
    for role, subject in ((Role.OWNER, "jana"), (Role.WORKSHOP, "north")):
        caller = await lab.caller(role, subject)
        assert (await caller("POST", "mail", {"message": "aGk="})).status == 403


async def test_what_is_no_base64_is_refused(lab: Lab) -> None:
    system = await lab.caller(Role.INTEGRATION)
    assert (await system("POST", "mail", {"message": "%%%"})).status == 422
