"""The demo's story in a real browser: from the push to the answer to the one question."""

import re
import time
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import pytest
from browser_lab import WIDTHS, Watch, opened, too_wide
from playwright.sync_api import Browser, BrowserContext, Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

VISIT = datetime(2026, 12, 3, 17, 30)  # noqa: DTZ001  # the clock on the page is the owner's
SLOWEST, FASTEST = 240, 61_440
"""Played seconds a second."""
NEARER_S = 2.0
"""So many seconds would what is left take at the pace that is set: a late look then costs a part of it."""


@dataclass(frozen=True)
class Faces:
    """The demo's faces, one page each, as a visitor has them side by side."""

    start: Page
    phone: Page
    car: Page
    workshop: Page
    operator: Page

    def pace(self, pace: str) -> None:
        """What the clock's buttons do, for any pace."""
        self.start.evaluate(
            """pace => fetch('/demo/pace', {method: 'POST', body: new URLSearchParams({pace})})
            .then(answer => answer.text())""",
            pace,
        )

    def clock(self) -> datetime:
        """Day and time of the story, as the start page shows them."""
        shown = self.start.locator(".pace .now").inner_text()
        time_of_day, day = re.search(r"(\d+:\d\d:\d\d)\s+\w+ (\d+ \w+)", shown).groups()  # type: ignore[union-attr]
        return datetime.strptime(f"2026 {day} {time_of_day}", "%Y %d %b %H:%M:%S")  # noqa: DTZ007


def open_faces(context: BrowserContext, address: str) -> Faces:
    """All faces; the first page opens the doors for the others."""

    def open_page(path: str, width: int, height: int) -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.goto(address + path)
        page.evaluate("window.neverReloaded = true")
        return page

    return Faces(
        start=open_page("/", 1440, 900),
        phone=open_page("/me", 390, 844),
        car=open_page("/car/car-keller", 1280, 480),
        workshop=open_page("/workshop", 1440, 900),
        operator=open_page("/operator", 1440, 900),
    )


def play_to(faces: Faces, moment: datetime, seconds: float = 360) -> None:
    """Play to a moment of the story, slower the nearer it is; only the clock on the page announces it."""
    last, set_to = time.monotonic() + seconds, 0
    while (left := (moment - faces.clock()).total_seconds()) > 0:
        assert time.monotonic() < last, f"the story never reached {moment}: {faces.clock()}"
        pace = SLOWEST
        while pace < FASTEST and pace * 2 * NEARER_S < left:
            pace *= 2
        if pace != set_to:
            faces.pace(str(pace))
            set_to = pace
        faces.start.wait_for_timeout(50)


def fits(page: Page) -> None:
    """No horizontal scrolling at any width that people have."""
    before = page.viewport_size
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert not too_wide(page), f"{page.url} scrolls to the side at {width} px"
    if before is not None:
        page.set_viewport_size(before)


def test_one_answer_goes_the_whole_way_and_is_seen_on_every_face(demo: str, browser: Browser) -> None:
    context = opened(browser, locale="en-GB", timezone_id="Europe/Berlin")
    watch = Watch(urlsplit(demo).netloc)
    watch.over(context)
    faces = open_faces(context, demo)

    # The push comes at the right moment, and says what it is.
    push = faces.phone.locator("[data-push]")
    expect(push).to_contain_text("loopback")
    expect(push).to_contain_text("Bremsbeläge")  # as it was sent, in the owner’s language
    expect(faces.car.locator(".slot")).to_have_count(2)
    for page in (faces.start, faces.phone, faces.workshop, faces.operator):
        fits(page)

    # Opened, it shows the evidence, holds the times, and tells how it was decided.
    push.locator("a").click()
    expect(faces.phone.locator("figure.signal svg.chart").first).to_be_attached()
    expect(faces.phone.locator(".slot").first).to_contain_text("held until")
    expect(faces.phone.locator(".timeline")).to_contain_text("your quiet hours end at 7:00")
    expect(faces.phone.locator(".timeline")).to_contain_text("was being driven")
    fits(faces.phone)

    # One tap books.
    faces.phone.get_by_role("button", name=re.compile("Thursday.*17:30")).click()
    expect(faces.phone.locator(".toast")).to_contain_text("Booked")  # first, for it stands nine seconds only
    expect(faces.phone.locator(".when-big")).to_contain_text("Thursday")
    expect(faces.phone.locator(".when-big")).to_contain_text("17:30")
    fits(faces.phone)

    # The workshop has it at once, with the diagnosis; the car asks no more.
    booking = faces.workshop.locator(".booking")
    expect(booking).to_contain_text("Jana Keller")
    expect(booking).to_contain_text("mm left")
    expect(booking).to_contain_text("180–220")
    expect(booking.locator("svg.chart").first).to_be_attached()
    expect(faces.workshop.locator(".block.selected").first).to_contain_text("17:30")
    expect(faces.car.locator(".slot")).to_have_count(0)
    expect(faces.car.locator("h1")).to_contain_text("17:30")
    expect(faces.start.locator(".steps [aria-current]")).to_contain_text("Booked")
    fits(faces.workshop)
    faces.start.locator('.paces button[value="600"]').click()
    expect(faces.start.locator('.paces button[value="600"]')).to_have_attribute("aria-pressed", "true")

    # On the day the workshop says that it is done.
    play_to(faces, VISIT)
    faces.pace("60")
    booking.get_by_role("button", name="Done").click()
    expect(faces.workshop.locator(".toast")).to_contain_text("Done")
    expect(booking).to_contain_text("Done")

    # Later the owner is asked one question.
    faces.pace("story")
    question = faces.phone.locator("article", has_text="How was your visit")
    faces.phone.goto(f"{demo}/me")
    expect(question).to_be_visible()
    question.get_by_role("button", name="5 of 5").click()
    expect(faces.phone.locator("main")).to_contain_text("You gave 5 of 5")
    expect(faces.operator.locator("main")).to_contain_text(re.compile(r"\d\.\d of 5, between"))

    for page in (faces.start, faces.workshop, faces.operator, faces.car):
        assert page.evaluate("window.neverReloaded"), f"{page.url} was reloaded instead of brought up to date"
    assert watch.wrong == []
    context.close()
