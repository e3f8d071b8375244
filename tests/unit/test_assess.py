"""Readings become findings once, whatever breaks between the journal, the rules' state and the records."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from garage import HOUR, MINUTE, SIGNALS, World, open_world

import config
from gateway.adapters.codecs import make_decoder
from gateway.adapters.journal import SqliteJournal
from gateway.adapters.rule_state import SqliteRuleState
from gateway.domain.counters import Counters
from gateway.domain.messages import Batch, ContextReading, Decoded
from gateway.domain.rule_sets import Sources
from gateway.domain.touchpoint import Finding, State
from gateway.flow import decide
from gateway.flow.assess import EVENTS_AT_ONCE, STATE_EVERY_MS, STATES_AT_ONCE, Assessor, in_order
from gateway.flow.rule_sets import RulesInForce, ask
from gateway.ports import Database, DatabaseUnavailableError, Records
from rules import Engine, load

T = TypeVar("T")

RULES = load(
    [
        (path.name, path.read_text(encoding="utf-8"))
        for path in sorted(config.data_path("rules").glob("*.yaml"))
    ],
    SIGNALS,
)


SIGNAL_FILES = tuple(
    (path.name, path.read_text(encoding="utf-8"))
    for path in sorted(config.data_path("signals").glob("*.yaml"))
)


EARLIER = """
- id: brake-pads-front-worn
  version: 9
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= 40
  touchpoint: {kind: appointment, service: brakes-front}
"""
PATIENT = EARLIER.replace("when:", "for: 10m\n  when:")


class Away:
    """A store that is away as often as it is told."""

    def __init__(self, times: int = 0) -> None:
        self.times = times

    def __call__(self) -> None:
        if self.times:
            self.times -= 1
            raise DatabaseUnavailableError("the disk is full")


class HoldingDatabase:
    """The real database, whose writes can be refused."""

    def __init__(self, inner: Database) -> None:
        self._inner, self.away, self.writes = inner, Away(), 0

    async def write(self, work: Callable[[Records], T]) -> T:
        self.away()
        self.writes += 1
        return await self._inner.write(work)

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self._inner.read(work)


class HoldingState(SqliteRuleState):
    """The real state, whose saves can be refused."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.away = Away()

    async def save(self, position: int, states: Sequence[tuple[str, bytes]]) -> None:
        self.away()
        await super().save(position, states)


class Workplace:
    """A garage world with a journal, in which one assessor after the other works."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.counters = world, Counters()
        self.journal = SqliteJournal(folder / "journal.db", readers=("assess",), decoder=make_decoder({}))
        self.database, self.state = HoldingDatabase(world.database), HoldingState(folder / "state.db")
        self.in_force, self.rules = RulesInForce("shipped", RULES), RULES

    def assessor(self) -> Assessor:
        return Assessor(
            journal=self.journal,
            database=self.database,  # type: ignore[arg-type]  # watching is not needed here
            state=self.state,
            engine=Engine(self.rules),
            clock=self.world.clock,
            counters=self.counters,
            policy=self.world.policy,
            kind_of=lambda device: "car",
            in_force=self.in_force,
        )

    async def asks_for(self, text: str) -> Sources:
        """The rules are to be these."""
        sources = Sources(signals=SIGNAL_FILES, rules=(("rules.yaml", text),))
        asked = await self.world.write(ask, sources, 1, self.world.now, "test")
        entry = {"type": "rules", "set": sources.id, "id": asked.activation.id}
        await self.journal.append_controls([entry], self.world.now)
        return sources

    async def held(self) -> list[tuple[str, int | None, bool]]:
        """(set, position, refused), oldest first."""
        history = await self.world.read(lambda r: r.rule_sets.history())
        return [(one.rule_set, one.position, one.refused) for one in reversed(history)]

    async def begun(self) -> Assessor:
        assessor = self.assessor()
        await assessor.restore()
        return assessor

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.Task[None]]:
        """An assessor at work; ended as a stopped gateway ends it."""
        task: asyncio.Task[None] = asyncio.create_task(self.assessor().run())
        self.world.clock.register(task)  # type: ignore[arg-type]
        await self.world.clock.settled()
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def passes(self, ms: int) -> None:
        """Time goes on, and everything that falls due happens."""
        clock, until = self.world.clock, self.world.now + ms
        while True:
            await clock.settled()
            due = clock.next_due()
            if due is None or due > until:
                break
            clock.advance(due)
        clock.advance(until)
        await clock.settled()

    async def says(self, *readings: tuple[int, float], device: str = "car") -> None:
        """Readings of the front pads as (ms before now, percent)."""
        messages = [
            (
                f"touchpoint/v1/{device}/telemetry",
                json.dumps({"ts": self.world.now - ago, "signals": {"pad_wear_front": wear}}).encode(),
            )
            for ago, wear in readings
        ]
        await self.journal.append(messages, self.world.now)

    async def wears_out(self) -> None:
        await self.says((20 * MINUTE, 95.0), (0, 95.1))

    async def rules_found(self) -> list[str]:
        return [f.rule for f in await self.world.read(lambda r: r.touchpoints.findings())]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Workplace]:
    async with open_world(tmp_path) as world:
        workplace = Workplace(world, tmp_path)
        async with workplace.journal:
            yield workplace
        await workplace.state.close()


FOUND = ["brake-pads-front-worn"]


async def test_a_finding_outlives_a_database_that_is_away(place: Workplace) -> None:
    async with place.working():
        place.database.away.times = 3
        await place.wears_out()
        await place.passes(MINUTE)
        assert await place.rules_found() == FOUND
        assert [t.state for t in await place.world.touchpoints()] == [State.OPEN]
    assert place.counters.findings == {"brake-pads-front-worn": 1}


async def test_the_state_is_not_saved_ahead_of_a_finding_that_could_not_be_stored(place: Workplace) -> None:
    async with place.working():
        place.database.away.times = 10**6
        await place.wears_out()
        await place.passes(MINUTE)
    place.database.away.times = 0
    assert (await place.state.load())[0] == 0
    async with place.working():
        assert await place.rules_found() == FOUND


async def test_a_state_that_could_not_be_saved_is_saved_whole_the_next_time(place: Workplace) -> None:
    async with place.working():
        await place.says((0, 95.0))
        place.state.away.times = 2
        await place.passes(MINUTE)
        position, states = await place.state.load()
    assert position == place.journal.head()
    assert [device for device, _ in states] == ["car"]
    async with place.working():
        await place.passes(10 * MINUTE)
        assert await place.rules_found() == FOUND


async def test_the_state_of_many_is_stored_part_by_part_and_stands_for_one_position(place: Workplace) -> None:
    many = 3 * STATES_AT_ONCE
    assessor = await place.begun()
    for ago, wear in ((20 * MINUTE, 95.0), (19 * MINUTE, 95.1)):
        for n in range(many):
            await place.says((ago, wear), device=f"car-{n}")
    await assessor.step()
    place.world.clock.advance(place.world.now + STATE_EVERY_MS)
    stood = place.journal.head()
    await assessor._due()
    await assessor._due()
    assert (await place.state.load())[0] == 0  # not all of it yet
    for n in range(many):
        await place.says((10 * MINUTE, 20.0), device=f"car-{n}")  # none of them is worn
    await assessor.step()
    for _ in range(many):
        await assessor._due()
    position, states = await place.state.load()
    assert (position, len(states)) == (stood, many)
    assert len(await place.world.read(lambda r: r.devices.all_facts())) == many
    again = await place.begun()
    await again.step()
    assert sorted(again._engine.dirty()) == sorted(assessor._engine.dirty())


async def test_whoever_stops_it_again_while_it_saves_for_the_last_time_waits_for_that(
    place: Workplace,
) -> None:
    saving, go_on, save = asyncio.Event(), asyncio.Event(), place.state.save

    async def slow_save(position: int, states: Sequence[tuple[str, bytes]]) -> None:
        saving.set()
        await go_on.wait()
        await save(position, states)

    async with place.working() as task:
        await place.says((0, 95.0))
        await place.world.clock.settled()
        place.state.save = slow_save  # type: ignore[method-assign]
        task.cancel()
        await saving.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert (await place.state.load())[0] == place.journal.head() > 0


async def test_what_breaks_unforeseen_saves_nothing(place: Workplace) -> None:
    async with place.working() as task:
        await place.says((0, 95.0))
        await place.passes(MINUTE)
        before = await place.state.load()
        await place.journal.append_controls([{"type": "reset", "device": "car"}], place.world.now)
        await asyncio.gather(task, return_exceptions=True)
        assert isinstance(task.exception(), KeyError)
    assert await place.state.load() == before


async def test_when_nothing_more_arrives_the_journal_is_let_go(place: Workplace) -> None:
    async with place.working():
        await place.says((0, 10.0))
        await place.passes(STATE_EVERY_MS)
        assert place.journal.position("assess") == place.journal.head()
        await place.journal.append_controls([{"type": "tick"}], place.world.now)
        await place.passes(STATE_EVERY_MS)
        assert place.journal.position("assess") == place.journal.head()


async def test_a_silent_device_is_found_while_others_never_stop_talking(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.says((0, 95.0))
    place.world.clock.advance(place.world.now + HOUR)
    ahead, read = 50, place.journal.read

    async def read_and_hear_more(after: int, *, limit: int) -> list[Batch]:
        nonlocal ahead
        if ahead and not await place.rules_found():
            ahead -= 1
            await place.says((0, 10.0), device="car-2")
        return await read(after, limit=limit)

    monkeypatch.setattr(place.journal, "read", read_and_hear_more)
    async with place.working():
        await place.passes(MINUTE)
        assert await place.rules_found() == FOUND
    assert ahead


async def test_time_that_passes_for_nobody_leaves_nothing_in_the_journal(place: Workplace) -> None:
    place.rules = load([("rules.yaml", PATIENT)], SIGNALS)
    async with place.working():
        await place.says((0, 95.0))
        await place.passes(HOUR)
        head = place.journal.head()
        await place.passes(24 * HOUR)
        assert place.journal.head() == head <= 3


async def test_a_reset_that_is_appended_twice_happens_once(place: Workplace) -> None:
    reset = {"type": "reset", "id": "r1", "device": "car", "signals": ["pad_wear_front"]}
    async with place.working():
        await place.wears_out()
        await place.journal.append_controls([reset], place.world.now)
        await place.passes(MINUTE)
    async with place.working():
        place.world.clock.advance(place.world.now + HOUR)
        await place.wears_out()
        await place.passes(MINUTE)
        await place.journal.append_controls([reset], place.world.now)
        await place.passes(MINUTE)
        newest = await place.world.touchpoint()
        assert newest.state is State.OPEN
        assert len(await place.rules_found()) == 2


async def test_an_entry_that_is_read_again_changes_nothing(place: Workplace) -> None:
    """A crash: the effects stand, the state does not."""
    first = await place.begun()
    await place.wears_out()
    await first.step()
    touchpoints = await place.world.touchpoints()
    lines = await place.world.codes()
    again = await place.begun()
    await again.step()
    assert await place.world.touchpoints() == touchpoints
    assert await place.world.codes() == lines


async def test_very_many_findings_let_others_write_in_between(place: Workplace) -> None:
    assessor = await place.begun()
    now = place.world.now
    messages: list[tuple[str, bytes]] = []
    for number in range(2 * EVENTS_AT_ONCE + 1):
        for ago in (20 * MINUTE, 0):
            reading: dict[str, Any] = {"ts": now - ago, "signals": {"pad_wear_front": 95.0}}
            messages.append((f"touchpoint/v1/car-{number}/telemetry", json.dumps(reading).encode()))
    await place.journal.append(messages, now)
    place.database.writes = 0
    await assessor.step()
    assert place.database.writes == 3
    assert sum(place.counters.findings.values()) == 2 * EVENTS_AT_ONCE + 1


async def test_a_finding_that_cannot_be_decided_is_kept_and_said_and_holds_up_nobody(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = decide.decide

    def breaks_over_the_car(records: Records, finding: Finding, *rest: Any) -> str:
        outcome = whole(records, finding, *rest)
        if finding.device == "car":
            raise ZeroDivisionError("a fault of ours, after something was written")
        return outcome

    monkeypatch.setattr(decide, "decide", breaks_over_the_car)
    async with place.working():
        await place.wears_out()
        await place.says((20 * MINUTE, 95.0), (0, 95.1), device="nobodys")
        await place.passes(MINUTE)
        assert sorted(await place.rules_found()) == FOUND + FOUND
        assert await place.world.touchpoints() == []
        lines = await place.world.read(lambda r: r.touchpoints.ledger(limit=10))
        assert sorted(line.code for line in lines) == ["found", "not_decided", "suppressed_no_owner"]
        assert [line.owner for line in lines if line.code == "not_decided"] == ["jana"]
    assert place.counters.decisions["failed"] == 1


# --- rule sets --------------------------------------------------------------------------------


async def test_a_rule_set_holds_from_its_entry_on_and_not_before(place: Workplace) -> None:
    async with place.working():
        await place.says((0, 50.0))
        sources = await place.asks_for(EARLIER)
        await place.passes(MINUTE)
        assert await place.rules_found() == []
        assert await place.held() == [(sources.id, 2, False)]
        assert place.in_force.rule_set == sources.id
        await place.says((0, 51.0))
        await place.passes(MINUTE)
        assert await place.rules_found() == FOUND
    assert (await place.state.load())[0] >= 2


async def test_the_state_is_saved_with_the_new_set_at_once(place: Workplace) -> None:
    assessor = await place.begun()
    await place.says((0, 50.0))
    await place.asks_for(EARLIER)
    await assessor.step()
    assert (await place.state.load())[0] == 2


async def test_an_activation_that_is_interrupted_is_done_again_whole(place: Workplace) -> None:
    async with place.working():
        await place.says((0, 50.0))
        sources = await place.asks_for(EARLIER)
        place.database.away.times = 2
        place.state.away.times = 2
        await place.passes(MINUTE)
        assert await place.held() == [(sources.id, 2, False)]
        await place.says((0, 51.0))
        await place.passes(MINUTE)
        assert await place.rules_found() == FOUND


async def test_a_set_that_this_version_cannot_use_is_refused(place: Workplace) -> None:
    async with place.working():
        await place.asks_for(EARLIER.replace("pad_wear_front", "pad_wear_of_tomorrow"))
        await place.wears_out()
        await place.passes(MINUTE)
        assert await place.rules_found() == FOUND
        assert [(position, refused) for _, position, refused in await place.held()] == [(None, True)]
        assert place.in_force.rule_set == "shipped"


async def test_a_rule_that_is_gone_takes_its_open_matter_with_it(place: Workplace) -> None:
    async with place.working():
        await place.wears_out()
        await place.passes(MINUTE)
        await place.asks_for(EARLIER.replace("brake-pads-front-worn", "another"))
        await place.passes(MINUTE)
        assert (await place.world.touchpoint()).state is State.WITHDRAWN
        assert "withdrawn_rule_gone" in await place.world.codes()


async def test_an_activation_that_is_appended_twice_happens_once(place: Workplace) -> None:
    async with place.working():
        sources = await place.asks_for(EARLIER)
        await place.passes(MINUTE)
        (activation,) = await place.world.read(lambda r: r.rule_sets.history())
        entry = {"type": "rules", "set": sources.id, "id": activation.id}
        await place.journal.append_controls([entry], place.world.now)
        await place.passes(MINUTE)
        assert await place.held() == [(sources.id, 1, False)]


def test_shared_signals_come_in_order_of_position_among_messages() -> None:
    def shared(position: int) -> ContextReading:
        return ContextReading(position=position, name="weather", area="", ts=0, signals={})

    decoded = Decoded(
        telemetry=[(2, "van", 0, {}, None, None), (5, "van", 0, {}, None, None)],
        contexts=[shared(1), shared(4)],
    )
    positions = [m.position if isinstance(m, ContextReading) else m[0] for m in in_order(decoded)]
    assert positions == [1, 2, 4, 5]
