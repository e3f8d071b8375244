"""A job that was done a while ago: its counters count from that day, not from the day somebody said so."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from garage import DAY, HOUR, SIGNALS, World, open_world
from rules_case import Watched, rule

import config
from gateway.adapters.codecs import make_decoder
from gateway.adapters.journal import SqliteJournal
from gateway.adapters.rule_state import SqliteRuleState
from gateway.domain.counters import Counters
from gateway.flow.assess import Assessor
from gateway.ports import StoreUnavailableError
from rules import Engine, load
from rules.readings import Value

WORN = rule("usage(pads) >= 10", resets="[pads]")


def done_when(watched: Watched, stood: float | None) -> Watched:
    watched.position += 1
    then = {} if stood is None else {"pads": stood}
    watched.engine.reset(watched.position, watched.position, "van-1", ["pads"], then)
    return watched


@pytest.mark.parametrize(
    ("stood", "says", "found"),
    [
        (75, 84.9, False),  # 80 - 75 had been counted already
        (75, 85.0, True),
        (80, 89.9, False),  # done just now
        (None, 89.9, False),
        (None, 90.0, True),
        (95, 89.0, True),  # the counter itself began anew since: it stands at 80, and goes on
    ],
)
def test_what_was_counted_since_the_job_still_counts(stood: float | None, says: float, found: bool) -> None:
    watched = Watched(WORN).says("0s", pads=50).says("10s", pads=80)
    watched.story()
    done_when(watched, stood)
    watched.story()
    told = [what for what, _ in watched.says("20s", pads=says).story()]
    assert ("found" in told) is found


class Store:
    """A time series that knows how many cups were brewed when."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away

    async def readings(
        self, device: str, signal: str, *, start: int | None, end: int | None, after: int | None, limit: int
    ) -> Sequence[tuple[int, Value]]:
        if self.away:
            raise StoreUnavailableError("the store is away")
        assert (device, signal, limit) == ("coffee", "cups_brewed", 1)
        return [((start or 0) + HOUR, 940)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(("away", "found"), [(False, True), (True, False)])
async def test_the_time_series_says_what_the_counter_stood_at(
    world: World, tmp_path: Path, away: bool, found: bool
) -> None:
    shipped = config.data_path("rules") / "coffee_machine.yaml"
    rules = load([(shipped.name, shipped.read_text(encoding="utf-8"))], SIGNALS)
    journal = SqliteJournal(tmp_path / "journal.db", readers=("assess",), decoder=make_decoder({}))
    state = SqliteRuleState(tmp_path / "state.db")
    async with journal:
        assessor = Assessor(
            journal=journal,
            database=world.database,
            state=state,
            engine=Engine(rules),
            clock=world.clock,
            counters=Counters(),
            policy=world.policy,
            kind_of=lambda device: "coffee_machine",
            timeseries=Store(away=away),  # type: ignore[arg-type]  # it only reads
        )
        await journal.append([brewed(1_000)], world.now)
        await assessor.step()
        entry = {"type": "reset", "id": "r1", "device": "coffee", "signals": ["cups_brewed"]}
        await journal.append_controls([entry | {"ts": world.now, "since": world.now - 3 * DAY}], world.now)
        await assessor.step()
        before = len(await world.read(lambda r: r.touchpoints.findings(device="coffee")))
        await journal.append([brewed(1_145)], world.now + HOUR)  # 205 since that day, 145 since now
        await assessor.step()
        await assessor.step()
        after = len(await world.read(lambda r: r.touchpoints.findings(device="coffee")))
    await state.close()
    assert (after > before) is found


def brewed(cups: int) -> tuple[str, bytes]:
    return "touchpoint/v1/coffee/telemetry", json.dumps({"signals": {"cups_brewed": cups}}).encode()
