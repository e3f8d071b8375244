"""What is known of a device now: the newest of each signal, whether it moves, when it parked."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rules_case import ruleset

from gateway.domain.messages import DeviceEvent, Item, Names, Telemetry
from gateway.flow.facts import MANY_SHAPES, SILENT_SPEED_MS, STANDSTILL_MS, FactBook, _Known
from rules import Engine

NOW = 1_795_000_000_000
NO_RULES = Engine(ruleset())


def book() -> FactBook:
    return FactBook(lambda device: "car" if device.startswith("car-") else None)


def tell(facts: FactBook, device: str, *items: Item, received: int = NOW) -> None:
    """One message, whose names nobody knows."""
    facts.pass_on([(0, device, *item, None, None) for item in items], received, -1, NO_RULES)


def drive(facts: FactBook, *speeds: tuple[int, float]) -> None:
    for ts, speed in speeds:
        tell(facts, "car-1", (ts, {"speed": speed}))


def test_the_newest_value_of_each_signal_stands_in_whatever_order_they_come() -> None:
    readings = [
        (1_000, {"speed": 1.0, "odometer": 10.0}),
        (2_000, {"speed": 2.0}),
        (3_000, {"odometer": 30.0}),
        (2_500, {"speed": 2.5, "odometer": 25.0}),
    ]
    for order in permutations(readings):
        facts = book()
        for ts, signals in order:
            tell(facts, "car-1", (ts, signals))
        (known,), _ = facts.take()
        assert known.latest == {"speed": (2_500, 2.5), "odometer": (3_000, 30.0)}


SPEEDS = st.sampled_from([None, 0, 0.0, 30.0, 50, True, "fast"])
SENT = st.lists(
    st.tuples(st.integers(0, 40), SPEEDS, st.booleans(), st.integers(1, 2)), min_size=1, max_size=40
)


@given(SENT)
def test_messages_passed_on_together_say_what_each_says_alone(sent: list[tuple[int, Any, bool, int]]) -> None:
    """(seconds, speed, whether with the odometer, how many readings)"""
    together, alone, known = book(), book(), dict[Names, Names]()
    messages: list[Telemetry] = []
    for position, (seconds, speed, far, number) in enumerate(sent):
        signals = {"odometer": 1.0 * position} if far or speed is None else {}
        if speed is not None:
            signals["speed"] = speed
        names = known.setdefault(tuple(signals), tuple(signals)) if number == 1 else None
        for more in range(number):
            messages.append((position, f"car-{position % 2}", seconds * 20_000 + more, signals, names, None))
    for start in range(0, len(messages), 7):
        together.pass_on(messages[start : start + 7], NOW + start, -1, NO_RULES)
        for _, device, ts, signals, *_ in messages[start : start + 7]:
            tell(alone, device, (ts, signals), received=NOW + start)
        assert (together.parked, together.urgent) == (alone.parked, alone.urgent)
    assert [together.newest(f"car-{n}") for n in (0, 1)] == [alone.newest(f"car-{n}") for n in (0, 1)]
    assert together.take() == alone.take()


def test_a_start_told_ahead_of_its_readings_is_not_taken_back_by_them() -> None:
    facts, names = book(), ("speed",)
    start = DeviceEvent(position=2, device="car-1", ts=300_000, event="trip_started", data={})
    for position, (ts, speed) in enumerate([(0, 50.0), (10_000, 50.0), (200_000, 0.0)]):
        facts.pass_on([(position, "car-1", ts, {"speed": speed}, names, None)], NOW, -1, NO_RULES)
        if not position:
            facts.event(NOW, start)
    assert facts.parked == []


def test_a_device_whose_every_message_names_other_signals_keeps_them_all() -> None:
    facts = book()
    for number in range(3 * MANY_SHAPES):
        tell(facts, "car-1", (number, {f"signal_{number}": 1.0}))
    (known,), _ = facts.take()
    assert len(known.latest) == 3 * MANY_SHAPES


def test_a_traffic_light_is_no_end_of_a_trip() -> None:
    facts = book()
    drive(facts, (0, 50.0), (60_000, 0.0), (STANDSTILL_MS - 1, 0.0), (130_000, 40.0))
    (known,), parked = facts.take()
    assert known.moving
    assert not parked


def test_a_car_that_stands_long_enough_has_parked() -> None:
    facts = book()
    drive(facts, (0, 50.0), (STANDSTILL_MS, 0.0))
    (known,), parked = facts.take()
    assert not known.moving
    assert parked == ["car-1"]


def test_a_car_that_no_longer_says_how_fast_it_is_has_parked() -> None:
    facts = book()
    drive(facts, (0, 50.0))
    tell(facts, "car-1", (SILENT_SPEED_MS, {"odometer": 1.0}))
    assert facts.take()[1] == ["car-1"]


def test_the_end_of_a_trip_is_urgent_and_told_once() -> None:
    facts = book()
    drive(facts, (0, 50.0))
    assert facts.urgent
    facts.take()
    facts.event(NOW, DeviceEvent(position=2, device="car-1", ts=10_000, event="trip_ended", data={}))
    assert facts.urgent
    assert facts.take()[1] == ["car-1"]
    assert facts.take() == ([], [])


def test_late_speed_of_a_past_trip_does_not_start_a_parked_car() -> None:
    facts = book()
    drive(facts, (0, 50.0), (500_000, 20.0))
    facts.event(NOW, DeviceEvent(position=2, device="car-1", ts=600_000, event="trip_ended", data={}))
    facts.take()
    drive(facts, (400_000, 70.0))
    (known,), _ = facts.take()
    assert not known.moving


def test_what_the_database_holds_is_taken_up_again() -> None:
    before = book()
    drive(before, (1_000, 50.0))
    saved, _ = before.take()
    after = book()
    after.restore(saved)
    assert not after.dirty
    drive(after, (500, 10.0))
    assert after.take()[0][0].latest == {"speed": (1_000, 50.0)}


def test_what_cannot_wait_is_taken_alone() -> None:
    facts = book()
    tell(facts, "car-2", (0, {"odometer": 1.0}))
    drive(facts, (0, 50.0))
    urgent, _ = facts.take(0)
    assert [known.device for known in urgent] == ["car-1"]
    rest, _ = facts.take()
    assert [known.device for known in rest] == ["car-2"]


def test_a_trip_told_late_does_not_start_a_parked_car() -> None:
    facts = book()
    drive(facts, (500_000, 50.0))
    facts.event(NOW, DeviceEvent(position=2, device="car-1", ts=600_000, event="trip_ended", data={}))
    facts.take()
    for ts, name in ((100_000, "trip_started"), (200_000, "trip_ended")):
        facts.event(NOW, DeviceEvent(position=3, device="car-1", ts=ts, event=name, data={}))
    (known,), parked = facts.take()
    assert not known.moving
    assert not parked


def test_what_could_not_be_stored_is_taken_again() -> None:
    facts = book()
    drive(facts, (0, 50.0), (STANDSTILL_MS, 0.0))
    taken = facts.take()
    facts.give_back(*taken)
    assert facts.take(0) == taken


def test_what_every_message_touches_lies_in_two_cache_lines() -> None:
    """The first holds an object's head, too; behind 16 bytes of the garbage collector's begins the next."""
    hot, *_ = _Known.__mro__[1:]
    assert hot.__basicsize__ == 64
    assert (16 + _Known.__basicsize__) % 64 == 0
