"""The four stores of the data folder: for their user only, and safe from processes that look into them."""

import os
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from gateway.adapters.database import SqlDatabase
from gateway.adapters.journal import SqliteJournal
from gateway.adapters.private_file import create_private
from gateway.adapters.rule_state import SqliteRuleState
from gateway.adapters.timeseries_embedded import EmbeddedTimeSeries

NOW = 1_795_363_200_000
LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM sqlite_master").fetchall()
connection.close()
"""

Close = Callable[[], Awaitable[None]]


async def journal(path: Path) -> Close:
    opened = await SqliteJournal(path, readers=[]).open()
    await opened.append([("t", b"1")], NOW)
    return opened.close


async def time_series(path: Path) -> Close:
    store = EmbeddedTimeSeries(path)
    await store.prepare()
    return store.close


async def rule_state(path: Path) -> Close:
    state = SqliteRuleState(path)
    await state.save(1, [("van", b"v")])
    return state.close


async def database(path: Path) -> Close:
    store = SqlDatabase(f"sqlite:///{path}", now=lambda: NOW)
    await store.prepare()
    await store.write(lambda records: records.owners.page())
    return store.close


OPENERS = pytest.mark.parametrize("opens", [journal, time_series, rule_state, database])


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@OPENERS
@pytest.mark.usefixtures("usual_umask")
async def test_they_are_for_their_user_only(
    opens: Callable[[Path], Awaitable[Close]], tmp_path: Path
) -> None:
    close = await opens(tmp_path / "file.db")
    found = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir()}
    assert found == dict.fromkeys(("file.db", "file.db-shm", "file.db-wal"), "0o600")
    await close()


@OPENERS
async def test_opened_twice_they_keep_their_wal_when_another_process_closes_them(
    opens: Callable[[Path], Awaitable[Close]], tmp_path: Path
) -> None:
    path = tmp_path / "file.db"
    closes = [await opens(path), await opens(path)]
    wal = (tmp_path / "file.db-wal").stat().st_ino
    subprocess.run([sys.executable, "-c", LOOK, str(path)], check=True, timeout=60)
    assert (tmp_path / "file.db-wal").stat().st_ino == wal
    for close in closes:
        await close()


def test_what_is_there_keeps_what_it_holds_and_what_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.db"
    path.write_bytes(b"kept")
    create_private(path)
    assert path.read_bytes() == b"kept"
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    with pytest.raises(PermissionError, match="Permission denied"):
        create_private(path)


def test_a_link_to_where_nothing_is_yet_is_followed(tmp_path: Path, usual_umask: None) -> None:
    there, link = tmp_path / "there.db", tmp_path / "link.db"
    link.symlink_to(there)
    create_private(link)
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
