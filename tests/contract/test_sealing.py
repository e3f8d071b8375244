"""Secrets in the database are sealed with keys that lie elsewhere, and stay so when the key changes."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from prepared_store import put_store

from gateway.adapters.database import Seal, SqlDatabase, engine
from gateway.adapters.database.sealing import is_sealed
from gateway.domain.access import Role
from gateway.domain.accounts import Account
from gateway.domain.webhooks import MANUFACTURER, SigningSecret, Webhook
from gateway.ports import DatabaseUnavailableError, Records

APP, NEW, SIGNS = "JBSWY3DPEHPK3PXP", "KRSXG5CTMVRXEZLU", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANA = Account(
    id="a1", role=Role.OPERATOR, subject=None, name="ana@example.com", called="Ana", created=1,
    password="$argon2id$x", totp=APP, totp_new=NEW,
)  # fmt: skip
HOOK = Webhook(id="w1", audience=MANUFACTURER, url="https://h.example", secrets=(SigningSecret(text=SIGNS),))

Open = Callable[..., Awaitable[SqlDatabase]]


@pytest.fixture
async def open_sealed(tmp_path: Path):  # type: ignore[no-untyped-def]
    opened: list[SqlDatabase] = []
    await put_store(tmp_path / "domain.db")

    async def open_one(key: str | None = "database.key") -> SqlDatabase:
        seal = Seal(tmp_path / key) if key else None
        database = SqlDatabase(f"sqlite:///{tmp_path}/domain.db", now=lambda: 0, seal=seal)
        opened.append(database)
        await database.prepare()
        return database

    yield open_one
    for database in opened:
        await database.close()


async def holds(database: SqlDatabase) -> tuple[Account | None, Webhook | None]:
    return await database.read(lambda r: (r.accounts.find("a1"), r.webhooks.find("w1")))


async def fill(database: SqlDatabase) -> None:
    await database.write(lambda r: (r.accounts.add(ANA), r.webhooks.put(HOOK)))


def lies_open(folder: Path) -> list[str]:
    """Which secrets can be read in the files of the store."""
    bytes_ = b"".join(path.read_bytes() for path in folder.glob("domain.db*"))
    return [secret for secret in (APP, NEW, SIGNS) if secret.encode() in bytes_]


async def test_what_lies_in_the_files_is_sealed_and_reads_as_it_was(
    open_sealed: Open, tmp_path: Path
) -> None:
    database = await open_sealed()
    await fill(database)
    assert lies_open(tmp_path) == []
    assert await holds(database) == (ANA, HOOK)
    assert await database.read(lambda r: r.accounts.by_name(ANA.name)) == ANA
    assert await database.read(lambda r: r.accounts.page()) == [ANA]
    assert await database.read(lambda r: r.webhooks.hearing(MANUFACTURER, "x")) == [HOOK]
    changed = replace(ANA, totp_new=None, called="Anna")
    await database.write(lambda r: r.accounts.save(changed))
    assert (await holds(await open_sealed()))[0] == changed
    assert (tmp_path / "database.key").stat().st_mode & 0o777 == 0o600


async def test_what_was_kept_openly_before_is_sealed_at_the_next_start(
    open_sealed: Open, tmp_path: Path
) -> None:
    before = await open_sealed(None)
    await fill(before)
    assert len(lies_open(tmp_path)) == 3
    await before.close()
    database = await open_sealed()
    assert await holds(database) == (ANA, HOOK)
    await database.close()
    assert lies_open(tmp_path) == []


async def test_a_new_key_seals_everything_anew_while_others_work(open_sealed: Open, tmp_path: Path) -> None:
    running = await open_sealed()
    await fill(running)
    old, count = (tmp_path / "database.key").read_text(), await (await open_sealed()).new_key()
    assert count == 3
    now = (tmp_path / "database.key").read_text()
    assert (old in now, len(now.split())) == (False, 1)
    assert await holds(running) == (ANA, HOOK), "a process that runs reads the file again"
    await running.write(lambda r: r.accounts.save(replace(ANA, called="Anna")))
    assert (await holds(await open_sealed()))[0] == replace(ANA, called="Anna")


async def test_a_rotation_that_was_cut_off_is_finished_at_the_next_start(
    open_sealed: Open, tmp_path: Path
) -> None:
    await fill(await open_sealed())
    Seal(tmp_path / "database.key").add_key()
    (tmp_path / ".database.key-1").write_text("what a killed process had written")
    assert await holds(await open_sealed()) == (ANA, HOOK)
    Seal(tmp_path / "database.key").forget_old()
    assert await holds(await open_sealed()) == (ANA, HOOK), "all of it was sealed under the new one"
    assert [path.name for path in tmp_path.glob(".database.key*")] == []


async def test_a_rotation_sees_what_another_process_is_sealing(open_sealed: Open) -> None:
    """Else the key that it has just used would be forgotten before its transaction is there to be seen."""
    rotating, other = await open_sealed(), await open_sealed()
    loop, begun = asyncio.get_running_loop(), list[Future[int]]()

    def add_meanwhile(records: Records) -> None:
        records.accounts.add(ANA)
        begun.append(asyncio.run_coroutine_threadsafe(rotating.new_key(), loop))
        with contextlib.suppress(TimeoutError):  # it has to wait for this transaction
            begun[0].result(0.3)

    await other.write(add_meanwhile)
    assert await asyncio.wrap_future(begun[0]) == 2
    assert (await holds(await open_sealed()))[0] == ANA


async def test_two_rotations_at_once_lose_no_key(open_sealed: Open, tmp_path: Path) -> None:
    one, other = await open_sealed(), await open_sealed()
    await fill(one)
    for _ in range(10):
        assert await asyncio.gather(one.new_key(), other.new_key()) == [3, 3]
        assert await holds(await open_sealed()) == (ANA, HOOK)
    assert len((tmp_path / "database.key").read_text().split()) == 1


async def test_a_start_beside_a_rotation_is_no_start_with_another_key(
    open_sealed: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read what was sealed before, and then the key of before is not there any more."""
    rotating = await open_sealed()
    await fill(rotating)
    loop = asyncio.get_running_loop()

    def rotated_meanwhile(kept: str) -> bool:
        monkeypatch.undo()
        asyncio.run_coroutine_threadsafe(rotating.new_key(), loop).result()
        return is_sealed(kept)

    monkeypatch.setattr(engine, "is_sealed", rotated_meanwhile)
    assert await holds(await open_sealed()) == (ANA, HOOK)


async def test_with_another_key_nothing_starts_and_it_says_what_to_do(
    open_sealed: Open, tmp_path: Path
) -> None:
    await fill(await open_sealed())
    Seal(tmp_path / "another.key").make()
    with pytest.raises(DatabaseUnavailableError, match="restore the file that belongs to this database"):
        await open_sealed("another.key")


async def test_no_key_is_made_where_one_is_missing(open_sealed: Open, tmp_path: Path) -> None:
    await fill(await open_sealed())
    with pytest.raises(
        DatabaseUnavailableError, match=r"gone\.key cannot be read.*Restore the one that belongs"
    ):
        await open_sealed("gone.key")
    assert not (tmp_path / "gone.key").exists()


def test_a_key_is_on_disk_before_anything_is_sealed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder too: a file in one that is not on disk is not there after the power has failed."""
    synced: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd)))
    seal = Seal(tmp_path / "database.key")
    for change in (seal.make, seal.add_key, seal.forget_old):
        synced.clear()
        change()
        assert len(synced) == 2
        assert synced[1] == str(tmp_path)


async def test_a_broken_key_file_is_told_and_left_alone(open_sealed: Open, tmp_path: Path) -> None:
    path = tmp_path / "database.key"
    for text in ("", "no key\n", "QUJD\n"):
        path.write_text(text)
        with pytest.raises(DatabaseUnavailableError, match=r"restore"):
            await fill(await open_sealed())
        assert path.read_text() == text


def test_what_was_read_before_a_rotation_opens_after_it(tmp_path: Path) -> None:
    seal, rotating = Seal(tmp_path / "k"), Seal(tmp_path / "k")
    seal.make()
    kept = seal.seal(APP, "accounts.totp:a1")
    rotating.add_key()
    rotating.forget_old()
    assert not seal.newest(kept), "the file was read again"
    assert seal.open(kept, "accounts.totp:a1") == APP
    with pytest.raises(DatabaseUnavailableError, match="does not hold the key"):
        Seal(tmp_path / "k").open(kept, "accounts.totp:a1")


def test_a_secret_opens_only_where_it_was_sealed(tmp_path: Path) -> None:
    seal = Seal(tmp_path / "k")
    seal.make()
    kept = seal.seal(APP, "accounts.totp:a1")
    assert seal.open(kept, "accounts.totp:a1") == APP
    assert seal.seal(APP, "accounts.totp:a1") != kept, "the nonce is another one every time"
    with pytest.raises(DatabaseUnavailableError, match="changed by somebody else"):
        seal.open(kept, "accounts.totp:a2")
    with pytest.raises(DatabaseUnavailableError, match="changed by somebody else"):
        seal.open(kept[:-8] + "AAAAAAA=", "accounts.totp:a1")
