"""`days_until`: in how many days a trend reaches a limit, and no answer where it leads away from it."""

import pytest
from rules_case import Watched, rule


def told(*values: float) -> Watched:
    van = Watched(rule("days_until(temperature, 100, over='30d') < '21d'"))
    for day, value in enumerate(values):
        van.says(f"{5 * day}d", temperature=value)
    return van


@pytest.mark.parametrize(
    "values",
    [
        (80, 84, 88, 92),  # from below, in ten days
        (120, 116, 112, 108),  # from above
        (90, 95, 99, 101),  # has just reached it
        (110, 105, 101, 99),
    ],
)
def test_what_will_be_at_the_limit_in_time_is_found(values: tuple[float, ...]) -> None:
    assert [event.rule for event in told(*values).engine.take()] == ["rule"]


@pytest.mark.parametrize(
    "values",
    [
        (41.1, 41.0, 41.0, 40.9),  # noise of a sensor that is far from it
        (130, 130.1, 130.2, 130.4),
        (40, 41, 42, 43),  # in two months
        (41, 41, 41, 41),
        (80, 90),  # two readings are no line
    ],
)
def test_what_leads_away_or_takes_longer_is_not(values: tuple[float, ...]) -> None:
    assert told(*values).engine.take() == []
