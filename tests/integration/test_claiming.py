"""A product goes to its new owner by the code on its display: pages and API over real stores."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar
from web_lab import DAY, NOW, Lab, web_lab

import config
from gateway.domain.access import Role
from gateway.domain.appointment import Workshop
from gateway.domain.errors import NotFoundError
from gateway.domain.owner import Preferences
from gateway.domain.texts import Texts
from gateway.domain.touchpoint import State
from gateway.flow import agree, claiming
from gateway.flow.claim_words import ABOUT, render, spaced

TEXTS = Texts({language: config.messages(language) for language in ("en", "de")})
OURS = {"Sec-Fetch-Site": "same-origin"}
CODE = re.compile(r"[B-Z]{4}-[B-Z]{4}")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, texts=TEXTS, extras={"strict": True}) as opened:
        await opened.workshop()
        await opened.workshop(Workshop(id="south", name="Süd"))
        await opened.owner("jana", "car-1", workshop="north")
        await opened.owner("max", "car-7", workshop="south")
        yield opened


class Browser:
    """A browser of somebody's own."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.session = ClientSession(cookie_jar=CookieJar(unsafe=True))

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self._lab.client.make_url(path)) as response:
            return response.status, await response.text()

    async def post(self, path: str, **form: Any) -> tuple[int, str, str]:
        url = self._lab.client.make_url(path)
        async with self.session.post(url, data=form, headers=OURS, allow_redirects=False) as response:
            return response.status, response.headers.get("Location", ""), await response.text()


@pytest.fixture
async def visitor(lab: Lab) -> AsyncIterator[Any]:
    opened: list[Browser] = []

    async def one(owner: str | None) -> Browser:
        browser = Browser(lab)
        opened.append(browser)
        if owner:
            _, secret = await lab.token(Role.OWNER, owner)
            assert (await browser.post("/sign-in", token=secret))[0] == 303
        return browser

    yield one
    for each in opened:
        await each.session.close()


async def shown(lab: Lab, device: str) -> list[Any]:
    """What the display was told, oldest first."""

    def work(records: Any) -> list[Any]:
        due = records.outbox.claim(lab.clock.now(), lease_ms=1, limit=100, channels=["display"])
        rows = [row for row in due if row.payload.get("about") == ABOUT and row.target == device]
        return [render(records, row, TEXTS, "https://gw.example").payload["show"] for row in rows]

    return await lab.write(work)


async def test_a_product_is_handed_on_by_the_code_on_its_display(lab: Lab, visitor: Any) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    jana, max_ = await visitor("jana"), await visitor("max")
    assert (await jana.post("/me/products/car-1/move"))[1] == "/me/products/car-1/move?said=offered"
    _, page = await jana.get("/me/products/car-1/move")
    code = CODE.findall(page)[0]
    [display] = await shown(lab, "car-1")
    assert (display["code"], display["actions"]) == (code, [])
    assert code in display["body"]
    assert "gw.example/claim" in display["body"]

    status, _, asked = await max_.post("/claim", code=code.lower())
    assert status == 200
    assert 'value="south" selected' in asked, "it begins with the workshop of his other car"
    status, where, _ = await max_.post("/claim", code=code, take="1", agree="maintenance", plate="M-AX 1")
    assert (status, where) == (303, "/me/products/car-1?said=claimed")
    device = await lab.read(lambda r: r.devices.get("car-1"))
    assert (device.owner, device.workshop, device.plate) == ("max", "south", "M-AX 1")
    assert await lab.read(lambda r: r.owners.granted("max", "maintenance"))
    assert (await lab.read(lambda r: r.touchpoints.get(matter.id))).state is State.WITHDRAWN
    assert (await jana.get("/me/products/car-1"))[0] == 404
    assert await shown(lab, "car-1") == [None], "the display forgets the code"
    assert (await max_.post("/claim", code=code))[0] == 422, "a code is used once"


async def test_consents_are_asked_once_for_all_products(lab: Lab, visitor: Any) -> None:
    proof = await lab.write(lambda r: claiming.offer(r, "car-1", NOW, by="jana"))
    max_ = await visitor("max")
    _, _, asked = await max_.post("/claim", code=proof.data["code"])
    assert 'name="agree"' in asked
    await max_.post("/claim", code=proof.data["code"], take="1")
    await lab.owner("lisa", "car-9")
    again = await lab.write(lambda r: claiming.offer(r, "car-9", NOW, by="lisa"))
    _, _, asked = await max_.post("/claim", code=again.data["code"])
    assert 'name="agree"' not in asked
    assert "Ihre Einwilligungen gelten" in asked


async def test_quiet_hours_hold_for_what_is_taken_over(lab: Lab, visitor: Any) -> None:
    wishes = Preferences(quiet_from="20:15", quiet_to="08:30")
    by = agree.By(name="max", source="owner")
    await lab.write(lambda r: agree.prefer(r, "max", wishes, by, NOW, lab.context.policy))
    proof = await lab.write(lambda r: claiming.offer(r, "car-1", NOW, by="jana"))
    _, _, asked = await (await visitor("max")).post("/claim", code=proof.data["code"])
    assert "20:15" in asked
    assert "08:30" in asked


async def test_somebody_new_is_signed_in_with_the_code(lab: Lab, visitor: Any) -> None:
    proof = await lab.write(lambda r: claiming.offer(r, "car-1", NOW, by="jana"))
    stranger = await visitor(None)
    assert (await stranger.post("/claim", code=proof.data["code"], take="1"))[0] == 422, "a name is needed"
    status, where, _ = await stranger.post("/claim", code=proof.data["code"], take="1", name="Tom Berg")
    assert (status, where) == (303, "/me/products/car-1?said=claimed")
    assert (await stranger.get("/me/products/car-1"))[0] == 200


async def test_who_calls_the_code_back_keeps_the_product(lab: Lab, visitor: Any) -> None:
    jana = await visitor("jana")
    await jana.post("/me/products/car-1/move")
    code = CODE.findall((await jana.get("/me/products/car-1/move"))[1])[0]
    assert (await jana.post("/me/products/car-1/move/end"))[0] == 303
    assert (await (await visitor("max")).post("/claim", code=code))[0] == 422
    assert (await lab.read(lambda r: r.devices.get("car-1"))).owner == "jana"
    codes = [line.code for line in await lab.read(lambda r: r.touchpoints.ledger(owner="jana", limit=20))]
    assert {"offered", "offer_ended"} <= set(codes)


async def test_who_does_not_have_it_any_more_lets_it_go_at_once(lab: Lab, visitor: Any) -> None:
    jana = await visitor("jana")
    assert (await jana.post("/me/products/car-1/move/gone"))[1] == "/me/products?said=let_go"
    device = await lab.read(lambda r: r.devices.get("car-1"))
    assert (device.owner, device.plate) == (None, None)
    [display] = await shown(lab, "car-1")
    status, _, _ = await (await visitor("max")).post("/claim", code=display["code"], take="1")
    assert status == 303
    assert (await lab.read(lambda r: r.devices.get("car-1"))).owner == "max"


async def test_nobody_hands_on_what_is_not_theirs(lab: Lab, visitor: Any) -> None:
    max_ = await visitor("max")
    for path in ("move", "move/end", "move/gone"):
        assert (await max_.post(f"/me/products/car-1/{path}"))[0] == 404
    assert (await max_.get("/me/products/car-1/move"))[0] == 404
    caller = await lab.caller(Role.OWNER, "max")
    assert (await caller("POST", "devices/car-1/handover")).status == 404
    assert (await caller("POST", "owners/jana/claims", {"code": "BCDF-GHJK"})).status == 404


async def test_codes_cannot_be_guessed(lab: Lab, visitor: Any) -> None:
    proof = await lab.write(lambda r: claiming.offer(r, "car-1", NOW, by="jana"))
    max_ = await visitor("max")
    for _ in range(claiming.TRIES):
        assert (await max_.post("/claim", code="BBBB-BBBB"))[0] == 422
    _, _, told = await max_.post("/claim", code=proof.data["code"])
    assert "In einer Stunde geht es wieder" in told


async def test_a_code_ends_by_itself(lab: Lab) -> None:
    proof = await lab.write(lambda r: claiming.offer(r, "car-1", NOW, by="jana"))
    lab.clock.advance(proof.expires)
    caller = await lab.caller(Role.OWNER, "max")
    answer = await caller("POST", "owners/max/claims", {"code": proof.data["code"]})
    assert answer.status == 410
    assert await lab.read(lambda r: claiming.waiting(r, "car-1", lab.clock.now())) is None


async def test_an_app_hands_on_and_takes_over(lab: Lab) -> None:
    jana, max_ = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.OWNER, "max")
    assert (await jana("GET", "devices/car-1/handover")).status == 404
    made = await jana("POST", "devices/car-1/handover")
    assert made.status == 201
    assert (await jana.get("devices/car-1/handover"))["code"] == made.body["code"]
    taken = await max_("POST", "owners/max/claims", {"code": made.body["code"], "workshop": "north"})
    assert (taken.status, taken.body["owner"], taken.body["workshop"]) == (201, "max", "north")
    again = await jana("POST", "devices/car-1/handover")
    assert again.status == 404
    assert (await max_("DELETE", "devices/car-1/handover")).status == 204


async def test_a_new_owner_sees_nothing_of_the_time_before(lab: Lab, visitor: Any) -> None:
    await lab.measured("car-1", "odometer", (NOW - DAY, 48_210.0))
    proof = await lab.write(lambda r: claiming.offer(r, "car-1", NOW, by="jana"))
    await lab.write(lambda r: claiming.claim(r, proof.data["code"], "max", NOW, lab.context.policy))
    _, page = await (await visitor("max")).get("/me/products/car-1")
    assert "48,210" not in page
    with pytest.raises(NotFoundError):
        await lab.read(lambda r: claiming.behind(r, proof.data["code"], NOW))


async def test_the_products_own_page_shows_the_code_until_it_is_typed(lab: Lab, visitor: Any) -> None:
    await lab.worn_pads("car-1", "jana")
    jana = await visitor("jana")
    proof = await lab.write(lambda r: claiming.offer(r, "car-1", NOW, by="jana"))
    _, page = await jana.get("/car/car-1")
    assert spaced(proof.data["code"]) in page
    await lab.write(lambda r: claiming.call_back(r, "car-1", NOW, by="jana"))
    _, page = await jana.get("/car/car-1")
    assert spaced(proof.data["code"]) not in page
    assert 'class="slot"' in page
