"""The owner's pages over real stores: what is next, guides, ratings, what was begun, language and units."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar
from web_lab import DAY, HOUR, NOW, Lab, web_lab

import config
from gateway.domain.access import Role
from gateway.domain.appointment import Appointment, AppointmentState
from gateway.domain.feedback import AskState, Feedback
from gateway.domain.guides import parse
from gateway.domain.texts import Texts
from gateway.flow import begun
from gateway.web import answering
from gateway.web.words import Words

TEXTS = Texts({language: config.messages(language) for language in ("en", "de")})
OURS = {"Sec-Fetch-Site": "same-origin"}
GUIDES = """
- id: lane
  kind: car
  used: lane_keeping_uses
  title: {en: Lane keeping}
  text: {en: It steers back.}
  steps: {en: [Press the button.]}
  pieces: [{type: document, label: {en: Sheet}, file: sheet.txt}]
- id: tyres
  kind: car
  title: {en: Tyres}
  text: {en: Once a month.}
"""


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    (tmp_path / "sheet.txt").write_text("press it")
    guides = parse([("guides.yaml", str(tmp_path), GUIDES)])
    async with web_lab(tmp_path, texts=TEXTS, extras={"strict": True}, guides=guides) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        yield opened


class Browser:
    """Jana's browser, in English."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.session = ClientSession(cookie_jar=CookieJar(unsafe=True), cookies={"language": "en"})

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self._lab.client.make_url(path)) as response:
            return response.status, await response.text()

    async def post(self, path: str, **form: Any) -> tuple[int, str]:
        url = self._lab.client.make_url(path)
        async with self.session.post(url, data=form, headers=OURS, allow_redirects=False) as response:
            return response.status, response.headers.get("Location", "")


@pytest.fixture
async def jana(lab: Lab) -> AsyncIterator[Browser]:
    browser = Browser(lab)
    _, secret = await lab.token(Role.OWNER, "jana")
    assert (await browser.post("/sign-in", token=secret))[0] == 303
    yield browser
    await browser.session.close()


async def test_what_was_not_used_yet_comes_first_and_its_document_is_served(lab: Lab, jana: Browser) -> None:
    _, page = await jana.get("/me/products/car-1")
    assert "Not used yet" not in page, "the product has not said so"
    facts = await lab.read(lambda r: r.devices.facts("car-1"))
    latest = {**facts.latest, "lane_keeping_uses": (NOW, 0.0)}

    def say(records: Any) -> None:
        records.devices.put_facts([type(facts)(device="car-1", last_seen=NOW, latest=latest)])

    await lab.write(say)
    _, page = await jana.get("/me/products/car-1")
    assert page.index("Not used yet") < page.index("Lane keeping") < page.index("How it works")
    assert await jana.get("/me/products/car-1/guides/lane/0") == (200, "press it")
    assert (await jana.get("/me/products/car-1/guides/lane/1"))[0] == 404
    assert (await jana.get("/me/products/car-2/guides/lane/0"))[0] == 404


async def test_a_choice_begun_on_the_page_is_known_to_the_call_centre(lab: Lab, jana: Browser) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    base = f"/me/touchpoints/{matter.id}"
    assert (await jana.post(f"{base}/begun?step=times"))[0] == 204
    assert (await jana.post(f"{base}/begun?step=times"))[0] == 204
    _, inbox = await jana.get("/me")
    assert "You began to choose another time on the page" in inbox
    assert f'href="{base}/times"' in inbox
    lines = await lab.read(lambda r: r.touchpoints.ledger(touchpoint=matter.id))
    assert [line.code for line in lines].count("choosing_times") == 1, "said once"
    stopped = await lab.read(lambda r: begun.begun(r, r.touchpoints.get(matter.id), NOW))
    assert (stopped.step, stopped.channel) == ("times", "page")
    operator = Browser(lab)
    _, secret = await lab.token(Role.OPERATOR)
    await operator.post("/sign-in", token=secret)
    _, desk = await operator.get(f"/operator/touchpoints/{matter.id}")
    assert "You began to choose another time" in desk
    await operator.session.close()
    await jana.post(f"{base}/answer", action="not_now")
    assert await lab.read(lambda r: begun.begun(r, r.touchpoints.get(matter.id), NOW)) is None
    later = NOW + begun.KEPT_MS
    assert await lab.read(lambda r: begun.begun(r, matter, later)) is None, "forgotten after a day"


async def test_a_choice_begun_on_the_display_is_gone_on_with_on_the_phone(lab: Lab, jana: Browser) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    tapped = {"touchpoint": matter.id, "action": "other_time"}
    assert (await jana.post("/display/car-1/answer", **tapped))[0] == 303
    _, inbox = await jana.get("/me")
    assert "You began to choose another time on the display" in inbox


async def test_ratings_come_from_finished_jobs_and_a_handful_says_nothing(lab: Lab, jana: Browser) -> None:
    matter = await lab.worn_pads("car-1", "jana")

    def rate(records: Any, number: int, state: AppointmentState) -> None:
        visit = Appointment(
            id=f"v{number}",
            workshop="north",
            bay=0,
            service="brakes-front",
            state=state,
            start=NOW + number * HOUR,
            end=NOW + number * HOUR + HOUR,
            touchpoint=f"t{number}",
            created=NOW,
        )
        told = Feedback(
            id=f"f{number}",
            touchpoint=f"t{number}",
            owner="jana",
            question="csat",
            asked_at=NOW - DAY,
            score=4 if number % 2 else 5,
            answered_at=NOW,
            state=AskState.ASKED,
        )
        twin = records.touchpoints.get(matter.id)
        records.touchpoints.add(replace(twin, id=f"t{number}"))
        records.workshops.book(visit)
        records.feedback.ask(told)

    words = Words(TEXTS, "en")
    for number in range(answering.RATED_LEAST):
        rated = await lab.read(lambda r: r.feedback.ratings("csat", NOW - 2 * DAY))
        assert answering.rating(rated.get("north"), words) == "Too few ratings yet"
        await lab.write(lambda r, n=number: rate(r, n, AppointmentState.DONE))
    await lab.write(lambda r: rate(r, 9, AppointmentState.CONFIRMED))
    rated = await lab.read(lambda r: r.feedback.ratings("csat", NOW - 2 * DAY))
    assert rated["north"][0] == answering.RATED_LEAST, "what is not finished is not counted"
    assert answering.rating(rated["north"], words) == "4.6 of 5 from 5 finished jobs"
    _, page = await jana.get(f"/me/touchpoints/{matter.id}/workshops")
    assert "4.6 of 5 from 5 finished jobs" in page
    assert await lab.read(lambda r: r.feedback.ratings("csat", NOW)) == {}


async def test_language_and_units_hold_for_messages_too(lab: Lab, jana: Browser) -> None:
    await lab.measured("car-1", "odometer", (NOW, 48_210.0))
    assert await jana.post("/me/language", language="de", units="us") == (303, "/me/you?said=saved")
    assert (await lab.read(lambda r: r.owners.get("jana"))).language == "de-US"
    _, page = await jana.get("/me/you")
    assert '<option value="us" selected>Meilen, °F, psi' in page
    assert await jana.post("/me/language", language="tlh", units="us") == (303, "/me/you?said=conflict")


async def test_who_says_no_to_notifications_is_not_asked_again(lab: Lab, jana: Browser) -> None:
    lab.context.vapid_public_key = "B" * 87
    _, page = await jana.get("/me")
    assert "Would you like to hear when one of your products needs something?" in page
    assert "Without notifications everything stands here" in page
    assert await jana.post("/me/notify/later", next="/me") == (303, "/me")
    assert 'id="notify"' not in (await jana.get("/me"))[1]
    await lab.worn_pads("car-1", "jana")


async def test_nothing_is_asked_beside_a_decision(lab: Lab, jana: Browser) -> None:
    lab.context.vapid_public_key = "B" * 87
    await lab.worn_pads("car-1", "jana")
    assert 'id="notify"' not in (await jana.get("/me"))[1]


async def test_a_product_says_what_is_next_and_what_was_decided(lab: Lab, jana: Browser) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    _, page = await jana.get("/me/products/car-1")
    assert "Waits for you" in page
    assert f"/me/touchpoints/{matter.id}" in page
    await jana.post(f"/me/touchpoints/{matter.id}/answer", action="book", slot=matter.slots[0].id)
    _, page = await jana.get("/me/products/car-1")
    assert "/me/visits/" in page.split("Next service", 1)[1].split("History", 1)[0]
    _, ledger = await jana.get("/me/ledger?device=car-1")
    assert "Found at" in ledger
    assert (await jana.get("/me/ledger?device=car-9"))[0] == 404
