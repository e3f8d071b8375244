"""Rules over recorded readings: what is counted, and what it is held against."""

from __future__ import annotations

from rules_case import NOON, rule, ruleset

from rules import Engine, RuleSet
from rules.backtest import (
    DAY_MS,
    HOUR_MS,
    Backtest,
    Event,
    KnownDevice,
    Report,
    Row,
    Truth,
    compare,
)

HOT = rule("temperature > 90", id="hot")
HELD = rule("temperature > 90", id="hot", for_="1h")


def hours(*moments: float, device: str = "van-1", value: float = 95) -> list[Row]:
    """At each of these hours it is hot, and half an hour later no more."""
    rows: list[Row] = []
    for moment in moments:
        ts = round(NOON + moment * HOUR_MS)
        rows += [(device, ts, {"temperature": value}), (device, ts + HOUR_MS // 2, {"temperature": 20.0})]
    return rows


def backtest(rules: RuleSet, rows: list[Row], **given: object) -> Backtest:
    taken = Backtest(Engine(rules), lambda _: "van", **given)  # type: ignore[arg-type] # as the test names them
    taken.feed(rows)
    return taken


def report(rows: list[Row], *failures: float, start: float | None = None, end: float | None = None) -> Report:
    """Of the rule for hot vans, against failures of van-1 at these hours, to be announced within 24 hours."""
    truth = Truth(
        events=tuple(
            Event(device="van-1", ts=round(NOON + hour * HOUR_MS), kind="failure:fan") for hour in failures
        ),
        within_ms=DAY_MS,
    )
    edges = [None if edge is None else round(NOON + edge * HOUR_MS) for edge in (start, end)]
    return backtest(ruleset(HOT), rows, end=edges[1]).report(start=edges[0], truth=truth)


def test_an_episode_is_one_touchpoint_and_knows_its_end() -> None:
    told = backtest(ruleset(HOT), hours(0, 5)).report()
    assert [(f.rule, f.found - NOON, f.ended_by) for f in told.findings] == [
        ("hot", 0, "condition"),
        ("hot", 5 * HOUR_MS, "condition"),
    ]
    assert (told.touchpoints, told.touched, told.readings, told.rows) == (2, 1, 4, 4)
    assert told.findings[0].ended == NOON + HOUR_MS // 2


def test_for_falls_due_between_readings_but_not_after_the_last_one() -> None:
    rows: list[Row] = [
        ("van-1", NOON, {"temperature": 95}),
        ("van-2", NOON + 3 * HOUR_MS, {"temperature": 95}),
    ]
    told = backtest(ruleset(HELD), rows).report()
    assert [(f.device, f.found) for f in told.findings] == [("van-1", NOON + HOUR_MS)]


def test_a_file_with_one_device_after_the_other_tells_the_same() -> None:
    one, two = hours(0, 30, 31), hours(2, 29, device="van-2")
    mixed = backtest(ruleset(HELD, rule("speed > 1", id="fast")), sorted(one + two, key=lambda row: row[1]))
    apart = backtest(ruleset(HELD, rule("speed > 1", id="fast")), one + two)
    assert {(f.device, f.found) for f in mixed.report().findings} == {
        (f.device, f.found) for f in apart.report().findings
    }


def test_portions_of_any_size_tell_the_same() -> None:
    rows = hours(0, 3, 9)
    single = Backtest(Engine(ruleset(HOT)), lambda _: "van")
    for row in rows:
        single.feed([row])
    assert single.report() == backtest(ruleset(HOT), rows).report()


def test_a_device_of_unknown_kind_is_counted_and_no_rule_applies() -> None:
    taken = Backtest(Engine(ruleset(HOT)), lambda device: "van" if device == "van-1" else None)
    taken.feed(hours(0) + hours(0, device="thing-1"))
    told = taken.report()
    assert (told.devices, told.without_kind, told.touched) == (2, 1, 1)


def test_what_is_registered_goes_before_what_a_name_suggests() -> None:
    taken = Backtest(
        Engine(ruleset(HOT)), lambda _: None, known={"van-1": KnownDevice(kind="van", model="v2")}
    )
    taken.feed(hours(0))
    assert taken.report().touched == 1


def test_only_the_period_counts_and_earlier_readings_warm_the_windows() -> None:
    warm = rule("avg(temperature, '10h') > 50 and temperature > 90", id="warm")
    rows: list[Row] = [
        ("van-1", NOON, {"temperature": 5.0}),
        ("van-1", NOON + HOUR_MS, {"temperature": 91.0}),
    ]
    assert backtest(ruleset(warm), rows).report().touchpoints == 0
    assert backtest(ruleset(warm), rows[1:]).report().touchpoints == 1
    assert [f.found - NOON for f in report(hours(0, 5, 10), start=5, end=10).findings] == [5 * HOUR_MS]


def test_weeks_begin_on_monday_and_none_is_left_out() -> None:
    told = report(hours(0, 5, 15 * 24))  # NOON is Thursday, 1 January 2026
    assert [week.touchpoints for week in told.weeks] == [2, 0, 1]
    assert told.weeks[0].begins == NOON - 12 * HOUR_MS - 3 * DAY_MS
    assert told.weeks[0].rules == {"hot": 2}


def test_days_between_two_touchpoints_of_a_device_and_bursts() -> None:
    told = report(hours(0, 5, 10, 60, 60 + 24 * 20))
    counts = {(gap.days_from, gap.days_to): gap.count for gap in told.gaps if gap.count}
    assert counts == {(0, 1): 2, (2, 4): 1, (15, 31): 1}
    assert (told.in_bursts, told.largest_burst) == (3, 3)


def test_owners_are_counted_where_they_are_known() -> None:
    rows = hours(0, 5) + hours(7, device="van-2") + hours(8, device="van-3")
    told = backtest(ruleset(HOT), rows).report(owner_at=lambda device, _: {"van-3": None}.get(device, "jana"))
    assert (told.owners, told.rules[0].owners, told.weeks[0].owners) == (1, 1, 1)
    assert backtest(ruleset(HOT), rows).report().owners is None


def test_recall_precision_and_lead_time() -> None:
    score = report(hours(0, 100, 200), 10, 110, 150).score
    assert score is not None
    assert (score.failures, score.announced, score.findings, score.right) == (3, 2, 3, 2)
    assert (score.recall, score.precision) == (2 / 3, 2 / 3)
    assert score.lead is not None
    assert score.lead.median == 10
    assert [failure.ts - NOON for failure in score.missed] == [150 * HOUR_MS]
    assert [alarm.finding.found - NOON for alarm in score.false_alarms] == [200 * HOUR_MS]


def test_the_lead_counts_from_the_first_finding_in_time_and_a_finding_at_the_failure_is_none() -> None:
    score = report(hours(0, 30, 40, 50), 50).score
    assert score is not None
    assert score.lead is not None
    assert (score.lead.median, score.right) == (20, 2)
    late = report(hours(50), 50).score
    assert late is not None
    assert (late.announced, late.right) == (0, 0)


def test_two_failures_at_once_count_twice() -> None:
    score = report(hours(0), 10, 10).score
    assert score is not None
    assert (score.failures, score.announced) == (2, 2)


def test_a_failure_needs_readings_before_it() -> None:
    """None have come before the first, and none for longer than a day before the last."""
    score = report(hours(0, 1), -5, 10, 100).score
    assert score is not None
    assert (score.failures, score.unobserved) == (1, 2)


def test_at_the_edges_a_failure_may_have_been_announced_before_and_a_finding_come_true_after() -> None:
    score = report(hours(0, 40, 60), 10, 65, start=5, end=62).score
    assert score is not None
    assert (score.failures, score.announced) == (1, 1)
    assert (score.findings, score.right) == (2, 1)


def test_what_cannot_be_decided_any_more_counts_as_false_and_says_so() -> None:
    score = report(hours(0, 100), 200).score
    assert score is not None
    assert [alarm.undecided for alarm in score.false_alarms] == [False, True]


def test_events_of_other_kinds_are_no_failures() -> None:
    truth = Truth(events=(Event(device="van-1", ts=NOON + HOUR_MS, kind="maintenance:fan"),))
    score = backtest(ruleset(HOT), hours(0)).report(truth=truth).score
    assert score is not None
    assert (score.failures, score.recall, score.precision) == (0, None, 0)


def test_two_versions_share_the_episodes_that_overlap() -> None:
    rows = [*hours(0, 5), *hours(9, value=97), *hours(30, value=99)]
    new = backtest(ruleset(rule("temperature > 94 and temperature < 98", id="hot")), rows).report()
    old = backtest(ruleset(rule("temperature > 96", id="hot")), rows).report()
    found = compare(new, old)
    assert [(one.found - NOON) // HOUR_MS for one, _ in found.both] == [9]
    assert [(f.found - NOON) // HOUR_MS for f in found.only_first] == [0, 5]
    assert [(f.found - NOON) // HOUR_MS for f in found.only_second] == [30]


def test_readings_out_of_order_are_taken_and_counted_as_late() -> None:
    rows: list[Row] = [("van-1", NOON + HOUR_MS, {"temperature": 20}), ("van-1", NOON, {"temperature": 95})]
    told = backtest(ruleset(HOT), rows).report()
    assert (told.touchpoints, told.late, told.first) == (0, 1, NOON)
