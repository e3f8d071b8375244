"""The conversation on the pages: the owner asks, an agent answers, and what was answered is taken back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from web_lab import Lab, web_lab

import config
from gateway.domain.access import Role
from gateway.domain.texts import Texts

TEXTS = Texts({language: config.messages(language) for language in ("en", "de")})
OURS = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, texts=TEXTS, extras={"strict": True}) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        yield opened


class Browser:
    """Somebody's browser, signed in by their session."""

    def __init__(self, lab: Lab, role: Role, secret: str) -> None:
        self.lab = lab
        self.cookies = {f"session-{role}": secret}

    async def get(self, path: str) -> str:
        async with self.lab.client.get(path, cookies=self.cookies) as page:
            assert page.status == 200, (path, await page.text())
            return await page.text()

    async def post(self, path: str, **fields: str) -> str:
        async with self.lab.client.post(path, data=fields, cookies=self.cookies, headers=OURS) as page:
            assert page.status == 200, (path, await page.text())
            return await page.text()


async def browser(lab: Lab, role: Role, subject: str) -> Browser:
    _, secret = await lab.token(role, subject)
    return Browser(lab, role, secret)


async def test_owner_and_agent_talk_and_what_was_answered_is_taken_back(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    jana, ben = await browser(lab, Role.OWNER, "jana"), await browser(lab, Role.OPERATOR, "Ben")
    mine, desk = f"/me/touchpoints/{matter.id}/talk", f"/operator/touchpoints/{matter.id}/talk"
    assert mine in await jana.get(f"/me/touchpoints/{matter.id}")
    assert 'name="phone"' in await jana.get(mine)
    assert "Ben" in await ben.post("/operator/desk", here="1")
    assert 'name="text"' in await jana.get(mine)
    await jana.post(mine, text="Ist es dringend?")
    assert desk in await ben.get("/operator/desk")
    assert "Ist es dringend?" in await ben.post(desk, text="Drei Wochen haben Sie Zeit.")
    assert "Drei Wochen haben Sie Zeit." in await jana.get(mine)
    answered = await ben.post(f"{desk}/answer", action="noted")
    assert "undo" not in answered
    page = await jana.get(mine)
    assert f"{mine}/undo" in page
    assert "Noch nichts" not in await jana.post(f"{mine}/undo")
    assert f"{mine}/undo" not in await jana.get(mine)


async def test_a_caller_is_verified_by_the_code_on_their_page(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    jana, ben = await browser(lab, Role.OWNER, "jana"), await browser(lab, Role.OPERATOR, "Ben")
    mine, desk = f"/me/touchpoints/{matter.id}/talk", f"/operator/touchpoints/{matter.id}/talk"
    assert "/answer" not in await ben.get(desk)
    page = await jana.post(f"{mine}/code")
    code = page.split('class="code big">')[1].split("<")[0].replace(" ", "")
    wrong = f"{(int(code) + 1) % 10**6:06}"
    assert "/answer" not in await ben.post(f"{desk}/verify", code=wrong)
    assert f"{desk}/answer" in await ben.post(f"{desk}/verify", code=code)


async def test_a_call_is_promised_and_stands_at_the_desk(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    jana, ben = await browser(lab, Role.OWNER, "jana"), await browser(lab, Role.OPERATOR, "Ben")
    await jana.post(f"/me/touchpoints/{matter.id}/talk/callback", phone="040 555")
    assert "040 555" in await ben.get("/operator/desk")


async def test_a_parked_car_asks_to_talk_and_a_moving_one_does_not(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    jana, ben = await browser(lab, Role.OWNER, "jana"), await browser(lab, Role.OPERATOR, "Ben")
    assert "/display/car-1/talk" not in await jana.get("/car/car-1")
    await ben.post("/operator/desk", here="1")
    assert "/display/car-1/talk" in await jana.get("/car/car-1")
    await jana.post("/display/car-1/talk", touchpoint=matter.id)
    talk = await lab.read(lambda r: r.conversations.get(matter.id))
    assert (talk.waiting_since is not None, talk.verified_at) == (True, None)
