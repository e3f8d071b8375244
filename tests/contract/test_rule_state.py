"""What every RuleState promises."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.rule_state import SqliteRuleState
from gateway.ports import DatabaseUnavailableError, RuleState


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[RuleState]:
    opened = SqliteRuleState(tmp_path / "state.db")
    yield opened
    await opened.close()


async def test_what_was_never_saved_stands_at_the_beginning(state: RuleState) -> None:
    assert await state.load() == (0, [])


async def test_a_save_changes_the_devices_named_and_leaves_the_others(state: RuleState) -> None:
    await state.save(10, [("washer", b"w1"), ("van", b"v1")])
    await state.save(20, [("van", b"v2")])
    assert await state.load() == (20, [("van", b"v2"), ("washer", b"w1")])


async def test_a_position_is_saved_even_when_no_device_changed(state: RuleState) -> None:
    await state.save(10, [("van", b"v1")])
    await state.save(30, [])
    assert await state.load() == (30, [("van", b"v1")])


async def test_it_is_there_for_whoever_opens_it_next(state: RuleState, tmp_path: Path) -> None:
    await state.save(2**40, [("van", bytes(range(256)))])
    await state.close()
    later = SqliteRuleState(tmp_path / "state.db")
    assert await later.load() == (2**40, [("van", bytes(range(256)))])
    await later.close()


_SAVE_FOREVER = """
import asyncio, sys
from pathlib import Path
from gateway.adapters.rule_state import SqliteRuleState

async def main():
    state = SqliteRuleState(Path(sys.argv[1]))
    n = 0
    while True:
        n += 1
        await state.save(n, [(f"device-{i}", b"%d" % n) for i in range(50)])
        print(n, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("saves", [1, 20, 45])
async def test_a_killed_process_leaves_states_and_position_of_the_same_moment(
    state: RuleState, tmp_path: Path, saves: int
) -> None:
    path = tmp_path / "state.db"
    process = subprocess.Popen([sys.executable, "-c", _SAVE_FOREVER, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(saves)]
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    position, states = await state.load()
    assert position >= max(int(line) for line in said if line.endswith("\n"))
    assert {value for _, value in states} == {b"%d" % position}
    assert len(states) == 50


async def test_a_file_of_an_unknown_format_is_refused(state: RuleState, tmp_path: Path) -> None:
    await state.save(10, [])
    await state.close()
    raw = sqlite3.connect(tmp_path / "state.db")
    raw.execute("UPDATE meta SET format = 99")
    raw.commit()
    raw.close()
    later = SqliteRuleState(tmp_path / "state.db")
    with pytest.raises(DatabaseUnavailableError, match=r"format 99.*Start the version that wrote it"):
        await later.load()
    await later.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
async def test_a_file_that_cannot_be_used_is_said_so(
    state: RuleState, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "state.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(DatabaseUnavailableError, match=str(path)):
        await state.save(1, [])


async def test_after_trouble_it_saves_again(state: RuleState, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.mkdir()
    with pytest.raises(DatabaseUnavailableError):
        await state.save(1, [])
    path.rmdir()
    await state.save(2, [("van", b"v")])
    assert await state.load() == (2, [("van", b"v")])


async def test_one_device_can_be_looked_at_with_what_all_share(state: RuleState, tmp_path: Path) -> None:
    assert await state.load_one("van") == (0, [])
    await state.save(10, [("van", b"v1"), ("washer", b"w1"), ("/context/weather", b"c1")])
    onlooker = SqliteRuleState(tmp_path / "state.db")
    assert await onlooker.load_one("van") == (10, [("/context/weather", b"c1"), ("van", b"v1")])
    await state.save(20, [("van", b"v2")])
    assert await onlooker.load_one("van") == (20, [("/context/weather", b"c1"), ("van", b"v2")])
    assert await onlooker.load_one("nobody") == (20, [("/context/weather", b"c1")])
    assert await onlooker.position() == 20
    await onlooker.close()


async def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    opened = SqliteRuleState(tmp_path / "state.db")
    with pytest.raises(DatabaseUnavailableError, match=r"is damaged .* move it away"):
        await opened.load()
    await opened.close()
