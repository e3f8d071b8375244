"""Trends and percentiles against all readings, one by one."""

from __future__ import annotations

import math
import random
import statistics
import sys
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.windows import LEAST_READINGS, Histogram, Trend, Window, bucket_width

DAY = 86_400_000
SPANS = st.sampled_from([1_000, 61_000, 600_000, DAY, 90 * DAY])
VALUES = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
READINGS = st.lists(st.tuples(st.integers(-5_000, 400_000), VALUES, st.booleans()), min_size=1, max_size=120)
Kept = list[tuple[int, float]]


def fill(
    kept: Window | Histogram, readings: Sequence[tuple[int, float, bool]], out_of_order: bool = True
) -> tuple[Kept, int]:
    """Steps of time, some of them backwards, as long as to cross the span: what was taken, and the newest
    time."""
    span, width = kept.span, kept.width
    taken: Kept = []
    newest = ts = 1_800_000_000_000
    for step, value, late in readings:
        back = late and out_of_order and bool(taken)
        ts = newest - abs(step) * span // 300_000 if back else max(ts, newest) + abs(step) * span // 900_000
        newest = max(newest, ts)
        covered = ts - ts % width + width > newest - span
        assert kept.add(ts, value, newest) is covered
        if covered:
            taken.append((ts, value))
    return taken, newest


def held(taken: Kept, span: int, width: int, at: int) -> Kept:
    """What buckets hold that have not left the span at a time."""
    return [(ts, v) for ts, v in taken if ts - ts % width + width > at - span]


@settings(deadline=None, max_examples=150)
@given(SPANS, READINGS, st.booleans(), st.integers(0, 400))
def test_a_trend_is_what_its_buckets_hold_now_and_later(
    span: int, readings: list[tuple[int, float, bool]], order: bool, later: int
) -> None:
    trend = Trend(span)
    taken, newest = fill(trend, readings, order)
    at = newest + later * span // 300
    inside = [v for ts, v in taken if ts > at - span]
    within = held(taken, span, trend.width, at)
    assert all(ts > at - span - trend.width for ts, _ in within)
    assert len(inside) <= trend.count(at) == len(within)
    if not within:
        unknown = (trend.avg(at), trend.min(at), trend.stddev(at), trend.oldest(at), trend.slope(at))
        assert unknown == (None,) * 5
        return
    values = [v for _, v in within]
    scale = max(map(abs, values))
    assert (trend.min(at), trend.max(at)) == (min(values), max(values))
    for found, exact in ((trend.sum(at), math.fsum(values)), (trend.avg(at), statistics.fmean(values))):
        assert found == pytest.approx(exact, rel=1e-9, abs=1e-9 * scale)
    spread = trend.stddev(at)
    assert spread == pytest.approx(statistics.pstdev(values), rel=1e-9, abs=1e-9 * scale)
    oldest = trend.oldest(at)
    assert oldest is not None
    assert oldest[0] == min(ts for ts, _ in within)
    assert oldest[1] in [v for ts, v in within if ts == oldest[0]]
    last = max(within)
    assert trend.change(at, last[1]) == last[1] - oldest[1]
    if last[0] > oldest[0]:
        rate = (last[1] - oldest[1]) / ((last[0] - oldest[0]) / 3_600_000)
        assert trend.rate(at, last[1], last[0]) == pytest.approx(rate)


def least_squares(points: Kept) -> float:
    """The exact rise per day."""
    days = [ts / DAY for ts, _ in points]
    return statistics.linear_regression(days, [v for _, v in points]).slope


def realistic(seed: int, span: int) -> tuple[Trend, Kept]:
    """Wear over more than a span: a rise, noise of a twentieth of it, pauses, a few readings late."""
    chance, trend = random.Random(seed), Trend(span)
    count, taken, newest = chance.randint(200, 2_000), [], 0
    rise, noise = chance.uniform(5, 50) / span, chance.uniform(0, 0.5)
    ts = 1_800_000_000_000
    for _ in range(count):
        ts += chance.randint(1, 3 * span // count) + (span // 20 if chance.random() < 0.01 else 0)
        when = ts - (chance.randint(0, span // 10) if chance.random() < 0.05 else 0)
        newest = max(newest, when)
        value = 20 + rise * (when - 1_800_000_000_000) + chance.gauss(0, noise)
        if trend.add(when, value, newest):
            taken.append((when, value))
    return trend, held(taken, span, trend.width, newest)


def test_a_slope_is_near_the_exact_fit() -> None:
    """The bound that Trend states, over many series."""
    worst = 0.0
    for seed in range(150):
        trend, within = realistic(seed, (DAY, 30 * DAY, 90 * DAY)[seed % 3])
        found, exact = trend.slope(max(ts for ts, _ in within)), least_squares(within)
        assert found is not None
        worst = max(worst, abs(found - exact) / abs(exact))
    assert worst < BOUND


BOUND = 0.001


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 400_000), st.floats(0, 1), st.booleans()), min_size=3, max_size=100),
    st.floats(-1e3, 1e3).filter(lambda rise: abs(rise) > 1e-3),
)
def test_a_straight_line_is_found_exactly(readings: list[tuple[int, float, bool]], rise: float) -> None:
    trend, newest, ts, origin = Trend(30 * DAY), 0, 1_800_000_000_000, 1_800_000_000_000
    for step, _, late in readings:
        ts += step * 7_000
        when = ts - 5_000 * step if late else ts
        newest = max(newest, when)
        trend.add(when, rise * (when - origin) / DAY, newest)
    found = trend.slope(newest)
    assert found is None or found == pytest.approx(rise, rel=1e-6)


def test_days_until_comes_from_the_line() -> None:
    trend = Trend(30 * DAY)
    for day in range(20):
        trend.add(day * DAY, 50.0 + day, day * DAY)
    assert trend.days_until(19 * DAY, 100, 69.0) == pytest.approx(31)
    assert trend.days_until(24 * DAY, 100, 69.0) == pytest.approx(26)
    assert trend.days_until(19 * DAY, 40, 69.0) is None
    assert trend.days_until(19 * DAY, 60, 69.0) == 0


@settings(deadline=None, max_examples=150)
@given(SPANS, READINGS, st.floats(0, 100), st.integers(0, 400), st.booleans())
def test_a_percentile_is_right_to_a_hundredth_of_the_range(
    span: int, readings: list[tuple[int, float, bool]], percent: float, later: int, order: bool
) -> None:
    low, high = -1e6, 1e6
    histogram = Histogram(span, low, high)
    taken, newest = fill(histogram, readings, order)
    at = newest + later * span // 300
    values = sorted(v for _, v in held(taken, span, histogram.width, at))
    found = histogram.percentile(at, percent)
    if not values:
        assert found is None
        return
    exact = values[max(1, math.ceil(len(values) * percent / 100)) - 1]
    assert found is not None
    assert abs(found - exact) <= (high - low) / 100


def test_what_lies_outside_the_range_counts_at_its_end() -> None:
    histogram = Histogram(60_000, 0, 1e-3)
    for second, value in enumerate((-1e99, 1e99, 9e99)):
        histogram.add(second * 1000, value, second * 1000)
    assert histogram.percentile(2_000, 0) == pytest.approx(0.000_005)
    assert histogram.percentile(2_000, 90) == pytest.approx(0.000_995)


@settings(deadline=None, max_examples=100)
@given(SPANS, READINGS, st.integers(0, 3))
def test_saved_trends_and_percentiles_go_on_exactly(
    span: int, readings: list[tuple[int, float, bool]], later: int
) -> None:
    for make in (lambda: Trend(span), lambda: Histogram(span, -1e6, 1e6)):
        one, other = make(), make()
        _, newest = fill(one, readings)
        other.restore(one.save())
        at = newest + later * span // 2
        for each in (one, other):
            each.add(at, 7.5, at)
        assert other.save() == one.save()
        if isinstance(one, Trend) and isinstance(other, Trend):
            assert (other.stddev(at), other.line(at), other.oldest(at)) == (
                one.stddev(at), one.line(at), one.oldest(at),
            )  # fmt: skip


def size(kept: object) -> int:
    """Bytes of an object with all it holds."""
    found, todo, total = set(), [kept], 0
    while todo:
        item = todo.pop()
        if id(item) in found or isinstance(item, type):
            continue
        found.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            todo += item
        slots = [name for cls in type(item).__mro__ for name in getattr(cls, "__slots__", ())]
        todo += [getattr(item, name) for name in slots if hasattr(item, name)]
    return total


@pytest.mark.parametrize(("what", "memory"), [("window", 5_000), ("trend", 8_000), ("histogram", 11_000)])
def test_ninety_days_at_a_hertz_are_a_few_kilobytes(what: str, memory: int) -> None:
    """As many buckets as there can be, each as wide as it can be: more readings change no size."""
    span, chance = 90 * DAY, random.Random(1)
    sorts: dict[str, Window | Histogram] = {
        "window": Window(span),
        "trend": Trend(span),
        "histogram": Histogram(span, 0, 100),
    }
    kept = sorts[what]
    sizes = []
    for second in range(0, 200 * 86_400, 700):
        kept.add(second * 1000, chance.uniform(0, 100), second * 1000)
        if second % 7_000_000 == 0:
            sizes.append(size(kept))
    assert size(kept) <= memory, size(kept)
    assert len(msgspec.msgpack.encode(kept.save())) <= memory
    assert max(sizes) <= memory


def test_a_baseline_needs_readings_and_a_spread() -> None:
    trend = Trend(DAY)
    for number in range(LEAST_READINGS):
        assert trend.baseline(number, 3.0) is None
        trend.add(number, 0.1, number)
    assert trend.baseline(LEAST_READINGS, 0.1) is None
    trend.add(LEAST_READINGS, 5.0, LEAST_READINGS)
    assert trend.baseline(LEAST_READINGS, 5.0) == pytest.approx(math.sqrt(LEAST_READINGS))


def test_the_width_divides_the_span() -> None:
    for seconds in (1, 7, 60, 61, 997, 3_600, 86_400, 86_413, 400 * 86_400):
        width = bucket_width(seconds * 1000)
        assert seconds * 1000 % width == 0
        assert width * 60 >= seconds * 1000 >= width
