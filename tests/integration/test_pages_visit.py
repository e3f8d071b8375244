"""A visit through the pages: what a workshop says, and what its owner sees and says of it."""

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import FormData
from garage import TEXTS
from PIL import Image
from web_lab import DAY, HOUR, NORTH, NOW, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.appointment import Appointment, AppointmentState, BusyTime, ExtraState
from gateway.domain.touchpoint import State

OURS = {"Sec-Fetch-Site": "same-origin"}
S = AppointmentState


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, texts=TEXTS) as opened:
        await opened.workshop(replace(NORTH, books="on_request"))
        await opened.owner("jana", "car-1", workshop="north")
        for role, subject in ((Role.OWNER, "jana"), (Role.WORKSHOP, "north")):
            _, secret = await opened.token(role, subject)
            await says(opened, "/sign-in", token=secret)
        yield opened


async def says(lab: Lab, path: str, **form: str | list[str]) -> str:
    """Post a form; gives where it leads."""
    pairs = [(k, v) for k, values in form.items() for v in (values if isinstance(values, list) else [values])]
    async with lab.client.post(path, data=pairs, headers=OURS, allow_redirects=False) as response:
        assert response.status == 303, (path, response.status, await response.text())
        return response.headers["Location"]


async def reads(lab: Lab, path: str) -> str:
    async with lab.client.get(path, params={"lang": "en"} if "?" not in path else {}) as response:
        assert response.status == 200, (path, response.status)
        return (await response.text()).replace("\u00a0", " ")


async def visits(lab: Lab) -> list[Appointment]:
    return await lab.database.read(lambda r: r.workshops.appointments(workshop="north"))


async def requested(lab: Lab) -> Appointment:
    matter = await lab.worn_pads("car-1", "jana")
    await says(lab, f"/me/touchpoints/{matter.id}/answer", action="book", slot=matter.slots[0].id)
    return (await visits(lab))[0]


async def test_a_workshop_learns_who_with_the_booking_and_not_while_somebody_chooses(lab: Lab) -> None:
    await lab.write(lambda r: r.owners.update(replace(r.owners.get("jana"), name="Jana Keller")))
    matter = await lab.worn_pads("car-1", "jana")
    jana = await lab.caller(Role.OWNER, "jana")
    held = await jana("POST", f"touchpoints/{matter.id}/hold")
    assert held.status == 201
    day = held.body["slots"][0]["start"][:10]
    for path in (f"/workshop?lang=en&day={day}", f"/workshop/week?lang=en&day={day}"):
        page = await reads(lab, path)
        assert "Front brakes" in page
        assert "Keller" not in page
    assert "looked" not in [line["code"] for line in await jana.all("owners/jana/ledger")]
    await says(lab, f"/me/touchpoints/{matter.id}/answer", action="book", slot=matter.slots[0].id)
    assert "Jana Keller" in await reads(lab, f"/workshop?lang=en&booking={(await visits(lab))[0].id}")


async def test_a_visit_from_the_request_to_the_job_done(lab: Lab) -> None:
    made = await requested(lab)
    mine, theirs = f"/me/visits/{made.id}", f"/workshop?lang=en&booking={made.id}"
    assert "The workshop answers by" in await reads(lab, mine)
    assert f"/workshop/bookings/{made.id}/decline" in await reads(lab, theirs)
    await says(lab, f"/workshop/bookings/{made.id}/confirm")
    assert "What will you do meanwhile?" in await reads(lab, mine)
    await says(lab, f"{mine}/stay", stay="waits")
    assert "The owner waits there" in await reads(lab, theirs)

    lab.clock.advance(made.start)
    await says(lab, f"/workshop/bookings/{made.id}/progress", step="checked_in")
    await says(lab, f"/workshop/bookings/{made.id}/progress", step="in_work")
    assert "How far it is" in await reads(lab, mine)
    extra = await asked(lab, made)
    assert extra.photo is not None
    async with lab.client.get(f"/attachments/{extra.photo}") as picture:
        assert (picture.status, picture.content_type) == (200, "image/jpeg")
    shown = await reads(lab, f"/me/extra-work/{extra.id}")
    assert "The discs are worn, too." in shown
    assert "240 €" in shown
    assert "Yes, do it" in shown
    # what the notification's button sends
    await says(lab, f"/me/extra-work/{extra.id}/answer", action="approve", channel="web_push")
    assert "Approved" in await reads(lab, theirs)
    answered = await lab.database.read(lambda r: r.workshops.extra(extra.id))
    assert (answered.state, answered.by, answered.channel) == (ExtraState.APPROVED, "jana", "web_push")
    assert "conflict" in await says(lab, f"/me/extra-work/{extra.id}/answer", action="decline")

    await says(lab, f"/workshop/bookings/{made.id}/progress", step="ready")
    assert "Ready for pick-up" in await reads(lab, mine)
    await says(
        lab, f"/workshop/bookings/{made.id}/done", note="Pads and discs", parts="pads, discs", price="400"
    )
    done = (await visits(lab))[0]
    assert (done.state, done.work) == (
        S.DONE,
        {"note": "Pads and discs", "parts": ["pads", "discs"], "price": 400},
    )


async def asked(lab: Lab, made: Appointment) -> "object":
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(picture, "PNG")
    form = FormData({"reason": "The discs are worn, too.", "price": "240", "minutes": "30"})
    form.add_field("photo", picture.getvalue(), filename="disc.png", content_type="image/png")
    path = f"/workshop/bookings/{made.id}/extra-work"
    async with lab.client.post(path, data=form, headers=OURS, allow_redirects=False) as response:
        assert "said=asked" in response.headers["Location"]
    return (await lab.database.read(lambda r: r.workshops.extras(appointment=made.id)))[0]


async def test_what_is_no_photo_is_said_so(lab: Lab) -> None:
    made = await requested(lab)
    form = FormData({"reason": "Discs", "price": "240"})
    form.add_field("photo", b"no picture", filename="x.png", content_type="image/png")
    path = f"/workshop/bookings/{made.id}/extra-work"
    async with lab.client.post(path, data=form, headers=OURS, allow_redirects=False) as response:
        assert "said=invalid" in response.headers["Location"]
    assert await lab.database.read(lambda r: r.workshops.extras(appointment=made.id)) == []


async def test_both_sides_come_to_a_time_on_their_pages(lab: Lab) -> None:
    made = await requested(lab)
    assert "said=wished" in await says(
        lab, f"/me/visits/{made.id}/wish", start=["2026-11-26T07:00", "", ""], comment="before work"
    )
    waiting = await reads(lab, "/workshop")
    assert "Take Thu, 26 Nov, 7:00" in waiting
    wished = (await visits(lab))[0].wished
    assert wished == (NOW + 3 * DAY - 2 * HOUR,)  # seven on the owner's clock
    await says(lab, f"/workshop/bookings/{made.id}/accept", start=str(wished[0]))
    stands = (await visits(lab))[0]
    assert (stands.id, stands.state, stands.start) == (made.id, S.CONFIRMED, wished[0])


async def test_an_offered_time_is_taken_on_the_page(lab: Lab) -> None:
    made = await requested(lab)
    other = made.start + 4 * HOUR
    await says(lab, f"/workshop/bookings/{made.id}/counter", slot=f"north@{other}")
    assert f'value="{other}"' in await reads(lab, f"/me/visits/{made.id}")
    await says(lab, f"/me/visits/{made.id}/offer", start=str(other))
    stands = (await visits(lab))[0]
    assert (stands.state, stands.start) == (S.CONFIRMED, other)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/me/visits/{id}/wish", {"start": "soon"}),
        ("/me/visits/{id}/wish", {}),
        ("/me/visits/{id}/stay", {"stay": "sleeps"}),
        ("/me/visits/{id}/offer", {"start": "x"}),
        ("/workshop/bookings/{id}/accept", {"start": "x"}),
        ("/workshop/bookings/{id}/progress", {"step": "washed"}),
        ("/workshop/bookings/{id}/done", {"price": "cheap"}),
    ],
)
async def test_what_cannot_be_taken_is_said_and_changes_nothing(
    lab: Lab, path: str, form: dict[str, str]
) -> None:
    made = await requested(lab)
    assert "said=" in await says(lab, path.format(id=made.id), **form)
    assert await visits(lab) == [made]


async def test_several_workshops_are_asked_from_one_page(lab: Lab) -> None:
    await lab.workshop(replace(NORTH, id="east", name="Autohaus Ost", books="on_request"))
    matter = await lab.worn_pads("car-1", "jana")
    page = await reads(lab, f"/me/touchpoints/{matter.id}/several")
    assert "Autohaus Ost" in page
    start = matter.slots[0].start
    await says(lab, f"/me/touchpoints/{matter.id}/several", slot=[f"north@{start}", f"east@{start}"])
    found = await lab.database.read(lambda r: r.workshops.appointments(owner="jana"))
    assert {(a.workshop, a.state) for a in found} == {("north", S.REQUESTED), ("east", S.REQUESTED)}


async def test_a_time_that_nobody_offered_is_asked_for(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    where = await says(lab, f"/me/touchpoints/{matter.id}/wish", start="2026-11-26T06:30")
    asked_for = (await visits(lab))[0]
    assert where == f"/me/visits/{asked_for.id}?said=wished"
    assert asked_for.state is S.WISHED
    after = await lab.database.read(lambda r: r.touchpoints.get(matter.id))
    assert after.state is State.ANSWERED
    assert "You asked for:" in await reads(lab, f"/me/visits/{asked_for.id}")


async def test_a_walk_in_takes_two_taps(lab: Lab) -> None:
    page = await reads(lab, "/workshop/walk-in")  # one
    assert "now · Bay 1" in page
    where = await says(lab, "/workshop/walk-in", service="brakes-front", label="HH-X 1")  # two
    entry = (await visits(lab))[0]
    assert where == f"/workshop?booking={entry.id}&said=walked_in"
    assert (entry.label, entry.start, entry.state) == ("HH-X 1", NOW, S.CHECKED_IN)
    assert "HH-X 1" in await reads(lab, "/workshop")


async def test_a_workshop_says_when_it_is_open_otherwise_and_what_it_needs(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    first = matter.slots[0].start
    await says(lab, "/workshop/exceptions", date="2026-11-24", reason="Training")
    await says(lab, "/workshop/holidays", country="de", region="hh")
    await says(
        lab,
        "/workshop/services",
        id="brakes-front",
        minutes="120",
        buffer_minutes="15",
        lead_days="1",
        price_from="180",
        price_to="220",
        vat_percent="19",
        skills="",
        parts="pads 2, wear sensor 3",
    )
    page = (await reads(lab, "/workshop/services")).replace("\xa0", " ")
    assert "Tuesday, 24 November 2026 · closed · Training" in page
    assert "Friday, 25 December 2026: " in page
    workshop = await lab.database.read(lambda r: r.workshops.get("north"))
    service = workshop.service("brakes-front")
    assert service is not None
    assert (service.minutes, service.vat_percent, [(p.name, p.days) for p in service.parts]) == (
        120,
        19.0,
        [("pads", 2), ("wear sensor", 3)],
    )
    assert "said=taken" in await says(
        lab, f"/me/touchpoints/{matter.id}/answer", action="book", slot=f"north@{first}"
    )
    await says(lab, "/workshop/exceptions", date="2026-11-24", remove="1")
    assert "Training" not in await reads(lab, "/workshop/services")


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/workshop/exceptions", {"date": "soon"}),
        ("/workshop/exceptions", {"date": "2026-12-01", "from": "18:00", "to": "09:00"}),
        ("/workshop/holidays", {"country": "XX"}),
        ("/workshop/services", {"id": "none", "minutes": "60"}),
        ("/workshop/services", {"id": "brakes-front", "minutes": "a lot"}),
        (
            "/workshop/services",
            {"id": "brakes-front", "minutes": "60", "lead_days": "1", "buffer_minutes": "0", "parts": "pads"},
        ),
    ],
)
async def test_what_a_workshop_cannot_mean_changes_nothing(lab: Lab, path: str, form: dict[str, str]) -> None:
    before = await lab.database.read(lambda r: r.workshops.get("north"))
    assert "said=invalid" in await says(lab, path, **form)
    assert await lab.database.read(lambda r: r.workshops.get("north")) == before


async def test_a_workshop_gives_up_a_service_and_offers_it_again(lab: Lab) -> None:
    assert "Offer another service" not in await reads(lab, "/workshop/services")  # it does all there is
    assert "said=saved" in await says(lab, "/workshop/services", id="brakes-front", remove="1")
    assert (await lab.database.read(lambda r: r.workshops.get("north"))).service("brakes-front") is None
    assert "Replace front brake pads" in await reads(lab, "/workshop/services")
    needs = {"minutes": "90", "lead_days": "2", "buffer_minutes": "0", "price_from": "90", "price_to": "140"}
    again = {"id": "brakes-front", **needs, "price_valid_until": "2026-12-31"}
    assert "said=saved" in await says(lab, "/workshop/services", **again)
    offered = (await lab.database.read(lambda r: r.workshops.get("north"))).service("brakes-front")
    assert offered is not None
    assert (offered.names["en"], offered.minutes, offered.lead_days) == ("Replace front brake pads", 90, 2)
    assert (offered.price_to, offered.price_valid_until) == (140, "2026-12-31")


async def test_the_week_shows_every_bay_with_all_that_takes_it(lab: Lab) -> None:
    made = await requested(lab)
    day = datetime.fromtimestamp(made.start / 1000, UTC).date()
    lunch = BusyTime(workshop="north", source="feed", start=made.end, end=made.end + HOUR)
    await lab.database.write(lambda r: r.workshops.put_busy("north", "feed", [lunch]))
    shown = await reads(lab, f"/workshop/week?lang=en&day={day}")
    assert f"/workshop?booking={made.id}" in shown
    assert "waits for your word" in shown
    assert shown.count("Taken in your own calendar") == 2 * len(NORTH.bays)  # columns, and a list for phones
    assert "Taken in your own calendar" in await reads(lab, f"/workshop?lang=en&booking={made.id}")
    assert shown.count("closed") >= 2  # the weekend
    for wrong in ("soon", "0001-01-01"):
        async with lab.client.get("/workshop/week", params={"day": wrong}) as response:
            assert response.status == 422


async def test_a_workshop_offers_a_time_that_it_types(lab: Lab) -> None:
    made = await requested(lab)
    back = await says(lab, f"/workshop/bookings/{made.id}/counter", start="2026-11-28T10:10")
    assert "said=countered" in back
    assert [datetime.fromtimestamp(at / 1000, UTC) for at in (await visits(lab))[0].offered] == [
        datetime(2026, 11, 28, 9, 10, tzinfo=UTC)
    ]
    assert "said=invalid" in await says(lab, f"/workshop/bookings/{made.id}/counter", start="later")


async def test_who_may_only_look_changes_no_visit_and_agrees_to_no_work(lab: Lab) -> None:
    made = await requested(lab)
    await lab.owner("tom")
    operator, north = await lab.caller(), await lab.caller(Role.WORKSHOP, "north")
    tom = await lab.caller(Role.OWNER, "tom")
    await operator("PUT", "devices/car-1/people/tom", {"role": "member"})
    await north("POST", f"appointments/{made.id}/confirm", {})
    lab.clock.advance(made.start)
    await north("POST", f"appointments/{made.id}/progress", {"step": "checked_in"})
    asked = await north("POST", f"appointments/{made.id}/extra-work", {"reason": "Discs", "price": 240})
    extra = asked.body["id"]
    assert (await tom("GET", f"appointments/{made.id}")).status == 200
    _, secret = await lab.token(Role.OWNER, "tom")
    await says(lab, "/sign-in", token=secret)
    tries = (
        (f"appointments/{made.id}/cancel", {}, f"/me/visits/{made.id}/cancel"),
        (f"appointments/{made.id}/stay", {"stay": "waits"}, f"/me/visits/{made.id}/stay"),
        (f"extra-work/{extra}/answer", {"approve": True}, f"/me/extra-work/{extra}/answer"),
    )
    for path, body, page in tries:
        refused = await tom("POST", path, body)
        assert refused.status == 403, path
        assert "somebody else of your household decides" in refused.body["detail"]
        form = {"stay": "waits", "action": "approve"}
        async with lab.client.post(page, data=form, headers=OURS, allow_redirects=False) as response:
            assert response.status == 403, page
    assert (await lab.read(lambda r: r.workshops.extra(extra))).state is ExtraState.ASKED
    await operator("PUT", "devices/car-1/people/tom", {"role": "member", "may_answer": True})
    assert (await tom("POST", f"extra-work/{extra}/answer", {"approve": True})).body["state"] == "approved"


# --- the same by API --------------------------------------------------------------------------


async def test_the_api_takes_busy_times_and_says_who_pays(lab: Lab) -> None:
    north, jana = await lab.caller(Role.WORKSHOP, "north"), await lab.caller(Role.OWNER, "jana")
    day = {"start": "2026-11-24T00:00:00+01:00", "end": "2026-11-25T00:00:00+01:00"}
    taken = await north("PUT", "workshops/north/busy", {"source": "crm", "times": [day]})
    assert (taken.status, taken.body) == (200, {"source": "crm", "count": 1})
    slots = await jana.all("workshops/north/slots?service=brakes-front&to=2026-11-26T00:00:00Z")
    assert slots[0]["start"] == "2026-11-25T07:00:00.000Z"
    strange = await north(
        "PUT", "workshops/north/busy", {"source": "crm", "times": [{**day, "bay": "Bay 9"}]}
    )
    assert strange.status == 422
    assert "Bay 9" in str(strange.body)
    made = await requested(lab)
    shown = await jana("GET", f"appointments/{made.id}")
    assert shown.body["services"] == ["brakes-front"]
    assert shown.body["answer_by"] is not None
    assert shown.body["terms"] == {}  # nothing is stated, nothing is said


async def test_a_workshop_is_registered_with_everything_it_knows_of_itself(lab: Lab) -> None:
    operator = await lab.caller()
    body = {
        "id": "west",
        "name": "Autohaus West",
        "bays": ["Bay 1", "Tom"],
        "skills": {"Bay 1": ["ev"]},
        "country": "DE",
        "region": "HH",
        "exceptions": [{"date": "2026-12-24", "hours": [["08:00", "12:00"]], "reason": "Christmas Eve"}],
        "home": {"technicians": ["Tom"], "postcodes": ["20", "22"]},
        "replacement_cars": 2,
        "services": [
            {
                "id": "hv-check",
                "names": {"en": "High-voltage check"},
                "minutes": 60,
                "skills": ["ev"],
                "parts": [{"name": "seal", "days": 3}],
                "vat_percent": 19,
            }
        ],
    }
    made = await operator("POST", "workshops", body)
    assert made.status == 201, made.body
    kept = (await operator("GET", "workshops/west")).body
    assert kept["exceptions"] == body["exceptions"]
    assert kept["services"][0]["parts"] == [{"name": "seal", "days": 3}]
    assert kept["home"]["technicians"] == ["Tom"]
    double = {"hours": {"mon": [["08:00", "12:00"], ["11:00", "15:00"]]}}
    for wrong in (
        double,
        {"country": "XX"},
        {"skills": {"Bay 7": ["ev"]}},
        {"home": {"technicians": ["Eve"]}},
    ):
        refused = await operator("POST", "workshops", {**body, "id": "w2", **wrong})
        assert refused.status == 422, wrong
