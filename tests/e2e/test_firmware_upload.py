"""After-sales uploads a release in a real browser, in pieces, and sees it; what is refused is said."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser_lab import WIDTHS, Watch, too_wide
from firmware_lab import Works
from gateway_lab import TOUCHPOINT
from playwright.sync_api import Browser, expect
from real_parts import end, free_port, listens, wait_until
from running_gateway import environment, touchpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path, time.time_ns() // 1_000_000)


@pytest.fixture
def address(works: Works) -> Iterator[str]:
    port = free_port()
    settings = {"data_dir": str(works.folder), "web.port": str(port)}
    touchpoint("setup", settings=settings)
    with open(works.folder / "log", "wb") as log:
        process = subprocess.Popen(
            [str(TOUCHPOINT), "run", "--role", "web"], env=environment(settings), stdout=log, stderr=log
        )
    try:
        wait_until(lambda: process.poll() is not None or listens(port), "the pages are served", 60)
        assert process.poll() is None, (works.folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def test_a_release_is_uploaded_with_its_progress(works: Works, address: str, browser: Browser) -> None:
    settings = {"data_dir": str(works.folder)}
    secret = touchpoint("token", "create", "--role", "operator", settings=settings).stdout.split()[-1]
    manifest, (path,) = works.signed(os.urandom(12 << 20), "2.0.0", sequence=2, notes={"en": "Quieter"})
    wrong = works.folder / "wrong.sig"
    wrong.write_text("AAAA")
    context = browser.new_context(locale="en-GB", viewport={"width": 1440, "height": 900})
    context.add_cookies([{"name": "session-operator", "value": secret, "url": address}])
    watch = Watch(urlsplit(address).netloc)
    watch.over(context)
    page = context.new_page()
    page.goto(f"{address}/operator/firmware")
    form = page.locator("[data-firmware]")
    form.locator("[name=manifest]").set_input_files(manifest)
    form.locator("[name=signatures]").set_input_files(wrong)
    form.locator("[name=files]").set_input_files(path)
    form.locator("button").click()
    expect(form.locator("[data-said]")).not_to_be_empty(timeout=60_000)  # the signatures are none
    form.locator("[name=signatures]").set_input_files(manifest.with_name(f"{manifest.name}.sig"))
    form.locator("button").click()
    expect(page.get_by_text("Quieter")).to_be_visible(timeout=60_000)
    assert works.find("2.0.0") is not None
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert not too_wide(page), f"it scrolls to the side at {width} px"
    refused = [said for said in watch.wrong if "422" not in said]
    assert not refused, refused
    context.close()
