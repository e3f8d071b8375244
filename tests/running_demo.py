"""`touchpoint demo` as a process of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from real_parts import ROOT, end, free_port, wait_until


@contextlib.contextmanager
def running_demo(folder: Path) -> Iterator[str]:
    """A demo that ends with the block; gives its address."""
    log = folder / "demo.log"
    command = [str(Path(sys.executable).parent / "touchpoint"), "demo", "--port", str(free_port())]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env=os.environ | {"TOUCHPOINT_DATA_DIR": str(folder / "data")},
        )
    address = re.compile(r"http://127\.0\.0\.1:\d+")
    try:
        wait_until(
            lambda: process.poll() is not None or address.search(log.read_text(errors="replace")) is not None,
            "the demo prints its address",
        )
        found = address.search(log.read_text(errors="replace"))
        assert found is not None, log.read_text(errors="replace")[-3000:]
        yield found[0]
    finally:
        end(process, signal.SIGINT)
