"""The stories of product, workshop and after-sales in a real browser, by keyboard alone, on one demo.

Each page is looked at on a phone, a tablet and a desk, light and dark, in German and English: none scrolls to
the side. Pictures of all are kept where TOUCHPOINT_TEST_PICTURES says.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from browser_lab import WIDTHS, Watch, axe_faults, opened, told_in, too_wide
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SMALLEST = """least => [...document.querySelectorAll('main button, main a.btn')]
    .map(e => [e, e.getBoundingClientRect()]).filter(([e, box]) => box.height && box.height < least - 0.5)
    .map(([e, box]) => `${e.textContent.trim()} ${box.height}`)"""
SMALL_TEXT = """least => [...document.querySelectorAll('main *')]
    .filter(e => e.checkVisibility() && !e.closest('.sr, svg')
        && [...e.childNodes].some(node => node.nodeType === 3 && node.nodeValue.trim()))
    .filter(e => parseFloat(getComputedStyle(e).fontSize) < least).map(e => e.textContent.trim())"""
FITS = (
    "(({scrollHeight: h, scrollWidth: w}) => h <= innerHeight && w <= innerWidth)(document.documentElement)"
)

Scheme = Literal["light", "dark"]


@dataclass
class Visitor:
    """Somebody with a browser in one language and theme."""

    address: str
    page: Page
    language: str
    scheme: Scheme
    watch: Watch

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)

    def acts(self, path: str, **form: str) -> None:
        """What a button of the demo's page does, from any page."""
        self.page.evaluate(
            """([path, form]) => fetch(path, {method: 'POST', body: new URLSearchParams(form)})
            .then(answer => answer.text())""",
            [path, form],
        )

    def sized(self, width: int, height: int = 900) -> None:
        self.page.set_viewport_size({"width": width, "height": height})

    def keeps(self, name: str) -> None:
        """A picture of the page as it is."""
        folder = os.environ.get("TOUCHPOINT_TEST_PICTURES")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            width = self.page.evaluate("innerWidth")
            file = f"face-{name}-{width}-{self.language}-{self.scheme}.png"
            self.page.screenshot(path=Path(folder) / file, full_page=True)

    def looks(self, name: str) -> None:
        """At a page in all widths; axe looks at all pages in test_every_page.py."""
        for width in WIDTHS:
            self.sized(width)
            assert not too_wide(self.page), f"{name} scrolls to the side at {width} px"
            self.keeps(name)

    def shows_large(self, name: str, width: int, height: int, *, target: int, text: int) -> None:
        """A display: all at once, big targets, nothing to type."""
        self.sized(width, height)
        assert self.page.evaluate(FITS), f"{name} scrolls on {width} × {height}"
        assert self.page.evaluate(SMALLEST, target) == [], f"{name} on {width} × {height}"
        assert self.page.evaluate(SMALL_TEXT, text) == [], f"{name} on {width} × {height}"
        assert self.page.locator("main :is(input:not([type=hidden]), textarea, select)").count() == 0
        self.keeps(name)

    def tabs_to(self, wanted: Locator) -> None:
        """There by the Tab key alone."""
        expect(wanted).to_be_visible()
        for _ in range(120):
            if wanted.evaluate("e => e === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"not reached by keyboard: {wanted}")

    def presses(self, wanted: Locator) -> None:
        self.tabs_to(wanted)
        self.page.keyboard.press("Enter")


def visit(browser: Browser, address: str, language: str, scheme: Scheme) -> tuple[BrowserContext, Visitor]:
    """A browser of one's own; the first page opens all doors."""
    context = opened(
        browser,
        locale={"de": "de-DE", "en": "en-GB"}[language],
        timezone_id="Europe/Berlin",
        color_scheme=scheme,
        reduced_motion="reduce",
        bypass_csp=True,  # axe runs as a script of the page
    )
    watch = Watch(urlsplit(address).netloc)
    watch.over(context)
    visitor = Visitor(address, context.new_page(), language, scheme, watch)
    visitor.go("/")
    return context, visitor


@pytest.fixture(params=told_in(("de", "light"), ("en", "dark"), first=1), ids=" ".join)
def visitor(request: pytest.FixtureRequest, shared_demo: str, browser: Browser) -> Iterator[Visitor]:
    context, made = visit(browser, shared_demo, *request.param)
    yield made
    context.close()
    assert made.watch.wrong == []


def test_one_story_by_keyboard_from_the_car_to_the_workshop(shared_demo: str, browser: Browser) -> None:
    context, her = visit(browser, shared_demo, "en", "light")
    page = her.page
    # Parked, the car asks: all at once, in large.
    her.go("/car/car-keller")
    expect(page.locator(".slot")).to_have_count(2)
    her.acts("/demo/pace", pace="1")
    for height in (480, 800):
        her.shows_large("car", 1280, height, target=76, text=20)
    assert axe_faults(page) == []
    # A pump breaks on the other product: its small panel asks, too.
    her.acts("/demo/act", action="break_pump")
    her.acts("/demo/pace", pace="60")
    her.go("/panel/washer-keller")
    expect(page.locator(".display-body")).to_be_visible()
    her.acts("/demo/pace", pace="1")
    for width, height in ((480, 320), (320, 480), (320, 240), (240, 320)):
        her.shows_large("panel", width, height, target=56, text=14)
    assert axe_faults(page) == []
    # One key takes Thursday; the display says so, and the workshop has it with its diagnosis.
    her.go("/car/car-keller")
    her.sized(1280, 480)
    her.presses(page.get_by_role("button", name=re.compile("Thursday")))
    expect(page.locator("h1")).to_contain_text("17:30")
    her.sized(1440)
    her.go("/workshop/list")
    her.presses(page.get_by_role("link", name=re.compile("Thu,? 3")))
    booking = page.locator(".booking")
    expect(booking).to_contain_text("Jana Keller")
    expect(booking.locator("svg.chart").first).to_be_attached()
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) == 1  # it prints on one page
    # Another time is proposed, and the workshop waits for the owner's word.
    her.presses(booking.get_by_role("link", name="Other time"))
    her.presses(page.locator("main .buttons button").first)
    expect(page.locator(".toast")).to_be_visible()
    assert her.watch.wrong == []
    context.close()


WORKSHOP = ("/workshop", "/workshop/week", "/workshop/list", "/workshop/services", "/workshop/walk-in")


def test_the_workshop_has_its_day_on_every_screen(visitor: Visitor) -> None:
    for path in WORKSHOP:
        visitor.go(path)
        visitor.looks(path.strip("/").replace("/", "-"))
    visitor.go("/workshop")
    visitor.sized(360)
    expect(visitor.page.locator(".agenda .block").first).to_be_visible()
    expect(visitor.page.locator(".cal")).to_be_hidden()
    visitor.sized(1440)
    expect(visitor.page.locator(".cal")).to_be_visible()
    assert not re.search(r"\d{4}-\d\d-\d\d", visitor.page.locator("main").inner_text())


def test_after_sales_sees_what_is_wrong_and_goes_down_to_it(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/operator")
    expect(page.locator(".path .cells").first.locator("li")).to_have_count(8)
    visitor.looks("operator")
    nav = page.locator(".top nav")
    assert nav.evaluate("e => e.scrollWidth <= e.clientWidth"), "the pages’ names are cut off"
    visitor.presses(page.locator("main a[href^='/operator/clusters/products']").first)
    expect(page.locator("main td a[href^='/operator/devices/']").first).to_be_visible()
    visitor.looks("cluster")
    visitor.presses(page.locator("main td a[href='/operator/devices/car-keller']").first)
    expect(page.locator("figure.signal svg.chart").first).to_be_attached()
    visitor.go("/operator/feedback")
    visitor.looks("feedback")
    visitor.go("/operator/owners/jana-keller")
    expect(page.locator(".story")).to_contain_text("7:34")
    visitor.looks("owner-story")


def test_the_demo_shows_four_faces_and_lets_a_visitor_make_things_happen(visitor: Visitor) -> None:
    page = visitor.page
    visitor.sized(1440)
    tops = page.locator(".face").evaluate_all("all => all.map(e => e.getBoundingClientRect().top)")
    assert len(tops) == 4
    assert max(tops) - min(tops) < 1, "the faces stand side by side"
    visitor.looks("demo")
    # The iframe's own page moves the focus into it; the buttons come before.
    visitor.presses(page.locator(".make button[value=cross_border]"))
    said = "Österreich" if visitor.language == "de" else "Austria"
    expect(page.locator(".prompt")).to_contain_text(said)
    expect(page.locator(".face .story")).to_contain_text(re.compile("Vignette|vignette"))
    visitor.acts("/demo/pace", pace="1")
