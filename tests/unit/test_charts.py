"""Charts say what was measured, what is missing and what is to be expected."""

import random
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import config
from gateway.domain.texts import Texts
from gateway.web import charts
from gateway.web.charts import DAY, SignalChart, forecast
from gateway.web.words import Words

TEXTS = Texts({language: config.messages(language) for language in ("en", "de")})
ENGLISH, GERMAN = Words(TEXTS, "en"), Words(TEXTS, "de")
SEPTEMBER = 1_788_220_800_000  # 1 September 2026, 0:00 UTC


def wearing(
    days: int, *, start: float = 12.0, per_day: float = -0.05, noise: float = 0.0, seed: int = 1
) -> list:
    """Brake pads in millimetres, once a day."""
    chance, value, points = random.Random(seed), start, []
    for day in range(days):
        points.append((SEPTEMBER + day * DAY, value))
        value += per_day + chance.gauss(0, noise)
    return points


def drawn(points: list, words: Words = ENGLISH, **more: object) -> str:
    chart = SignalChart(
        points=points, unit="mm", limit=2.0, limit_words="Limit 2 mm", last_words="now", **more
    )  # type: ignore[arg-type]
    return str(charts.signal_chart(chart, words))


# --- forecast ---------------------------------------------------------------------------------


def test_a_steady_wear_is_carried_on_to_the_day_it_meets_the_limit() -> None:
    coming = forecast(wearing(40, start=5.0, per_day=-0.05), 2.0)
    assert coming is not None
    # 39 steps are worn: 3.05 mm are left above nothing, 1.05 above the limit, 21 days
    assert abs(coming.at - (SEPTEMBER + (39 + 21) * DAY)) < DAY
    assert coming.late - coming.early <= 2 * DAY


def test_the_range_widens_with_the_irregularity_of_the_wear() -> None:
    calm, wild = (forecast(wearing(60, start=6, noise=noise), 2.0) for noise in (0.005, 0.03))
    assert calm is not None
    assert wild is not None
    assert wild.late - wild.early > 2 * (calm.late - calm.early)
    for one in (calm, wild):
        assert one.early <= one.at <= one.late


def test_the_truth_lies_within_the_range_about_nineteen_times_in_twenty() -> None:
    hits = tries = 0
    for seed in range(200):
        life = wearing(400, start=6.0, per_day=-0.05, noise=0.02, seed=seed)
        reached = next(ts for ts, value in life if value <= 2.0)
        coming = forecast([p for p in life if p[0] <= SEPTEMBER + 50 * DAY], 2.0)
        if coming is not None:
            tries += 1
            hits += coming.early - DAY <= reached <= coming.late + DAY
    assert tries > 190
    assert 0.85 <= hits / tries <= 1.0


@pytest.mark.parametrize(
    "points",
    [wearing(3), wearing(40, per_day=0.01), wearing(40, per_day=0.0), wearing(40, per_day=-0.0001)],
    ids=["too few days", "moves away", "does not move", "farther than a year"],
)
def test_without_reason_nothing_is_forecast(points: list) -> None:
    assert forecast(points, 2.0) is None


# --- the drawing ------------------------------------------------------------------------------


def test_a_gap_is_dotted_and_named_with_its_days() -> None:
    points = [p for p in wearing(80) if not SEPTEMBER + 31 * DAY <= p[0] < SEPTEMBER + 41 * DAY]
    svg = drawn(points)
    assert svg.count('class="gap"') == 1
    assert svg.count('class="measured"') == 2
    assert "no data" in svg
    assert "1–12\u00a0Oct" in svg
    assert "keine Daten" in drawn(points, GERMAN)


def test_the_limit_stands_on_its_line_and_the_forecast_under_its_dates() -> None:
    points = wearing(60, start=5.0, noise=0.01)
    svg = drawn(points, forecast=forecast(points, 2.0))
    assert "Limit 2 mm" in svg
    for part in ("band", "forecast", "bracket", "dot"):
        assert svg.count(f'class="{part}"') == 1


def test_nothing_is_styled_inline_and_everything_is_well_formed() -> None:
    points = wearing(60, start=5.0, noise=0.01)
    for words in (ENGLISH, GERMAN):
        svg = drawn(points, words, forecast=forecast(points, 2.0), name='<b>"pads"</b>')
        ElementTree.fromstring(svg)
        assert "style=" not in svg
        assert "<script" not in svg


def test_words_of_the_last_value_keep_off_the_measured_line_and_inside_the_drawing() -> None:
    points = wearing(60, start=5.0, noise=0.01)
    svg = drawn(points, forecast=forecast(points, 2.0))
    dot = re.search(r'class="dot" cx="([\d.]+)" cy="([\d.]+)"', svg)
    words = re.search(r'x="([\d.]+)" y="([\d.]+)">now<', svg)
    assert dot is not None
    assert words is not None
    assert float(words[2]) < float(dot[2])
    assert float(words[1]) + 7 * len("now") <= 340


def test_one_reading_is_no_chart() -> None:
    assert drawn(wearing(1)) == ""


@settings(deadline=None)  # a busy machine draws slowly
@given(
    st.lists(
        st.tuples(st.integers(0, 400 * DAY), st.floats(-1e6, 1e6, allow_nan=False)),
        min_size=2,
        max_size=60,
        unique_by=lambda p: p[0],
    )
)
def test_whatever_was_measured_can_be_drawn(points: list) -> None:
    points = [(SEPTEMBER + ts, value) for ts, value in sorted(points)]
    svg = drawn(points, forecast=forecast(points, 2.0))
    ElementTree.fromstring(svg)
    assert "nan" not in svg.lower()


@settings(deadline=None)
@given(st.integers(2, 5_000), st.integers(2, 300))
def test_thinning_keeps_the_ends_and_the_order(many: int, most: int) -> None:
    points = [(SEPTEMBER + k * 60_000, float(k)) for k in range(many)]
    thinned = charts.thin(points, most)
    assert (thinned[0], thinned[-1]) == (points[0], points[-1])
    assert len(thinned) <= most + 3
    assert all(a[0] < b[0] for a, b in pairwise(thinned))


# --- small ones -------------------------------------------------------------------------------


def widths(svg: str, kind: str) -> list[float]:
    return [float(w) for w in re.findall(rf'class="{kind}"[^>]* width="([\d.]+)%', svg)]


def test_a_health_bar_ends_at_its_limit_however_worn() -> None:
    assert widths(charts.health_bar(0.5), "level") == [49.0]
    assert widths(charts.health_bar(7.0), "level") == [98.0]
    assert widths(charts.health_bar(-1.0), "level") == [0.0]


def test_a_wash_bar_has_a_block_for_every_wash() -> None:
    svg = str(charts.wash_bar(41, 50))
    assert (svg.count('class="on"'), svg.count('class="off"')) == (41, 9)


def test_a_wash_bar_of_many_keeps_its_share() -> None:
    svg = str(charts.wash_bar(90, 180))
    assert (svg.count('class="on"'), svg.count('class="off"')) == (30, 30)


def test_a_funnel_shows_each_finding_once_where_it_ended() -> None:
    svg = str(charts.funnel_bar(fulfilled=5, answered=8, sent=9, found=10))
    assert [widths(svg, kind) for kind in "abcd"] == [[50.0], [30.0], [10.0], [10.0]]


def test_the_ribbon_is_thick_where_much_goes_through() -> None:
    def height(rate: float) -> float:
        svg = str(charts.ribbon([rate] * 8))
        top = re.search(r'class="body" d="M0 ([\d.]+)', svg)
        assert top is not None
        return 44 - float(top[1])

    assert height(0) < height(0.001) < height(1) < height(10_000) <= 44


def test_dates_of_one_month_share_it() -> None:
    ninth, twentieth = SEPTEMBER + 8 * DAY, SEPTEMBER + 19 * DAY
    assert charts.dates(ENGLISH, ninth, twentieth) == "9–20\u00a0Sept"
    assert charts.dates(GERMAN, ninth, twentieth) == "9.–20.\u00a0Sept."
    assert charts.dates(ENGLISH, ninth, ninth) == "9\u00a0Sept"
    assert charts.dates(ENGLISH, ninth, ninth + 30 * DAY) == "9\u00a0Sept – 9\u00a0Oct"


def test_silence_up_to_now_is_a_gap_that_is_named() -> None:
    points = wearing(30)
    last = points[-1][0]
    assert "no data since" in drawn(points, until=last + 20 * DAY)
    assert "no data since" not in drawn(points, until=last + 2 * DAY)
    assert drawn(points, until=last + 20 * DAY).count('class="gap"') == 1


def test_every_time_without_data_is_found() -> None:
    points = [(SEPTEMBER + day * DAY, 5.0) for day in (0, 1, 2, 9, 10, 11, 30)]
    assert [(a[0], b[0]) for a, b in charts.gaps(points)] == [
        (SEPTEMBER + 2 * DAY, SEPTEMBER + 9 * DAY),
        (SEPTEMBER + 11 * DAY, SEPTEMBER + 30 * DAY),
    ]
    assert charts.gaps(points[:1]) == []
