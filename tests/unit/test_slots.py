"""Slots are real: within opening hours of the workshop's zone, on its grid, in a bay that is free."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.appointment import HomeVisits, OpeningException, Part, Service, Workshop
from gateway.domain.moments import local
from gateway.domain.slots import (
    Busy,
    bays_for,
    choose,
    closed_for,
    distance_km,
    earliest_start,
    fault,
    free,
    next_free,
    openings,
    public_holidays,
    reaches,
    together,
)
from gateway.domain.touchpoint import Slot

BERLIN = "Europe/Berlin"
WEEK = ("mon", "tue", "wed", "thu", "fri")
BRAKES = Service(id="brakes-front", names={"en": "Front brakes"}, minutes=60, lead_days=1)
NORD = Workshop(
    id="nord",
    name="Autohaus Nord",
    bays=("Bay 1", "Bay 2"),
    hours=dict.fromkeys(WEEK, (("08:00", "18:30"),)),
    services=(BRAKES,),
)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def wall(slots: list[Slot], zone: str = BERLIN) -> list[str]:
    return [local(slot.start, zone).strftime("%a %d %H:%M") for slot in slots]


def test_the_last_slot_ends_when_the_workshop_closes() -> None:
    slots = free(NORD, BRAKES, at("2026-12-01T00:00+01:00"), at("2026-12-02T00:00+01:00"), ())
    assert wall(slots)[0] == "Tue 01 08:00"
    assert wall(slots)[-1] == "Tue 01 17:30"
    assert len(slots) == 20


def test_weekends_holidays_and_lunch_are_closed() -> None:
    lunch = replace(
        NORD, hours={"thu": (("08:00", "12:00"), ("13:00", "15:00"))}, holidays=("2026-12-24", "2026-12-25")
    )
    week = (at("2026-12-14T00:00+01:00"), at("2026-12-28T00:00+01:00"))
    assert wall(free(lunch, BRAKES, *week, ())) == [
        f"Thu 17 {clock}"
        for clock in (
            "08:00",
            "08:30",
            "09:00",
            "09:30",
            "10:00",
            "10:30",
            "11:00",
            "13:00",
            "13:30",
            "14:00",
        )
    ]
    assert openings(lunch, date(2026, 12, 24)) == []


def test_opening_at_a_quarter_to_begins_on_the_next_half_hour() -> None:
    quarter = replace(NORD, hours={"tue": (("07:45", "09:15"),)})
    slots = free(quarter, BRAKES, at("2026-12-01T00:00+01:00"), at("2026-12-02T00:00+01:00"), ())
    assert wall(slots) == ["Tue 01 08:00"]


def test_a_time_is_offered_while_any_bay_is_free_and_names_that_bay() -> None:
    eight, nine = at("2026-12-01T08:00+01:00"), at("2026-12-01T09:00+01:00")
    one = free(NORD, BRAKES, eight, eight + 1, [("Bay 1", eight, nine, None)])
    assert [(slot.id, slot.bay) for slot in one] == [(f"nord@{eight}", "Bay 2")]
    both: list[Busy] = [("Bay 1", eight, nine, None), ("Bay 2", nine - 1, nine, None)]
    assert free(NORD, BRAKES, eight, eight + 1, both) == []


def test_neighbours_that_only_touch_leave_the_slot_free() -> None:
    single = replace(NORD, bays=("Bay 1",))
    eight = at("2026-12-01T08:00+01:00")
    hour = 3_600_000
    around: list[Busy] = [
        ("Bay 1", eight, eight + hour, None),
        ("Bay 1", eight + 2 * hour, eight + 3 * hour, None),
    ]
    assert wall(free(single, BRAKES, eight, eight + 3 * hour, around)) == ["Tue 01 09:00"]


def test_a_hold_takes_the_slot_from_others_and_not_from_its_holder() -> None:
    single = replace(NORD, bays=("Bay 1",))
    eight = at("2026-12-01T08:00+01:00")
    held: list[Busy] = [("Bay 1", eight, eight + 3_600_000, "mine")]
    assert free(single, BRAKES, eight, eight + 1, held) == []
    assert free(single, BRAKES, eight, eight + 1, held, mine="other") == []
    assert len(free(single, BRAKES, eight, eight + 1, held, mine="mine")) == 1


def test_the_holder_keeps_its_bay() -> None:
    eight = at("2026-12-01T08:00+01:00")
    held: list[Busy] = [("Bay 2", eight, eight + 3_600_000, "mine")]
    assert free(NORD, BRAKES, eight, eight + 1, held, mine="mine")[0].bay == "Bay 2"


def test_clock_changes_move_the_instant_and_not_the_wall_time() -> None:
    sunday = replace(NORD, hours={"sun": (("00:00", "05:00"),)})
    spring = free(sunday, BRAKES, at("2026-03-29T00:00+01:00"), at("2026-03-30T00:00+02:00"), ())
    assert wall(spring) == [
        f"Sun 29 {t}" for t in ("00:00", "00:30", "01:00", "01:30", "03:00", "03:30", "04:00")
    ]
    autumn = free(sunday, BRAKES, at("2026-10-25T00:00+02:00"), at("2026-10-26T00:00+01:00"), ())
    assert len(autumn) == len({slot.start for slot in autumn})
    assert wall(autumn)[0] == "Sun 25 00:00"
    assert autumn[-1].end == at("2026-10-25T05:00+01:00")
    days = free(NORD, BRAKES, at("2026-10-23T00:00+02:00"), at("2026-10-27T00:00+01:00"), ())
    assert {w[:6] for w in wall(days)} == {"Fri 23", "Mon 26"}
    assert {w[7:] for w in wall(days) if w.startswith("Fri")} == {
        w[7:] for w in wall(days) if w.startswith("Mon")
    }


def test_lead_time_counts_whole_days_of_the_workshop() -> None:
    monday = at("2026-11-23T07:34+01:00")
    assert earliest_start(NORD, BRAKES, monday) == at("2026-11-24T00:00+01:00")
    assert earliest_start(NORD, replace(BRAKES, lead_days=8), monday) == at("2026-12-01T00:00+01:00")
    assert earliest_start(NORD, replace(BRAKES, lead_days=0), monday) == monday + 1


def gaps(*times: str) -> list[Slot]:
    return [Slot(workshop="nord", start=at(t), end=at(t) + 3_600_000, bay="Bay 1") for t in times]


def test_proposals_are_an_early_one_and_a_late_one_on_another_day() -> None:
    calendar = gaps(
        "2026-12-01T08:00+01:00",
        "2026-12-01T17:30+01:00",
        "2026-12-02T10:00+01:00",
        "2026-12-02T13:00+01:00",
        "2026-12-03T17:30+01:00",
        "2026-12-04T17:00+01:00",
    )
    assert wall(choose(calendar, BERLIN, 2)) == ["Tue 01 08:00", "Thu 03 17:30"]


def test_after_an_afternoon_comes_an_early_morning() -> None:
    calendar = gaps("2026-12-01T14:00+01:00", "2026-12-02T10:30+01:00", "2026-12-03T08:00+01:00")
    assert wall(choose(calendar, BERLIN, 2)) == ["Tue 01 14:00", "Thu 03 08:00"]


def test_a_thin_calendar_still_gives_what_there_is() -> None:
    assert choose([], BERLIN, 2) == []
    assert wall(choose(gaps("2026-12-01T08:00+01:00"), BERLIN, 2)) == ["Tue 01 08:00"]
    same_day = gaps("2026-12-01T08:00+01:00", "2026-12-01T08:30+01:00", "2026-12-01T09:00+01:00")
    assert wall(choose(same_day, BERLIN, 2)) == ["Tue 01 08:00", "Tue 01 09:00"]
    mornings = gaps("2026-12-01T08:00+01:00", "2026-12-01T14:00+01:00", "2026-12-02T09:00+01:00")
    assert wall(choose(mornings, BERLIN, 2)) == ["Tue 01 08:00", "Wed 02 09:00"]


@given(st.lists(st.integers(0, 2_000), max_size=60), st.integers(1, 4))
def test_proposals_are_free_slots_that_do_not_overlap(halves: list[int], count: int) -> None:
    base = at("2026-11-23T00:00+01:00")
    slots = [
        Slot(workshop="nord", start=base + h * 1_800_000, end=base + h * 1_800_000 + 3_600_000)
        for h in sorted(set(halves))
    ]
    chosen = choose(slots, BERLIN, count)
    assert all(slot in slots for slot in chosen)
    assert all(a.end <= b.start for a, b in itertools.pairwise(chosen))
    assert len(chosen) <= count
    assert bool(chosen) == bool(slots)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(1, 8)), max_size=20),
    st.integers(30, 200),
)
def test_no_free_slot_touches_anything_taken(taken: list[tuple[int, int, int]], minutes: int) -> None:
    base = at("2026-12-01T06:00+01:00")
    busy: list[Busy] = [
        (NORD.bays[bay], base + start * 1_200_000, base + (start + length) * 1_200_000, None)
        for bay, start, length in taken
    ]
    job = replace(BRAKES, minutes=minutes)
    day = local(base, BERLIN).date()
    for slot in free(NORD, job, base, base + 86_400_000, busy):
        assert not any(
            bay == slot.bay and start < slot.end and slot.start < end for bay, start, end, _ in busy
        )
        assert any(opens <= slot.start and slot.end <= closes for _, opens, closes in openings(NORD, day))
        assert local(slot.start, BERLIN).minute in (0, 30)


# --- the whole workshop -----------------------------------------------------------------------

YEAR = (at("2026-01-01T00:00+01:00"), at("2027-01-01T00:00+01:00"))


def week_of(workshop: Workshop, service: Service, monday: str) -> list[str]:
    begin = at(f"{monday}T00:00+01:00")
    return wall(free(workshop, service, begin, begin + 7 * 86_400_000, ()))


def days(slots: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(slot[:6] for slot in slots))


def test_public_holidays_are_those_of_the_country_and_the_region() -> None:
    german = replace(NORD, country="DE", region="BY")
    assert days(week_of(german, BRAKES, "2026-05-25")) == ["Tue 26", "Wed 27", "Thu 28", "Fri 29"]
    corpus_christi = "2026-06-01"
    assert "Thu 04" not in days(week_of(german, BRAKES, corpus_christi))
    assert "Thu 04" in days(week_of(replace(german, region="HH"), BRAKES, corpus_christi))
    assert closed_for(german, date(2026, 5, 25), "de") == "Pfingstmontag"


def test_an_exception_stands_above_holidays_and_hours_and_says_why() -> None:
    open_anyway = OpeningException(date="2026-05-25", hours=(("10:00", "12:00"),), reason="Tyre day")
    training = OpeningException(date="2026-05-26", reason="Training")
    shop = replace(NORD, country="DE", exceptions=(open_anyway, training), holidays=("2026-05-27",))
    slots = week_of(shop, BRAKES, "2026-05-25")
    assert [s for s in slots if s.startswith("Mon")] == ["Mon 25 10:00", "Mon 25 10:30", "Mon 25 11:00"]
    assert days(slots) == ["Mon 25", "Thu 28", "Fri 29"]
    assert (closed_for(shop, date(2026, 5, 25)), closed_for(shop, date(2026, 5, 26))) == (
        "Tyre day",
        "Training",
    )


@pytest.mark.parametrize(("country", "region"), [("XX", None), ("DE", "ZZ")])
def test_a_country_that_nobody_knows_is_said_so(country: str, region: str | None) -> None:
    with pytest.raises(ValueError, match=country):
        public_holidays(country, region, 2026)


def test_several_jobs_are_one_job_of_all_their_time_skills_and_parts() -> None:
    air = Service(
        id="aircon",
        names={},
        minutes=45,
        skills=("aircon",),
        parts=(Part(name="filter", days=5),),
        buffer_minutes=15,
        price_from=90,
        price_to=90,
    )
    whole = together([replace(BRAKES, skills=("ev",), price_from=180, price_to=220), air])
    assert (whole.minutes, whole.skills, whole.buffer_minutes) == (105, ("aircon", "ev"), 15)
    assert (whole.price_from, whole.price_to) == (270, 310)
    both = replace(NORD, skills={"Bay 1": ("ev",), "Bay 2": ("ev", "aircon")})
    assert bays_for(both, whole) == ("Bay 2",)
    assert bays_for(replace(both, bays=("Bay 1",)), whole) == ()
    assert earliest_start(NORD, whole, at("2026-11-23T09:00+01:00")) == at("2026-11-28T00:00+01:00")
    assert together([BRAKES, air]).price_from is None  # one of them states none


@st.composite
def shops(draw: st.DrawFn) -> Workshop:
    opens = draw(st.integers(0, 20))
    closes = draw(st.integers(opens + 1, 24))
    zone = draw(
        st.sampled_from(
            [BERLIN, "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Auckland", "UTC"]
        )
    )
    home = draw(st.sampled_from([None, HomeVisits(window_minutes=90, travel_minutes=20)]))
    every_day = dict.fromkeys((*WEEK, "sat", "sun"), ((f"{opens:02d}:00", f"{closes:02d}:00"),))
    return replace(NORD, time_zone=zone, hours=every_day, home=home)


@given(shops(), st.integers(15, 240), st.integers(0, 60), st.integers(*YEAR), st.booleans(), st.data())
def test_slots_of_any_shop_on_any_day_hold(
    shop: Workshop, minutes: int, buffer: int, when: int, at_home: bool, data: st.DataObject
) -> None:
    """Whatever the zone does to its clocks: within the hours of that day, free with what follows, as long as
    the job takes, none twice; and taking one leaves the others as they were, but for its bay."""
    service = replace(
        BRAKES, minutes=minutes, buffer_minutes=buffer, at_home=at_home and shop.home is not None
    )
    found = free(shop, service, when, when + 3 * 86_400_000, ())
    assert len({slot.start for slot in found}) == len(found)
    for slot in found:
        day = local(slot.start, shop.time_zone).date()
        last = (slot.arrive_until or slot.start) + minutes * 60_000
        assert any(a <= slot.start and last <= b for _, a, b in openings(shop, day))
        assert slot.end - slot.start == minutes * 60_000
        assert local(slot.start, shop.time_zone).minute in (0, 30) or service.at_home
    if found:
        taken = data.draw(st.sampled_from(found))
        until = taken.end + taken.buffer_ms
        rest = free(shop, service, when, when + 3 * 86_400_000, [(taken.bay or "", taken.start, until, None)])
        for slot in rest:
            clear = slot.end + slot.buffer_ms <= taken.start or slot.start >= until
            assert clear or slot.bay != taken.bay


def test_the_hour_that_is_skipped_is_no_slot_and_the_one_that_comes_twice_is_two() -> None:
    night = replace(NORD, hours=dict.fromkeys(("sun",), (("01:00", "04:00"),)))
    spring = wall(free(night, BRAKES, at("2026-03-29T00:00+01:00"), at("2026-03-30T00:00+02:00"), ()))
    assert spring == ["Sun 29 01:00", "Sun 29 01:30", "Sun 29 03:00"]
    autumn = wall(free(night, BRAKES, at("2026-10-25T00:00+02:00"), at("2026-10-26T00:00+01:00"), ()))
    assert autumn == [
        f"Sun 25 {clock}" for clock in ("01:00", "01:30", "02:00", "02:30", "02:00", "02:30", "03:00")
    ]


@pytest.mark.parametrize(
    ("address", "point", "reached"),
    [
        ("Lange Reihe 12, 20099 Hamburg", None, True),
        ("Marienplatz 1, 80331 München", None, False),
        ("Hafenstr. 20099, 80331 München", None, False),  # the last number is the postcode
        ("on the river", (53.55, 10.0), True),
        ("on the river", (53.55, 13.4), False),
        (None, (53.55, 10.0), False),
    ],
)
def test_where_technicians_come(
    address: str | None, point: tuple[float, float] | None, reached: bool
) -> None:
    around = HomeVisits(postcodes=("200", "22"), latitude=53.5511, longitude=9.9937, radius_km=25)
    assert reaches(around, address, point) is reached


def test_without_an_area_they_come_everywhere() -> None:
    assert reaches(HomeVisits(), "Marienplatz 1, 80331 München", None)


def test_distance_on_the_globe() -> None:
    hamburg, berlin = (53.5511, 9.9937), (52.5200, 13.4050)
    assert 254 < distance_km(hamburg, berlin) < 257


def test_who_stands_at_the_door_is_taken_now_or_next() -> None:
    monday = at("2026-11-23T09:10+01:00")
    now = next_free(NORD, BRAKES, monday, ())
    assert now is not None
    assert now.start == monday
    hour = (monday - 600_000, monday + 3_000_000)
    later = next_free(NORD, BRAKES, monday, [("Bay 1", *hour, None), ("Bay 2", *hour, None)])
    assert later is not None
    assert later.start == at("2026-11-23T10:00+01:00")
    evening = next_free(NORD, BRAKES, at("2026-11-23T18:00+01:00"), ())
    assert evening is not None
    assert evening.start == at("2026-11-24T08:00+01:00")


# --- what cannot be meant ---------------------------------------------------------------------

JOB = Service(id="job", names={"en": "Job"}, minutes=60)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"hours": {"mon": (("08:00", "12:00"), ("11:00", "15:00"))}}, "hours of mon"),
        ({"services": (replace(JOB, price_from=5, price_to=1),)}, "price_to of job"),
        ({"services": (replace(JOB, at_home=True),)}, "state home"),
        ({"services": (replace(JOB, skills=("ev",)),)}, "no bay can do job"),
        ({"home": HomeVisits(radius_km=5)}, "latitude and longitude"),
        ({"region": "HH"}, "name the country"),
    ],
)
def test_what_a_workshop_cannot_mean_is_said_with_what_to_do(stated: dict[str, Any], said: str) -> None:
    assert fault(Workshop(id="w", name="W")) is None
    assert said in (fault(Workshop(id="w", name="W", **stated)) or "")


def test_what_a_workshop_can_mean_is_no_fault() -> None:
    able = Workshop(
        id="w",
        name="W",
        bays=("A", "B"),
        skills={"A": ("ev",)},
        hours={"mon": (("08:00", "12:00"), ("12:00", "18:00"))},
        home=HomeVisits(technicians=("B",)),
        services=(replace(JOB, skills=("ev",)), replace(JOB, id="home", at_home=True)),
    )
    assert fault(able) is None
