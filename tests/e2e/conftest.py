"""A running demo, and Debian's Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_lab import ARGUMENTS
from playwright.sync_api import Browser, sync_playwright
from running_demo import running_demo


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[str]:
    """A demo of the test's own; gives its address."""
    with running_demo(tmp_path) as address:
        yield address


@pytest.fixture(scope="module")
def shared_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One demo for all tests of a file, which only look at it."""
    with running_demo(tmp_path_factory.mktemp("demo")) as address:
        yield address


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield opened
        opened.close()
