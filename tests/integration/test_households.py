"""Who shares a product and who looked, as pages and API show it: real stores, real sessions."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar
from web_lab import DAY, Lab, cast, web_lab

import config
from gateway.domain.access import Role
from gateway.domain.texts import Texts
from gateway.domain.wording import ledger_words
from gateway.flow import people

TEXTS = Texts({language: config.messages(language) for language in ("en", "de")})
OURS = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, texts=TEXTS, extras={"strict": True}) as opened:
        yield opened


class Browser:
    """A browser of its own, with its own cookies."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.session = ClientSession(cookie_jar=CookieJar(unsafe=True))

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self._lab.client.make_url(path)) as response:
            return response.status, await response.text()

    async def post(self, path: str, **form: Any) -> tuple[int, str, str]:
        async with self.session.post(
            self._lab.client.make_url(path), data=form, headers=OURS, allow_redirects=False
        ) as response:
            return response.status, response.headers.get("Location", ""), await response.text()

    async def signs_in(self, role: Role, subject: str | None = None) -> None:
        _, secret = await self._lab.token(role, subject)
        assert (await self.post("/sign-in", token=secret))[0] == 303


@pytest.fixture
async def browser(lab: Lab) -> AsyncIterator[Any]:
    opened: list[Browser] = []

    def one() -> Browser:
        opened.append(Browser(lab))
        return opened[-1]

    yield one
    for each in opened:
        await each.session.close()


async def story(lab: Lab, owner: str, language: str = "en") -> list[str]:
    """An owner's ledger as they read it, oldest first."""
    lines = await lab.read(lambda records: people.ledger(records, owner, limit=500))
    told = [ledger_words(line, TEXTS, language, "Europe/Berlin") for line in reversed(lines)]
    return [sentence.replace("\u00a0", " ") for sentence in told]


# --- the invitation -------------------------------------------------------------------------------


async def invited(jana: Browser, **form: Any) -> str:
    """Jana makes a link; gives its path."""
    status, _, page = await jana.post("/me/products/car-1/people/invite", name="Tom", role="driver", **form)
    assert status == 200
    found = re.search(r'value="http://127\.0\.0\.1(/join/[\w-]+)"', page)
    assert found, page
    return found[1]


async def test_somebody_new_takes_an_invitation_up_and_is_asked_from_then_on(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    jana, tom = browser(), browser()
    await jana.signs_in(Role.OWNER, "jana")
    link = await invited(jana, asked="1")
    status, page = await tom.get(link)
    assert status == 200
    assert "Jana" in page
    status, where, _ = await tom.post(link, name="Tom Berg", agree="maintenance")
    assert (status, where) == (303, "/me/products/car-1?said=shared")
    assert (await tom.get("/me/products/car-1"))[0] == 200
    matter = await lab.worn_pads("car-1", "jana")
    assert matter.owner != "jana"
    owner = await lab.read(lambda records: records.owners.get(matter.owner))
    assert (owner.name, owner.time_zone) == ("Tom Berg", "Europe/Berlin")
    status, page = await tom.get(f"/me/touchpoints/{matter.id}")
    assert status == 200
    assert (await jana.get(f"/me/touchpoints/{matter.id}"))[0] == 200


async def test_an_invitation_works_once(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    jana, tom, ann = browser(), browser(), browser()
    await jana.signs_in(Role.OWNER, "jana")
    link = await invited(jana)
    assert (await tom.post(link, name="Tom"))[0] == 303
    assert (await ann.post(link, name="Ann"))[0] == 410
    assert (await ann.get(link))[0] == 410
    names = [o.name for o in await lab.read(lambda records: records.owners.page())]
    assert "Ann" not in names


async def test_looking_at_an_invitation_changes_nothing(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    jana, tom = browser(), browser()
    await jana.signs_in(Role.OWNER, "jana")
    link = await invited(jana)
    for _ in range(3):
        assert (await tom.get(link))[0] == 200
    assert [p.owner for p in await lab.read(lambda records: records.devices.people("car-1"))] == ["jana"]


async def test_a_link_that_nobody_made_is_gone(lab: Lab, browser: Any) -> None:
    assert (await browser().get("/join/no-such-secret"))[0] == 410


async def test_who_invites_cannot_take_it_up_themselves(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    jana = browser()
    await jana.signs_in(Role.OWNER, "jana")
    assert (await jana.get(await invited(jana)))[0] == 409


# --- leaving --------------------------------------------------------------------------------------


async def test_who_is_removed_sees_nothing_at_once(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("tom")
    operator = await lab.caller()
    answer = await operator("PUT", "devices/car-1/people/tom", {"role": "member", "may_answer": True})
    assert answer.status == 200
    matter = await lab.worn_pads("car-1", "jana")
    jana, tom = browser(), browser()
    await jana.signs_in(Role.OWNER, "jana")
    await tom.signs_in(Role.OWNER, "tom")
    for path in ("/me/products/car-1", "/me/products/car-1/people", f"/me/touchpoints/{matter.id}"):
        assert (await tom.get(path))[0] == 200, path
    assert matter.id in (await tom.get("/me"))[1]
    await jana.post("/me/products/car-1/people/tom/remove")
    for path in ("/me/products/car-1", "/me/products/car-1/people", f"/me/touchpoints/{matter.id}"):
        assert (await tom.get(path))[0] == 404, path
    assert matter.id not in (await tom.get("/me"))[1]
    caller = await lab.caller(Role.OWNER, "tom")
    assert (await caller("GET", "devices/car-1/readings?signal=speed")).status == 404
    assert (await caller("POST", f"touchpoints/{matter.id}/answer", {"action": "not_now"})).status == 404


async def test_who_may_only_look_is_refused_the_answer(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("tom")
    operator, tom = await lab.caller(), await lab.caller(Role.OWNER, "tom")
    await operator("PUT", "devices/car-1/people/tom", {"role": "member"})
    matter = await lab.worn_pads("car-1", "jana")
    assert (await tom("GET", f"touchpoints/{matter.id}")).status == 200
    assert (await tom("POST", f"touchpoints/{matter.id}/answer", {"action": "not_now"})).status == 403
    await operator("PUT", "devices/car-1/people/tom", {"role": "member", "may_answer": True})
    assert (await tom("POST", f"touchpoints/{matter.id}/answer", {"action": "not_now"})).status == 201


async def test_an_owner_decides_nothing_about_a_product_they_share(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("tom")
    await lab.owner("ann")
    operator, tom = await lab.caller(), await lab.caller(Role.OWNER, "tom")
    await operator("PUT", "devices/car-1/people/tom", {"role": "driver"})
    assert (await tom("PUT", "devices/car-1/people/tom", {"role": "driver", "asked": True})).status == 404
    assert (await tom("POST", "devices/car-1/invitations", {"name": "Ann"})).status == 404
    assert (await tom("DELETE", "devices/car-1/people/tom")).status == 204
    assert [p["owner"] for p in await operator.all("devices/car-1/people")] == ["jana"]


async def test_an_owner_adds_nobody_without_their_doing(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("tom")
    jana = await lab.caller(Role.OWNER, "jana")
    assert (await jana("PUT", "devices/car-1/people/tom", {"role": "member"})).status == 404
    invitation = await jana("POST", "devices/car-1/invitations", {"name": "Tom"})
    assert invitation.body["url"].startswith("http://127.0.0.1/join/")
    assert (await jana.all("devices/car-1/invitations"))[0]["url"] is None


# --- who looked -----------------------------------------------------------------------------------


async def test_a_workshop_that_opens_a_booking_stands_in_the_owners_ledger(lab: Lab, browser: Any) -> None:
    objects = await cast(lab)
    north = browser()
    await north.signs_in(Role.WORKSHOP, "north")
    assert (await north.get(f"/workshop?booking={objects['appointment_id']}"))[0] == 200
    told = [line for line in await story(lab, "jana") if "diagnosis" in line]
    assert any(line.startswith("Your workshop Autohaus Nord received the diagnosis for") for line in told)
    assert any(
        line.startswith("Your workshop Autohaus Nord looked at the diagnosis for")
        and "to prepare your visit" in line
        for line in told
    )


async def test_the_same_look_is_told_once_a_day(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    operator = browser()
    await operator.signs_in(Role.OPERATOR)

    async def looks() -> int:
        return sum("looked at your Arden 5" in line for line in await story(lab, "jana"))

    for _ in range(3):
        assert (await operator.get("/operator/devices/car-1"))[0] == 200
    assert await looks() == 1
    lab.clock.advance(lab.clock.now() + DAY // 2)
    await operator.get("/operator/devices/car-1")
    assert await looks() == 1
    lab.clock.advance(lab.clock.now() + DAY)
    await operator.get("/operator/devices/car-1")
    assert await looks() == 2


async def test_the_line_stands_before_the_page_is_answered(lab: Lab) -> None:
    """What cannot be told to the owner is not shown."""
    await lab.owner("jana", "car-1")
    operator = await lab.caller()
    written: list[str] = []
    write = lab.database.write

    async def refusing(work: Any) -> Any:
        written.append("tried")
        raise RuntimeError("the disk is full")

    lab.context.database.write = refusing  # type: ignore[method-assign]
    answer = await operator("GET", "devices/car-1")
    lab.context.database.write = write  # type: ignore[method-assign]
    assert (answer.status, written) == (500, ["tried"])
    assert "Arden" not in str(answer.body)
    assert (await operator("GET", "devices/car-1")).status == 200
    assert any("looked at your Arden 5" in line for line in await story(lab, "jana"))


async def test_every_reading_way_of_the_api_leaves_its_line(lab: Lab) -> None:
    objects = await cast(lab)
    crm = await lab.caller(Role.INTEGRATION)
    for path in (
        "owners/jana",
        "devices/car-1",
        "devices/car-1/readings?signal=speed",
        f"touchpoints/{objects['touchpoint_id']}",
        f"appointments/{objects['appointment_id']}",
        "touchpoints",
        "devices",
    ):
        await crm.get(path)
    looks = [one for one in await crm.all("owners/jana/looks") if one["role"] == "integration"]
    kinds = {one["what"].split(":")[0] for one in looks}
    assert {"owner", "product", "readings", "matter", "diagnosis", "matters", "products"} <= kinds


async def test_a_system_says_why_by_a_header(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    crm = await lab.caller(Role.INTEGRATION)
    await crm("GET", "devices/car-1", Access_Reason="monthly billing")
    assert any("for this reason: “monthly billing”" in line for line in await story(lab, "jana"))


async def test_an_operator_says_once_why_they_look(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    operator = browser()
    await operator.signs_in(Role.OPERATOR)
    page = (await operator.get("/operator/owners/jana"))[1]
    assert "Why are you looking?" in page
    assert (await operator.post("/operator/owners/jana/reason", why="phone"))[0] == 303
    page = (await operator.get("/operator/owners/jana"))[1]
    assert "Told to the owner: On the phone with the owner." in page
    await operator.get("/operator/devices/car-1")
    told = await story(lab, "jana")
    assert any(line.startswith("Customer service says why") for line in told)
    assert any(
        line.startswith("Customer service looked at your Arden 5") and line.endswith("on the phone with you.")
        for line in told
    )


async def test_owners_looking_at_their_own_leave_no_line(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    jana = browser()
    await jana.signs_in(Role.OWNER, "jana")
    for path in ("/me", "/me/products/car-1", "/me/you", "/me/ledger"):
        assert (await jana.get(path))[0] == 200
    assert not await lab.read(lambda records: records.people.looks("jana"))


# --- consent --------------------------------------------------------------------------------------


async def test_the_page_shows_what_each_is_for_what_ends_and_every_choice(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    matter = await lab.worn_pads("car-1", "jana")
    jana = browser()
    await jana.signs_in(Role.OWNER, "jana")
    await jana.post("/me/consents/maintenance", granted="")
    page = (await jana.get("/me/you"))[1]
    for said in (
        "Wartung",
        "Wenn Sie widerrufen:",
        "widerrufen am",
        "Diagnose für die Werkstatt",
        "Angebote",
    ):
        assert said in page, said
    state = await lab.read(lambda records: records.touchpoints.get(matter.id).state)
    assert state == "withdrawn"


async def test_a_workshop_is_shown_no_diagnosis_after_the_withdrawal(lab: Lab, browser: Any) -> None:
    objects = await cast(lab)
    north = await lab.caller(Role.WORKSHOP, "north")
    before = await north.get(f"appointments/{objects['appointment_id']}")
    assert "evidence" in before["diagnosis"]
    jana = await lab.caller(Role.OWNER, "jana")
    answer = await jana("PUT", "owners/jana/consents/maintenance", {"granted": False})
    assert answer.body["history"][0]["by"] == "jana"
    after = await north.get(f"appointments/{objects['appointment_id']}")
    assert "evidence" not in after["diagnosis"]
    assert (await north.all("appointments"))[0]["diagnosis"].keys() <= {"promised", "pays", "wishes"}
    page_of = browser()
    await page_of.signs_in(Role.WORKSHOP, "north")
    shown = (await page_of.get(f"/workshop?booking={objects['appointment_id']}"))[1]
    booking = re.search(r'<article class="booking".*?</article>', shown, re.DOTALL)
    assert booking is not None
    said = re.sub(r"<[^>]+>", " ", booking[0])
    assert "Front brakes" in said
    assert "81" not in said
    assert "Finding" not in said


async def test_the_api_refuses_to_withdraw_a_duty(lab: Lab) -> None:
    await lab.owner("jana")
    jana = await lab.caller(Role.OWNER, "jana")
    answer = await jana("PUT", "owners/jana/consents/recall", {"granted": False})
    assert answer.status == 422


def test_every_purpose_says_what_it_is_for_and_what_ends() -> None:
    from gateway.domain.purposes import PURPOSES

    for language in ("en", "de"):
        for purpose in PURPOSES:
            for part in ("label", "text", "ends"):
                key = f"pages.consent.{purpose}.{part}"
                assert TEXTS.say(language, key) != key, (language, key)


async def test_somebody_who_is_signed_in_takes_an_invitation_up_as_themselves(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("tom")
    jana, tom = browser(), browser()
    await jana.signs_in(Role.OWNER, "jana")
    await tom.signs_in(Role.OWNER, "tom")
    link = await invited(jana)
    assert "Sie sind angemeldet als Tom" in (await tom.get(link))[1]
    assert (await tom.post(link))[0] == 303
    members = await lab.read(lambda records: records.devices.people("car-1"))
    assert [p.owner for p in members] == ["jana", "tom"]
    page = (await tom.get("/me/you"))[1]
    assert "Was andere mit Ihnen teilen" in page
    assert (await tom.post("/me/products/car-1/people/tom/remove"))[1] == "/me/you?said=left"
    assert "Was andere mit Ihnen teilen" not in (await tom.get("/me/you"))[1]


async def test_an_owner_changes_who_is_asked_and_calls_an_invitation_back(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("tom")
    jana, operator = browser(), await lab.caller()
    await operator("PUT", "devices/car-1/people/tom", {"role": "member"})
    await jana.signs_in(Role.OWNER, "jana")
    matter = await lab.worn_pads("car-1", "jana")
    assert (await jana.post("/me/products/car-1/people/tom", role="driver", asked="1"))[0] == 303
    moved = await lab.read(lambda records: records.touchpoints.get(matter.id))
    assert moved.owner == "tom"
    link = await invited(jana)
    [open_one] = await (await lab.caller(Role.OWNER, "jana")).all("devices/car-1/invitations")
    page = (await jana.get("/me/products/car-1/people"))[1]
    assert "Tom ist eingeladen bis" in page
    assert (await jana.post(f"/me/products/car-1/invitations/{open_one['id']}/end"))[0] == 303
    assert (await browser().get(link))[0] == 410


async def test_muting_on_the_page_ends_what_waits_and_can_be_taken_back(lab: Lab, browser: Any) -> None:
    await lab.owner("jana", "car-1")
    matter = await lab.worn_pads("car-1", "jana")
    jana = browser()
    await jana.signs_in(Role.OWNER, "jana")
    assert (await jana.post("/me/mute", rule=matter.rule, muted="1"))[0] == 303
    assert (await lab.read(lambda records: records.touchpoints.get(matter.id))).state == "withdrawn"
    page = (await jana.get("/me/you"))[1]
    assert "Bleibt still, bis es ernster wird" in page
    assert (await jana.post("/me/mute", rule=matter.rule, muted=""))[0] == 303
    assert "Bleibt still, bis es ernster wird" not in (await jana.get("/me/you"))[1]


async def test_a_former_owner_keeps_their_own_time_and_sees_nothing_of_the_household_after(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("max")
    await lab.owner("tom")
    operator = await lab.caller()
    await operator("PUT", "devices/car-1/people/tom", {"role": "member"})
    before = await lab.worn_pads("car-1", "jana")
    lab.clock.advance(lab.clock.now() + 1_000)
    await operator("PUT", "devices/car-1/owner", {"owner": "max"})
    lab.clock.advance(lab.clock.now() + 1_000)
    after = await lab.worn_pads("car-1", "max")
    jana, tom = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.OWNER, "tom")
    assert (await jana("GET", f"touchpoints/{before.id}")).status == 200
    assert (await jana("GET", f"touchpoints/{after.id}")).status == 404
    for matter in (before, after):
        assert (await tom("GET", f"touchpoints/{matter.id}")).status == 404
    assert [p["owner"] for p in await operator.all("devices/car-1/people")] == ["max"]


async def test_how_many_messages_and_offers_a_week_is_set_on_a_page(lab: Lab, browser: Any) -> None:
    await lab.owner("jana")
    jana = browser()
    await jana.signs_in(Role.OWNER, "jana")
    _, page = await jana.get("/me/you?lang=en")
    assert 'name="weekly_budget"' in page
    assert 'name="marketing_budget"' in page
    status, there, _ = await jana.post("/me/budget", weekly_budget="4", marketing_budget="0")
    assert (status, there) == (303, "/me/you?said=saved")
    wanted = await lab.read(lambda records: records.owners.preferences("jana"))
    assert (wanted.weekly_budget, wanted.marketing_budget) == (4, 0)
    assert "you allow 4 service messages" in (await story(lab, "jana"))[-2]
    assert (await jana.post("/me/budget", weekly_budget="many"))[1] == "/me/you?said=conflict"


async def test_the_ledger_tells_one_system_and_one_desk_from_another(lab: Lab) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1")
    for role, name in ((Role.OPERATOR, "desk 3"), (Role.OPERATOR, "desk 4"), (Role.INTEGRATION, "crm")):
        caller = await lab.caller(role, name)
        assert (await caller.get("owners/jana"))["id"] == "jana"
    lines = await lab.read(lambda records: people.ledger(records, "jana", limit=500))
    looked = [line for line in lines if line.code == "looked"]
    assert [line.params["by"] for line in reversed(looked)] == [
        "operator:desk 3",
        "operator:desk 4",
        "integration:crm",
    ]
    told = await story(lab, "jana")
    assert any("Our system “crm” looked" in sentence for sentence in told)
    assert any(sentence.startswith("Customer service looked") for sentence in told)


async def test_a_name_gives_nobody_the_rights_or_the_traces_of_an_owner(lab: Lab) -> None:
    """An operator whose desk is called as an owner is: what they see and answer is noted all the same."""
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    matter = await lab.worn_pads("car-1", "jana")
    desk = await lab.caller(Role.OPERATOR, "jana")
    told = {"action": "not_now", "verified": {"asked": ["plate", "address"]}}
    answered = await desk("POST", f"touchpoints/{matter.id}/answer", told)
    assert (answered.body["answer"]["by"], answered.body["answer"]["channel"]) == (
        "operator:jana",
        "call_centre",
    )
    codes = [line.code for line in await lab.read(lambda r: people.ledger(r, "jana", limit=500))]
    assert "answered_for_you" in codes
    assert "looked" in codes


async def test_an_owners_answer_through_the_manufacturers_app_is_their_own(lab: Lab) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    matter = await lab.worn_pads("car-1", "jana")
    app = await lab.caller(Role.INTEGRATION, "app")
    body = {"action": "not_now", "through": "app"}
    answered = await app("POST", f"touchpoints/{matter.id}/answer", body)
    assert (answered.body["answer"]["by"], answered.body["answer"]["channel"]) == ("jana", "api")
    codes = [line.code for line in await lab.read(lambda r: people.ledger(r, "jana", limit=500))]
    assert "answered_for_you" not in codes
    assert "answered_in_app" in codes


@pytest.mark.parametrize("page", ["/operator/owners", "/operator/devices", "/operator/outbox", "outbox"])
async def test_a_list_that_names_an_owner_stands_in_their_ledger(lab: Lab, browser: Any, page: str) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    await lab.worn_pads("car-1", "jana")
    if page.startswith("/"):
        desk = browser()
        await desk.signs_in(Role.OPERATOR, "desk 3")
        status, text = await desk.get(page)
        assert (status, "jana" in text) == (200, True)
    else:
        caller = await lab.caller(Role.OPERATOR, "desk 3")
        assert "jana" in str(await caller.get(page))
    lines = await lab.read(lambda records: people.ledger(records, "jana", limit=500))
    assert "operator:desk 3" in [line.params["by"] for line in lines if line.code == "looked"]


async def test_who_looks_at_a_message_to_somebody_is_told_to_them(lab: Lab) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    await lab.worn_pads("car-1", "jana")
    desk = await lab.caller(Role.OPERATOR, "desk 3")
    rows = (await desk.get("outbox"))["items"]
    theirs = next(row for row in rows if row["owner"] == "jana")
    await desk.get(f"outbox/{theirs['id']}")
    assert any("looked at a message to you" in sentence for sentence in await story(lab, "jana"))


@pytest.mark.parametrize("page", ["/workshop", "/workshop/week", "/workshop/list"])
async def test_a_workshops_list_that_names_an_owner_stands_in_their_ledger(
    lab: Lab, browser: Any, page: str
) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    matter = await lab.worn_pads("car-1", "jana")
    jana = await lab.caller(Role.OWNER, "jana")
    slot = (await jana.get(f"touchpoints/{matter.id}"))["slots"][0]["id"]
    await jana("POST", f"touchpoints/{matter.id}/answer", {"action": "book", "slot": slot})
    bench = browser()
    await bench.signs_in(Role.WORKSHOP, "north")
    assert (await bench.get(page))[0] == 200
    lines = await lab.read(lambda records: people.ledger(records, "jana", limit=500))
    looked = [
        line.params["thing"] for line in lines if line.code == "looked" and line.params["by"] == "north"
    ]
    assert "visits" in looked
