"""`touchpoint demo`: the same story for the same seed, and nothing left behind."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from gateway_lab import TOUCHPOINT
from real_parts import PATIENCE_S, end, free_port, listens, wait_until
from running_gateway import TRACEBACK, environment, fetch

pytestmark = pytest.mark.timeout(900)

STORY = ("touchpoint", "answer", "appointment", "done", "feedback")
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


def headless(until: float, temp: Path, seed: int = 7) -> list[dict[str, Any]]:
    """The lines of a headless demo, whose temporary files are gone afterwards."""
    temp.mkdir()
    done = subprocess.run(
        [str(TOUCHPOINT), "demo", "--headless", "--until", str(until), "--seed", str(seed)],
        env=environment({}) | {"TMPDIR": str(temp)},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert TRACEBACK not in done.stderr
    assert list(temp.iterdir()) == []
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same lines without what differs from run to run: the ids."""
    return [{k: v for k, v in line.items() if k != "touchpoint"} for line in lines]


def test_the_same_seed_tells_the_same_story(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(lambda name: headless(12, tmp_path / name), ("one", "two"))
    assert told(first) == told(second)
    assert {line["type"] for line in first} >= {"touchpoint", "summary"}
    assert {line["touchpoint"] for line in first if "touchpoint" in line} != set()


@pytest.mark.slow
def test_the_whole_story_goes_from_touchpoint_to_feedback(tmp_path: Path) -> None:
    *lines, summary = headless(60, tmp_path / "temp")
    ways: dict[str, list[str]] = {}
    for line in lines:
        ways.setdefault(line["touchpoint"], []).append(line["type"])
        assert set(line) >= {"type", "touchpoint", "rule", "device", "at"}
    assert list(STORY) in ways.values()
    assert (summary["type"], summary["messages"] > 1_000) == ("summary", True)


# --- live -----------------------------------------------------------------------------------------


def below(pid: int) -> Iterator[int]:
    """All processes that stand below one, as long as they run."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            for child in children.read_text().split():
                yield int(child)
                yield from below(int(child))


def ports_of(pid: int) -> set[int]:
    """Ports on which a process listens (proc(5): net/tcp, state 0A, and the process's descriptors)."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
    }


@contextmanager
def live(temp: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str, Path]]:
    """A live demo that shows its first page: (process, address, what it said)."""
    temp.mkdir()
    log = temp.with_suffix(".log")
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [str(TOUCHPOINT), "demo", "--port", str(free_port())],
            env=environment({}) | {"TMPDIR": str(temp)},
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(
            lambda: process.poll() is not None or ADDRESS.search(log.read_text()) is not None, "address"
        )
        address = ADDRESS.search(log.read_text())
        assert address is not None, log.read_text()
        yield process, address[0], log
    finally:
        end(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_the_demo_leaves_no_process_no_port_and_no_folder(
    tmp_path: Path, number: signal.Signals
) -> None:
    temp = tmp_path / "temp"
    with live(temp) as (process, address, log):
        wait_until(lambda: fetch(address).status == 200, "the first page is there", every=0.05)
        processes = [process.pid, *below(process.pid)]
        ports = set().union(*(ports_of(pid) for pid in processes))
        assert len(processes) >= 2  # the demo and its broker
        assert len(ports) >= 3  # pages, and the broker's two
        assert list(temp.iterdir()) != []
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    assert TRACEBACK not in log.read_text()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), "no process is left")
    wait_until(lambda: not any(listens(port) for port in ports), "nobody listens any more")
    assert list(temp.iterdir()) == []


def test_ctrl_c_before_the_first_page_is_there_leaves_nothing_either(tmp_path: Path) -> None:
    tmp_path.joinpath("temp").mkdir()
    process = subprocess.Popen(
        [str(TOUCHPOINT), "demo", "--port", str(free_port())],
        env=environment({}) | {"TMPDIR": str(tmp_path / "temp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # As from a terminal: what a shell starts in the background ignores Ctrl-C until it says otherwise.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_until(lambda: any((tmp_path / "temp").iterdir()), "it has begun")
    children = list(below(process.pid))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert TRACEBACK.encode() not in said, said.decode()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "no process is left")
    assert list((tmp_path / "temp").iterdir()) == []
