"""Windows against a brute-force count, and their bounds."""

from __future__ import annotations

import math
from array import array
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from rules.generate import counted
from rules.windows import BUCKETS, Apart, Trend, Window, bucket_width

SPANS = st.sampled_from([1_000, 61_000, 600_000, 86_400_000])
READINGS = st.lists(
    st.tuples(st.integers(-5_000, 400_000), st.floats(-1e6, 1e6), st.booleans()), min_size=1, max_size=200
)


def fill(span: int, readings: list[tuple[int, float, bool]]) -> tuple[Window, list[tuple[int, float]], int]:
    """Steps of time, some of them backwards, scaled so that they cross the span."""
    window, kept, newest, ts = Window(span), [], -(10**9), 1_000_000
    for step, value, late in readings:
        ts = (
            newest - abs(step) * span // 300_000
            if late and kept
            else max(ts, newest) + step * span // 900_000
        )
        newest = max(newest, ts)
        window.add(ts, value, newest)
        kept.append((ts, value))
    return window, kept, newest


@given(SPANS, READINGS)
def test_a_window_misses_nothing_inside_and_holds_nothing_older_than_a_bucket(
    span: int, readings: list[tuple[int, float, bool]]
) -> None:
    window, kept, newest = fill(span, readings)
    inside = [v for ts, v in kept if ts > newest - span]
    almost = [v for ts, v in kept if ts > newest - span - bucket_width(span)]
    assert len(inside) <= window.count(newest) <= len(almost)
    high, low = window.max(newest), window.min(newest)
    assert high is not None
    assert low is not None
    assert max(inside) <= high <= max(almost)
    assert min(almost) <= low <= min(inside)


@given(SPANS, READINGS)
def test_a_window_is_exactly_its_buckets(span: int, readings: list[tuple[int, float, bool]]) -> None:
    window, kept, newest = fill(span, readings)
    width, taken, running = bucket_width(span), [], -(10**9)
    for ts, value in kept:
        running = max(running, ts)
        if ts - ts % width + width > running - span:
            taken.append((ts, value))
    held = [v for ts, v in taken if ts - ts % width + width > newest - span]
    assert window.count(newest) == len(held)
    assert window.max(newest) == max(held)
    assert window.min(newest) == min(held)
    mean = window.avg(newest)
    assert mean is not None
    assert math.isclose(mean, math.fsum(held) / len(held), rel_tol=1e-9, abs_tol=1e-6)


@given(SPANS, READINGS, st.integers(0, 3))
def test_a_saved_window_goes_on_exactly(
    span: int, readings: list[tuple[int, float, bool]], later: int
) -> None:
    window, _, newest = fill(span, readings)
    other = Window(span)
    other.restore(window.save())
    assert other.save() == window.save()
    for each in (window, other):
        each.add(newest + later * span // 2, 7.5, newest + later * span // 2)
    at = newest + later * span // 2
    assert (other.count(at), other.avg(at), other.min(at), other.max(at)) == (
        window.count(at), window.avg(at), window.min(at), window.max(at),
    )  # fmt: skip
    assert other.save() == window.save()


def test_memory_is_bounded_however_long_the_window() -> None:
    window = Window(90 * 86_400_000)
    for second in range(0, 200 * 86_400, 300):
        window.add(second * 1000, 1.0, second * 1000)
    assert len(window.starts) <= BUCKETS + 1


def test_an_empty_window() -> None:
    window = Window(60_000)
    assert (window.count(5), window.avg(5), window.min(5), window.max(5)) == (0, None, None, None)
    window.add(0, 3.0, 0)
    assert window.avg(61_001) is None
    assert window.count(10**12) == 0


def test_what_is_older_than_a_reset_stays_out() -> None:
    window = Window(60_000)
    window.add(10_000, 3.0, 10_000)
    window.clear(20_000)
    assert not window.add(19_999, 3.0, 20_500)
    assert window.add(20_000, 4.0, 20_500)
    assert window.max(20_500) == 4.0


@given(
    st.sampled_from([Window, Trend]),
    SPANS,
    st.lists(
        st.tuples(st.integers(1, 60_000), st.floats(-1e6, 1e6), st.booleans()), min_size=1, max_size=100
    ),
    st.integers(0, 100),
)
def test_readings_that_wait_change_nothing(
    kind: type[Window], span: int, readings: list[tuple[int, float, bool]], cleared: int
) -> None:
    """Taken one by one, or together when the window is asked for; a job may set it back in between."""
    at_once, waiting, ts = kind(span), kind(span), 1_000_000
    times, values = array("d"), array("d")

    def flush() -> None:
        if times:
            waiting.extend(times, values, Apart(times))
        del times[:], values[:]

    for number, (step, value, asked) in enumerate(readings):
        ts += step * span // 900_000 + 1
        at_once.add(ts, value, ts)
        times.append(ts)
        values.append(value)
        if number == cleared:
            flush()
            at_once.clear(ts)
            waiting.clear(ts)
        if asked:
            flush()
            assert waiting.avg(ts) == at_once.avg(ts)
            assert (waiting.min(ts), waiting.max(ts)) == (at_once.min(ts), at_once.max(ts))
    flush()
    assert (waiting.min(ts), waiting.max(ts)) == (at_once.min(ts), at_once.max(ts))
    assert waiting.save() == at_once.save()


def falling() -> Window:
    """A minute of which the first ten seconds have a reading each, the first the largest."""
    window = Window(60_000)
    for second in range(10):
        window.add(second * 1000, 100.0 - second, second * 1000)
    return window


def test_extremes_that_leave_together_with_others_are_forgotten() -> None:
    window = falling()
    assert window.max(9_000) == 100
    window.add(65_000, 1.0, 65_000)
    assert (window.min(65_000), window.max(65_000)) == (1, 95)


def test_what_waits_is_counted_without_being_taken() -> None:
    waiting, times = falling(), [30_000, 64_000]
    rows = array("d", [number for ts in times for number in (ts, 1.0)])
    layout = SimpleNamespace(columns={0: 1}, width=2)
    state = cast(Any, SimpleNamespace(cells=[waiting], rows=rows, layout=layout, ahead={}))
    for at in (64_000, 65_000, 69_999):
        taken = falling()
        taken.extend(times, [1.0, 1.0])
        assert counted(state, 0, at) == taken.count(at)
    assert waiting.count(9_000) == 10
