"""Problem clusters: observed against what the fleet would give, and how sure that is."""

from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from gateway.domain.measures import Cell
from gateway.domain.moments import DAY_MS
from gateway.flow.clusters import clusters, poisson

NOW = 100 * DAY_MS


def records(fleet: Mapping[tuple[str, str, str], int], *cells: Cell) -> SimpleNamespace:
    asked: list[tuple[int, int]] = []

    def found(since: int, middle: int) -> list[Cell]:
        asked.append((since, middle))
        return list(cells)

    return SimpleNamespace(analytics=SimpleNamespace(cells=found, fleet=lambda: fleet), asked=asked)


def cell(model: str, observed: int, firmware: str = "1.0", rule: str = "pump-stiff") -> Cell:
    return Cell(
        rule=rule,
        severity="advice",
        kind="dishwasher",
        model=model,
        firmware=firmware,
        observed=observed,
        lately=0,
        first=NOW - DAY_MS,
    )


FLEET = {("dishwasher", "A", "1.0"): 100, ("dishwasher", "B", "1.0"): 900, ("car", "A", "1.0"): 5_000}


def test_what_is_found_more_often_than_the_fleet_gives_comes_first() -> None:
    found = clusters(records(FLEET, cell("B", 15), cell("A", 12)), NOW)  # type: ignore[arg-type]
    assert [(c.cell.model, c.sure) for c in found] == [("A", True), ("B", False)]
    first = found[0]
    assert first.products == 100
    assert first.expected == pytest.approx(100 * 27 / 1_000)
    assert first.ratio is not None
    assert first.ratio[0] == pytest.approx(12 / 2.7)
    assert first.ratio[1] > 1 < first.ratio[2]


def test_a_few_more_than_expected_could_be_chance() -> None:
    found = clusters(records(FLEET, cell("A", 2), cell("B", 8)), NOW)  # type: ignore[arg-type]
    assert not any(c.sure for c in found)


def test_a_group_that_is_all_of_its_kind_has_nothing_to_be_held_against() -> None:
    [only] = clusters(records({("dishwasher", "A", "1.0"): 100}, cell("A", 50)), NOW)  # type: ignore[arg-type]
    assert (only.expected, only.ratio, only.sure) == (None, None, False)


def test_another_kind_and_another_rule_are_no_part_of_what_is_expected() -> None:
    other = cell("B", 500, rule="salt-low")
    found = clusters(records(FLEET, cell("A", 1), other), NOW)  # type: ignore[arg-type]
    mine = next(c for c in found if c.cell.model == "A")
    assert mine.expected == pytest.approx(100 * 1 / 1_000)


def test_the_later_half_of_the_time_is_told_apart() -> None:
    asked = records(FLEET)
    clusters(asked, NOW, days=14)  # type: ignore[arg-type]
    assert asked.asked == [(NOW - 14 * DAY_MS, NOW - 7 * DAY_MS)]


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.025, 5.572), (5, 1.623, 11.668), (20, 12.217, 30.888)]
)
def test_the_limits_are_those_of_the_exact_poisson_interval(count: int, low: float, high: float) -> None:
    """Garwood's exact limits, as tables print them; Byar's come within 2 % from five on."""
    near = 0.35 if count < 5 else 0.02
    assert poisson(count) == (pytest.approx(low, abs=0.02, rel=near), pytest.approx(high, rel=near))
