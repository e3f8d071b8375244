"""Quiet hours end when the owner's own clock says so, also in the nights when clocks are changed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.moments import QuietHours, day_start, known_zone, local, minutes_of

BERLIN = "Europe/Berlin"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def night(zone: str = BERLIN, begin: str = "21:00", end: str = "07:00") -> QuietHours:
    return QuietHours(begin=begin, end=end, zone=zone)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-11-22T23:10+01:00", "2026-11-23T07:00+01:00"),  # before midnight
        ("2026-11-23T03:00+01:00", "2026-11-23T07:00+01:00"),  # after it
        ("2026-11-23T07:00+01:00", None),  # the end belongs to the day
        ("2026-11-23T20:59+01:00", None),
        ("2026-11-23T21:00+01:00", "2026-11-24T07:00+01:00"),  # the beginning belongs to the night
        ("2026-03-28T22:00+01:00", "2026-03-29T07:00+02:00"),  # a night of nine hours
        ("2026-10-24T22:00+02:00", "2026-10-25T07:00+01:00"),  # a night of eleven
    ],
)
def test_quiet_hours_end_on_the_owners_clock(now: str, until: str | None) -> None:
    assert night().until(at(now)) == (at(until) if until else None)


def test_the_same_instant_is_quiet_for_one_owner_and_day_for_another() -> None:
    now = at("2026-11-23T07:30+01:00")
    assert night().until(now) is None
    assert night("America/New_York").until(now) == at("2026-11-23T07:00-05:00")


def test_quiet_hours_inside_a_day_and_none_at_all() -> None:
    noon = night(begin="13:00", end="15:00")
    assert noon.until(at("2026-11-23T14:00+01:00")) == at("2026-11-23T15:00+01:00")
    assert noon.until(at("2026-11-23T15:00+01:00")) is None
    assert night(begin="08:00", end="08:00").until(at("2026-11-23T08:00+01:00")) is None
    assert night(begin="08:00", end="08:00").next_begin(at("2026-11-23T08:00+01:00")) is None


def test_an_end_that_happens_twice_is_taken_the_later_time() -> None:
    assert night(end="02:30").until(at("2026-10-24T23:00+02:00")) == at("2026-10-25T02:30+01:00")


def test_an_end_that_never_happens_comes_when_the_clock_has_passed_it() -> None:
    assert night(end="02:30").until(at("2026-03-28T23:00+01:00")) == at("2026-03-29T03:30+02:00")


def test_the_next_night_begins_in_the_evening() -> None:
    assert night().next_begin(at("2026-11-23T07:34+01:00")) == at("2026-11-23T21:00+01:00")
    assert night().next_begin(at("2026-11-23T23:00+01:00")) == at("2026-11-24T21:00+01:00")


@given(
    st.integers(at("2026-01-01T00:00+00:00"), at("2027-12-31T00:00+00:00")),
    st.sampled_from([BERLIN, "America/St_Johns", "Australia/Lord_Howe", "UTC", "Pacific/Apia"]),
    st.integers(0, 1439),
    st.integers(0, 1439),
)
def test_what_is_moved_out_of_quiet_hours_lies_outside_and_not_before(
    now: int, zone: str, begin: int, end: int
) -> None:
    quiet = night(zone, f"{begin // 60:02d}:{begin % 60:02d}", f"{end // 60:02d}:{end % 60:02d}")
    moved = quiet.moved_out(now)
    assert moved >= now
    assert moved - now <= 25 * 3_600_000
    assert quiet.until(moved) is None or quiet.until(now) is not None


def test_an_unknown_zone_is_taken_as_utc_and_can_be_told() -> None:
    assert local(0, "Nowhere/Land") == datetime(1970, 1, 1, tzinfo=UTC)
    assert not known_zone("Nowhere/Land")
    assert not known_zone("../../etc/passwd")
    assert known_zone(BERLIN)


def test_days_begin_at_local_midnight() -> None:
    assert day_start(at("2026-10-25T12:00+01:00"), BERLIN) == at("2026-10-25T00:00+02:00")
    assert day_start(at("2026-10-24T12:00+02:00"), BERLIN, days=2) == at("2026-10-26T00:00+01:00")


@pytest.mark.parametrize("clock", ["7", "7:5", "25:00", "24:01", "-1:00", "12:60", "ab:cd", ""])
def test_what_is_no_local_time_is_refused(clock: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        minutes_of(clock)
