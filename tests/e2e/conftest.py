"""A running demo, and Debian's Chromium."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_lab import ARGUMENTS
from playwright.sync_api import Browser, sync_playwright
from real_parts import ROOT, end, free_port, wait_until


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[str]:
    """A running demo; gives its address."""
    log = tmp_path / "demo.log"
    command = [str(Path(sys.executable).parent / "touchpoint"), "demo", "--port", str(free_port())]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env=os.environ | {"TOUCHPOINT_DATA_DIR": str(tmp_path / "data")},
        )
    address = re.compile(r"http://127\.0\.0\.1:\d+")
    try:
        wait_until(
            lambda: process.poll() is not None or address.search(log.read_text(errors="replace")) is not None,
            "the demo prints its address",
            seconds=60,
        )
        found = address.search(log.read_text(errors="replace"))
        assert found is not None, log.read_text(errors="replace")[-3000:]
        yield found[0]
    finally:
        end(process, signal.SIGINT)


@pytest.fixture
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield opened
        opened.close()
