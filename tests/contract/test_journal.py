"""What a journal promises, on a real file."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.adapters import journal as module
from gateway.adapters.codecs import make_decoder
from gateway.adapters.journal import JournalFormatError, SqliteJournal
from gateway.domain.messages import Batch, Decoded, Message, PacketIds
from gateway.ports import JournalFullError, JournalWriteError

NOW = 1_795_363_200_000
READERS = ("record", "assess")


def some(count: int, mark: str = "m", size: int = 10) -> list[Message]:
    return [
        (f"touchpoint/v1/car-{i}/telemetry", f"{mark}{i}".encode().ljust(size, b".")) for i in range(count)
    ]


def payloads(batches: list[Batch]) -> list[bytes]:
    return [payload for batch in batches for _, payload in batch.messages]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    async with SqliteJournal(path, readers=READERS, poll=0.01) as opened:
        yield opened


async def test_positions_count_on_from_one(journal: SqliteJournal) -> None:
    assert journal.head() == 0
    assert await journal.append(some(3), NOW) == 1
    assert await journal.append_controls([{"type": "tick"}], NOW) == 4
    assert await journal.append(some(2), NOW) == 5
    assert journal.head() == 6


async def test_gives_back_what_was_appended(journal: SqliteJournal) -> None:
    await journal.append(some(3), NOW)
    await journal.append_controls([{"type": "reset", "device": "car-1"}], NOW + 1)
    first, second = await journal.read(0, limit=100)
    assert (first.first, first.last, first.received, first.kind) == (1, 3, NOW, "messages")
    assert list(first.messages) == some(3)
    assert (second.first, second.received, second.kind) == (4, NOW + 1, "control")
    assert list(second.controls) == [{"type": "reset", "device": "car-1"}]


async def test_a_new_file_counts_on_from_where_readers_stand(journal: SqliteJournal) -> None:
    assert await journal.begin_after(1_000, NOW)
    assert journal.head() == 1_000
    assert await journal.append(some(2), NOW) == 1_001
    assert payloads(await journal.read(1_000, limit=10)) == [payload for _, payload in some(2)]
    assert not await journal.begin_after(1_001, NOW)
    assert journal.head() == 1_002


async def test_what_was_appended_survives(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS) as before:
        await before.append(some(3), NOW)
        await before.append_controls([{"type": "tick"}], NOW)
        await before.commit("record", 2)
    async with SqliteJournal(path, readers=READERS) as after:
        assert after.head() == 4
        assert payloads(await after.read(0, limit=100)) == payloads(
            [Batch(first=1, received=0, messages=some(3))]
        )
        assert after.status()["readers"]["record"] == {"position": 2, "lag": 2}
        assert await after.append(some(1), NOW) == 5


async def test_a_reader_that_stopped_inside_a_batch_gets_it_whole(journal: SqliteJournal) -> None:
    await journal.append(some(5), NOW)
    await journal.append(some(5), NOW)
    batches = await journal.read(7, limit=100)
    assert [batch.first for batch in batches] == [6]


async def test_reading_is_limited_but_never_to_nothing(journal: SqliteJournal) -> None:
    for _ in range(5):
        await journal.append(some(10), NOW)
    assert [b.first for b in await journal.read(0, limit=1)] == [1]
    assert [b.first for b in await journal.read(10, limit=20)] == [11, 21]
    assert await journal.read(50, limit=20) == []


async def test_who_goes_on_from_the_file_gets_what_follows_in_the_same_parts(
    path: Path, journal: SqliteJournal
) -> None:
    await journal.append(some(1_499), NOW)
    async with SqliteJournal(path, readers=READERS) as after:
        for reader in (journal, after):
            assert [b.first for b in await reader.read(0, limit=1_500)] == [1, 501, 1_001]
            rest = await reader.read(500, limit=1_500)
            assert [(b.first, b.count) for b in rest] == [(501, 500), (1_001, 499)]


async def test_nothing_new_is_an_empty_answer(journal: SqliteJournal) -> None:
    assert await journal.read(0, limit=10) == []


async def test_recent_batches_are_handed_over_and_decoded_once(path: Path) -> None:
    calls = 0

    def decoder(batch: Batch) -> Decoded:
        nonlocal calls
        calls += 1
        return Decoded()

    async with SqliteJournal(path, readers=READERS, decoder=decoder) as journal:
        await journal.append(some(3), NOW)
        [one], [other] = await journal.read(0, limit=10), await journal.read(0, limit=10)
        assert one is other
        assert one.decoded is other.decoded
        assert calls == 1


async def test_what_memory_has_forgotten_comes_from_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECENT_MESSAGES", 25)
    async with SqliteJournal(path, readers=READERS) as journal:
        for i in range(10):
            await journal.append(some(10, mark=f"{i}-"), NOW)
        seen, after = [], 0
        while batches := await journal.read(after, limit=10):
            seen += payloads(batches)
            after = batches[-1].last
        assert seen == [payload for i in range(10) for _, payload in some(10, mark=f"{i}-")]


async def test_every_reader_is_woken(journal: SqliteJournal) -> None:
    one, other = journal.appended(), journal.appended()
    assert not one.is_set()
    await journal.append(some(1), NOW)
    one.clear()
    assert other.is_set(), "one reader's clearing must not swallow the other's wake-up"


async def test_a_reader_that_begins_later_is_told_that_there_is_something(journal: SqliteJournal) -> None:
    await journal.append(some(1), NOW)
    assert journal.appended().is_set()


async def test_several_processes_may_append(path: Path, journal: SqliteJournal) -> None:
    woken = journal.appended()
    async with SqliteJournal(path, readers=READERS, poll=0.01) as other:
        assert await journal.append(some(2, "a"), NOW) == 1
        assert await other.append(some(2, "b"), NOW) == 3
        assert await journal.append(some(2, "c"), NOW) == 5
        assert await other.append(some(2, "d"), NOW) == 7
        async with asyncio.timeout(60):
            while journal.head() < 8:
                woken.clear()
                await woken.wait()
        expected = [payload for mark in "abcd" for _, payload in some(2, mark)]
        assert payloads(await journal.read(0, limit=100)) == expected
        assert payloads(await journal.read(6, limit=100)) == expected[6:]


async def test_appending_at_once_keeps_every_batch_in_one_piece(journal: SqliteJournal) -> None:
    firsts = await asyncio.gather(*(journal.append(some(7, f"{i}:"), NOW) for i in range(20)))
    assert sorted(firsts) == list(range(1, 141, 7))
    batches = await journal.read(0, limit=1000)
    assert [b.first for b in batches] == sorted(firsts)


async def settle(journal: SqliteJournal) -> None:
    """Let the upkeep trim: it saves positions at most once a second of real time."""
    await journal._trim()
    await journal._refresh()


async def test_trims_behind_the_slowest_reader(journal: SqliteJournal) -> None:
    for _ in range(4):
        await journal.append(some(10), NOW)
    await journal.commit("record", 30)
    await settle(journal)
    assert journal.status()["first"] == 1, "assess has not said where it is"
    await journal.commit("assess", 15)
    await settle(journal)
    assert journal.status()["first"] == 11, "the batch that assess stopped in stays"
    assert journal.status()["readers"]["assess"] == {"position": 15, "lag": 25}


async def test_never_trims_the_newest_for_it_carries_the_count_on(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS) as journal:
        await journal.append(some(10), NOW)
        await journal.commit("record", 10)
        await journal.commit("assess", 10)
    async with SqliteJournal(path, readers=READERS) as journal:
        assert await journal.append(some(1), NOW) == 11


async def test_a_position_never_goes_back(journal: SqliteJournal) -> None:
    await journal.append(some(5), NOW)
    await journal.commit("record", 4)
    await journal.commit("record", 2)
    assert journal.position("record") == 4


async def fill(journal: SqliteJournal) -> int:
    """Append ten messages at a time until the journal is full; how many it took."""
    appended = 0
    for _ in range(1000):
        try:
            await journal.append(some(10, size=10_000), NOW)
        except JournalFullError:
            return appended
        appended += 10
    raise AssertionError("never full")


async def test_a_full_journal_refuses_messages_and_recovers_by_trimming(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS, max_bytes=2**20) as journal:
        appended = await fill(journal)
        assert 80 <= appended <= 110, "about a megabyte of ten kilobytes each"
        assert await journal.append_controls([{"type": "tick"}], NOW) == appended + 1, "controls always fit"
        with pytest.raises(JournalFullError):
            await journal.append(some(10, size=10_000), NOW)
        for reader in READERS:
            await journal.commit(reader, appended - 20)
        assert await journal.append(some(10, size=10_000), NOW) == appended + 2


async def test_a_batch_larger_than_the_limit_passes_once_everything_is_read(path: Path) -> None:
    async with SqliteJournal(path, readers=("r",), max_bytes=2**18) as journal:
        await journal.append(some(10), NOW)
        with pytest.raises(JournalFullError):
            await journal.append(some(50, size=10_000), NOW)
        await journal.commit("r", 10)
        assert await journal.append(some(50, size=10_000), NOW) == 11
        await journal.commit("r", 60)
        assert await journal.append(some(50, size=10_000), NOW) == 61


async def test_a_full_disk_is_told_with_what_to_do_and_nothing_is_half_stored(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS) as journal:
        await journal.append(some(3), NOW)
        connection = journal._writer_file.connection()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(JournalWriteError, match=r"full: free space on the disk"):
            await journal.append(some(50, size=10_000), NOW)
        assert journal.head() == 3
        # Reopened without the limit: there is room again.
        assert await journal.append(some(50, size=10_000), NOW) == 4


async def test_an_unknown_format_is_refused_with_what_to_do(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS) as journal:
        await journal.append(some(1), NOW)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE batches SET body = ?", (msgspec.msgpack.encode((99, [])),))
    connection.commit()
    connection.close()
    with pytest.raises(JournalFormatError, match="start the version that wrote it"):
        await SqliteJournal(path, readers=READERS).open()


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalWriteError, match="exist and be writable"):
        await SqliteJournal(tmp_path / "nowhere" / "journal.db", readers=READERS).open()


# --- what the broker may send again -----------------------------------------------------------

SESSION = 7


def named(*numbers: int, session: int = SESSION) -> PacketIds:
    return PacketIds(
        session=session,
        packed=b"".join(number.to_bytes(2, "big") for number in numbers),
        count=sum(map(bool, numbers)),
    )


async def append_named(journal: SqliteJournal, first: int, count: int, mark: str = "m") -> list[Message]:
    messages = some(count, mark)
    await journal.append(messages, NOW, named(*range(first, first + count)))
    return messages


async def test_a_message_is_found_by_its_packet_id(journal: SqliteJournal) -> None:
    one, two, three = some(3)
    await journal.append([one, two, three], NOW, named(300, 0, 65_535))
    assert await journal.by_packet_id(SESSION, {300, 65_535, 4}) == {300: one, 65_535: three}
    assert await journal.by_packet_id(SESSION, {0}) == {}, "messages at QoS 0 have none"


async def test_packet_ids_are_found_by_whoever_opens_the_file_next(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS) as before:
        messages = await append_named(before, 10, 3)
    async with SqliteJournal(path, readers=READERS) as after:
        assert await after.by_packet_id(SESSION, {11}) == {11: messages[1]}


async def test_of_a_packet_id_that_was_used_again_the_newest_message_counts(journal: SqliteJournal) -> None:
    await append_named(journal, 1, 3, "old")
    await journal.append_controls([{"type": "tick"}], NOW)
    newer = await append_named(journal, 2, 3, "new")
    await journal.append(some(2, "none"), NOW)
    old = some(3, "old")
    assert await journal.by_packet_id(SESSION, {1, 2, 4}) == {1: old[0], 2: newer[0], 4: newer[2]}


async def test_a_packet_id_of_another_session_names_nothing(journal: SqliteJournal) -> None:
    await append_named(journal, 1, 3)
    messages = some(1, "other")
    await journal.append(messages, NOW, named(2, session=SESSION + 1))
    assert await journal.by_packet_id(SESSION + 1, {1, 2}) == {2: messages[0]}
    assert await journal.by_packet_id(SESSION + 2, {1, 2}) == {}


async def read_by_all(journal: SqliteJournal, position: int) -> None:
    for reader in READERS:
        await journal.commit(reader, position)
    await settle(journal)


async def test_what_may_come_again_is_kept_behind_the_readers_for_nobody_else(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS) as journal:
        messages = await append_named(journal, 1, 3)
        await journal.append_controls([{"type": "tick"}], NOW)
        await append_named(journal, 4, 3)
        await journal.append_controls([{"type": "tick"}], NOW)
        await read_by_all(journal, 8)
        assert await journal.read(0, limit=100) == [], "trimmed, as far as readers are concerned"
        assert journal.status()["first"] == 8
    async with SqliteJournal(path, readers=READERS) as journal:
        await read_by_all(journal, 8)
        assert await journal.by_packet_id(SESSION, {2}) == {2: messages[1]}
        assert await journal.read(0, limit=100) == []
    rows = sqlite3.connect(path).execute("SELECT first, kind FROM batches").fetchall()
    assert rows == [(1, 0), (5, 0), (8, 1)], "no control entry but the newest, which carries the count on"


async def test_control_entries_never_gather_behind_the_readers(journal: SqliteJournal, path: Path) -> None:
    await append_named(journal, 1, 1)
    for position in range(2, 22):
        await journal.append_controls([{"type": "tick"}], NOW)
        await read_by_all(journal, position)
    copy = sqlite3.connect(path)
    assert copy.execute("SELECT first FROM batches").fetchall() == [(1,), (21,)]
    copy.close()


async def test_no_more_is_kept_than_there_are_packet_ids(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKET_IDS", 25)
    for _ in range(2):  # also of what a process before this one appended
        async with SqliteJournal(path, readers=READERS) as journal:
            for first in range(1, 60, 10):
                await append_named(journal, first, 10)
            await read_by_all(journal, journal.head())
        assert sqlite3.connect(path).execute("SELECT sum(count) FROM batches").fetchone() == (30,)


async def test_no_more_is_kept_than_its_share_of_the_journal(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS, max_bytes=2**20) as journal:
        for first in range(1, 61):
            await journal.append(some(1, size=10_000), NOW, named(first))
            await read_by_all(journal, first)
        kept = sqlite3.connect(path).execute("SELECT sum(length(body)) FROM batches").fetchone()[0]
        assert 2**17 < kept <= 2**18
        assert set(await journal.by_packet_id(SESSION, range(1, 61))) < set(range(30, 61))


async def test_nothing_is_kept_longer_than_a_session_lasts(journal: SqliteJournal, path: Path) -> None:
    await append_named(journal, 1, 3)
    await journal.append_controls([{"type": "tick"}], NOW + module.SESSION_MS + 1)
    await read_by_all(journal, 4)
    copy = sqlite3.connect(path)
    assert copy.execute("SELECT first FROM batches").fetchall() == [(4,)]
    copy.close()


async def test_a_full_journal_gives_up_what_may_come_again(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS, max_bytes=2**20) as journal:
        await journal.append(some(20, size=10_000), NOW, named(*range(1, 21)))
        await read_by_all(journal, 20)
        await journal.append(some(60, size=10_000), NOW)
        await journal.append(some(10, size=10_000), NOW)
        await read_by_all(journal, 80)
        await fill(journal)
        assert await journal.by_packet_id(SESSION, {1}) == {}


async def test_who_reads_nothing_trims_nothing(path: Path) -> None:
    """A command, or another role: what may come again is known to the process that receives."""
    async with SqliteJournal(path, readers=READERS) as journal:
        async with SqliteJournal(path, readers=READERS) as other:
            await append_named(journal, 1, 3)
            await append_named(journal, 4, 3)
            await read_by_all(journal, 6)
            await other.append_controls([{"type": "tick"}], NOW)
        assert set(await journal.by_packet_id(SESSION, {1, 4})) == {1, 4}


async def test_a_file_of_the_former_format_is_read_and_carried_on(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS) as journal:
        await append_named(journal, 1, 3)
        await append_named(journal, 4, 3, "old")
        await journal.append_controls([{"type": "tick"}], NOW)
    connection = sqlite3.connect(path)
    for first, body in connection.execute("SELECT first, body FROM batches").fetchall():
        former = msgspec.msgpack.encode((1, msgspec.msgpack.decode(body)[1]))
        connection.execute("UPDATE batches SET body = ? WHERE first = ?", (former, first))
    connection.commit()
    connection.close()
    async with SqliteJournal(path, readers=READERS) as journal:
        first, second, third = await journal.read(0, limit=100)
        assert [*first.messages, *second.messages] == [*some(3), *some(3, "old")]
        assert list(third.controls) == [{"type": "tick"}]
        assert await journal.by_packet_id(SESSION, {1, 4}) == {}, "it had no packet ids"
        messages = await append_named(journal, 4, 1, "new")
        assert await journal.by_packet_id(SESSION, {1, 4}) == {4: messages[0]}


async def test_what_a_device_sent_is_overwritten_and_keeps_its_place(path: Path) -> None:
    async with SqliteJournal(path, readers=READERS, decoder=make_decoder({})) as journal:
        mine = (
            "touchpoint/v1/car-1/telemetry",
            b'{"ts": 1795420800000, "signals": {"speed": 1.5, "x": "SECRET"}}',
        )
        like = ("touchpoint/v1/car-11/telemetry", mine[1].replace(b"SECRET", b"KEPT"))
        await journal.append(
            [like, mine, like], NOW, PacketIds(session=SESSION, packed=b"\0\1\0\2\0\3", count=3)
        )
        await journal.append([mine], NOW + 10)
        await journal.append([mine], NOW + 20)
        await journal.append_controls([{"type": "tick"}], NOW + 20)
        await journal.append([mine], NOW + 15)
        assert await journal.erase({"car-1": [(NOW, NOW + 20)]}, 6) == 2
        batches = await journal.read(0, limit=100)
        assert [(batch.first, batch.count) for batch in batches] == [(1, 3), (4, 1), (5, 1), (6, 1), (7, 1)]
        assert batches[0].messages[0] == batches[0].messages[2] == like
        assert [len(batch.decoded.telemetry) for batch in batches] == [2, 0, 1, 0, 1]
        assert not any(batch.decoded.undecodable for batch in batches)
        assert (await journal.by_packet_id(SESSION, {1, 3}))[3] == like
    async with SqliteJournal(path, readers=READERS) as journal:
        assert journal.head() == 7
    assert path.read_bytes().count(b"SECRET") == 2
    assert path.read_bytes().count(b"KEPT") == 2


async def test_an_append_is_on_disk_when_it_returns(journal: SqliteJournal, path: Path) -> None:
    await journal.append(some(3), NOW)
    copy = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert copy.execute("SELECT first, count FROM batches").fetchall() == [(1, 3)]
    copy.close()
    assert journal._writer_file.connection().execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
