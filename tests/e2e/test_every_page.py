"""Every page that can be reached by links, at three widths, light and dark, in both languages.

None scrolls to the side, says an error, asks another host, has a control too small to tap, or a fault that
axe-core finds on a phone in the light or on a desk in the dark. Pictures of all are kept in the folder that
TOUCHPOINT_TEST_PICTURES names.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser_lab import Watch, axe_faults, opened, too_wide
from playwright.sync_api import Browser, BrowserContext, Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DOORS = ("/", "/me", "/me/ledger", "/car/car-keller", "/panel/washer-keller", "/workshop", "/operator")
LOOKS = ((360, False), (820, False), (1440, True))
"""(width in pixels, whether in the dark)"""
EXAMINED = LOOKS[::2]
"""Those that axe-core looks at: between them it would see nothing else."""
LEAST_PAGES = 35
"""Fewer would mean that the walk lost its way."""
NAMES = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/operator/rules/)[^/]+|(?:car|washer)-[a-z]+|(?<=/operator/owners/)[^/]+"
)
SMALL = """() => [...document.querySelectorAll('button, .btn, select, textarea, input:not([type=hidden])')]
    .filter(e => e.checkVisibility() && !e.closest('[aria-hidden=true]'))
    .filter(e => !e.closest('label')?.querySelector('[type=checkbox], [type=radio]'))
    .map(e => [e, e.getBoundingClientRect()])
    .filter(([e, box]) => box.width > 1 && box.height < 24)
    .map(([e, box]) => `${e.tagName} ${e.name} ${Math.round(box.height)} px high`)"""
"""WCAG 2.2, 2.5.8: nothing that is tapped is below 24 px."""


@dataclass
class Walk:
    """From page to page by what is linked; of pages of one kind the first."""

    page: Page
    address: str
    pictures: Path | None
    wrong: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def all(self) -> Iterator[str]:
        """Goes on to the next page, and gives its kind."""
        ahead = list(DOORS)
        while ahead:
            kind = kind_of(path := ahead.pop(0))
            if kind in self.kinds or "." in path.rsplit("/", 1)[-1]:
                continue
            self.kinds.add(kind)
            answer = self.page.goto(self.address + path)
            assert answer is not None
            if "html" in answer.headers.get("content-type", ""):
                yield kind
                links = self.page.eval_on_selector_all(
                    "a[href]", "all => all.map(a => a.getAttribute('href'))"
                )
                ahead += [link.split("#")[0] for link in links if re.match("/(?!/|static|leave)", link)]

    def look(self, kind: str, width: int, dark: bool) -> None:
        """At one page in one size."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        where = f"{kind} at {width} px{', dark' if dark else ''}"
        if too_wide(self.page):
            self.wrong.append(f"{where}: scrolls to the side")
        self.wrong += [f"{where}: {small}" for small in self.page.evaluate(SMALL)]
        if (width, dark) in EXAMINED:
            self.wrong += [f"{where}: {fault}" for fault in axe_faults(self.page)]
        if self.pictures:
            name = kind.strip("/").replace("/", "-") or "start"
            self.page.screenshot(
                path=self.pictures / f"{name}-{width}{'-dark' if dark else ''}.png", full_page=True
            )


def kind_of(path: str) -> str:
    """The path without its names and its query."""
    return NAMES.sub("*", path.split("?")[0])


def pictures() -> Path | None:
    """Where pictures are kept, if they are."""
    folder = os.environ.get("TOUCHPOINT_TEST_PICTURES")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) if folder else None


@pytest.mark.long
@pytest.mark.parametrize("locale", ["de-DE", "en-GB"])
def test_every_page_is_sound(shared_demo: str, browser: Browser, locale: str) -> None:
    # axe runs as a script of the page, which the pages' own policy would rightly refuse.
    context: BrowserContext = opened(browser, locale=locale, timezone_id="Europe/Berlin", bypass_csp=True)
    watch = Watch(urlsplit(shared_demo).netloc)
    watch.over(context)
    page = context.new_page()
    page.goto(shared_demo)  # opens the doors of every face
    page.goto(f"{shared_demo}/me")
    # The story waits for the visitor: every face shows the most it ever does.
    expect(page.locator("[data-push]")).to_be_visible()
    walk = Walk(page, shared_demo, pictures() if locale == "de-DE" else None)
    for kind in walk.all():
        for width, dark in LOOKS:
            walk.look(kind, width, dark)
    context.close()
    assert len(walk.kinds) >= LEAST_PAGES, walk.kinds
    assert walk.wrong == []
    assert watch.wrong == []
