"""What tests in a real browser share: how it is started, and a watch over what no page may do."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, Request, Response, expect
from real_parts import PATIENCE_S

T = TypeVar("T")

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
expect.set_options(timeout=PATIENCE_S * 1000)
WIDTHS = (360, 820, 1440)
"""Of a phone, a tablet and a desk, in pixels."""
ALL_FACES = os.environ.get("TOUCHPOINT_TEST_FACES") == "all"


def told_in(*of: T, first: int = 0) -> list[T]:
    """The languages and themes in which a story is told: all of them by `make faces`, else one of them, which
    is not the same for every story."""
    return list(of) if ALL_FACES else [of[first]]


def opened(browser: Browser, **options: Any) -> BrowserContext:
    """A visitor's browser, as patient as a busy machine asks for."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_S * 1000)
    return context


def until(page: Page, holds: Callable[[], bool], what: str) -> None:
    """Wait, while the page goes on, for what nothing announces."""
    stop = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < stop, f"not within {PATIENCE_S} s: {what}"
        page.wait_for_timeout(50)


@dataclass
class Watch:
    """Everything that must not happen on any page: errors, foreign hosts, refused requests."""

    host: str
    wrong: list[str] = field(default_factory=list)
    expected: str = "\0"
    """A part of what the browser may say all the same."""

    def over(self, context: BrowserContext) -> None:
        context.on("page", self._page)
        context.on("request", self._request)
        context.on("response", self._response)

    def _page(self, page: Page) -> None:
        page.on("console", lambda said: self._said(said.type, said.text))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and self.expected not in text:
            self.wrong.append(f"console: {text}")

    def _request(self, request: Request) -> None:
        if request.url.startswith("http") and urlsplit(request.url).netloc != self.host:
            self.wrong.append(f"foreign: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.request.method} {response.url}")


def too_wide(page: Page) -> bool:
    """Whether a page at its present width scrolls to the side."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def axe_faults(page: Page) -> list[str]:
    """What axe-core finds wrong with a page as it now stands: "rule: places". The page's policy has to be
    bypassed, for it would rightly refuse the script."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run({resultTypes: ['violations']}).then(found => found.violations)")
    return [
        f"{fault['id']}: {'; '.join(' '.join(node['target']) for node in fault['nodes'][:2])}"
        for fault in found
    ]
