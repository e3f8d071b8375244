"""New windows know the past that the time series has, and nothing is found by it."""

from collections.abc import Sequence

import pytest
from garage import DAY, HOUR, MONDAY_MORNING

from gateway.flow import warm as warming
from gateway.flow.warm import warm
from gateway.ports import StoreUnavailableError
from rules import Catalogue, Engine, Found, RuleSet, load
from rules.readings import Value

SIGNALS = Catalogue.parse(
    [
        (
            "car.yaml",
            "kind: car\nsignals:\n  wear: {unit: percent, range: [0, 100], label: {en: Wear, de: Wear}}\n"
            "  level: {unit: percent, range: [0, 100], label: {en: Level, de: Level}}\n",
        )
    ]
)
NOW = MONDAY_MORNING


def rules(*conditions: str) -> RuleSet:
    text = "".join(
        f"\n- id: rule-{number}\n  version: 1\n  kind: car\n  purpose: maintenance\n  severity: advice\n"
        f"  when: {condition}\n  touchpoint: {{kind: hint}}\n"
        for number, condition in enumerate(conditions)
    )
    return load([("rules.yaml", text)], SIGNALS)


class Store:
    """A time series that holds one signal's readings for every device."""

    def __init__(self, *readings: tuple[int, Value], away: bool = False) -> None:
        self.held, self.away, self.asked = readings, away, 0

    async def readings(
        self, device: str, signal: str, *, start: int | None, end: int | None, after: int | None, limit: int
    ) -> Sequence[tuple[int, Value]]:
        if self.away:
            raise StoreUnavailableError("the store is away")
        self.asked += 1
        late = [pair for pair in self.held if (start is None or pair[0] >= start) and pair[0] > (after or 0)]
        return late[:limit] if signal == "wear" else []


def running() -> Engine:
    """A van has said one thing under the rules of before; then there are new ones."""
    engine = Engine(rules("level > 99"))
    engine.register(1, NOW, "van", "car", None)
    engine.readings(2, NOW, "van", "car", ((NOW, {"wear": 10.0, "level": 5.0}),))
    engine.activate(3, NOW, rules("level > 99", "max(wear, '30d') > 60"))
    engine.take()
    return engine


def found(engine: Engine, wear: float) -> list[str]:
    engine.readings(4, NOW + HOUR, "van", "car", ((NOW + HOUR, {"wear": wear}),))
    return [event.rule for event in engine.take() if isinstance(event, Found)]


async def test_a_new_window_knows_what_the_store_knows_and_finds_nothing_by_it() -> None:
    engine = running()
    store = Store((NOW - 40 * DAY, 99.0), (NOW - 3 * DAY, 70.0), (NOW, 10.0))
    assert await warm(engine, store, lambda device: NOW) == 1  # type: ignore[arg-type]  # it only reads
    assert engine.take() == []
    assert engine.cold_devices() == []
    assert found(engine, 11.0) == ["rule-1"]


async def test_what_the_rules_have_not_seen_yet_is_left_to_the_log() -> None:
    engine = running()
    store = Store((NOW, 10.0), (NOW + 2 * HOUR, 90.0))
    await warm(engine, store, lambda device: NOW)  # type: ignore[arg-type]  # it only reads
    assert found(engine, 11.0) == []


async def test_a_long_history_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "PAGE", 2)
    engine = running()
    store = Store(*((NOW - hours * HOUR, 50.0 + hours) for hours in (11, 4, 3, 2, 1)))
    await warm(engine, store, lambda device: NOW)  # type: ignore[arg-type]  # it only reads
    assert store.asked == 3
    assert found(engine, 1.0) == ["rule-1"]


async def test_a_store_that_is_away_leaves_the_window_to_fill_and_to_be_warmed_later() -> None:
    engine = running()
    assert await warm(engine, Store(away=True), lambda device: NOW) == 0  # type: ignore[arg-type]
    assert engine.cold_devices() == ["van"]
    assert found(engine, 61.0) == ["rule-1"]
    assert await warm(engine, Store(), lambda device: NOW, again=True) == 0  # type: ignore[arg-type]
    assert engine.cold_devices() == ["van"]
