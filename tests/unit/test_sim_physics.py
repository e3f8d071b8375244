"""What use does to the simulated devices, and what their sensors make of it."""

import random
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from device_sim.physics.car import MODELS, NEW_PADS, Car
from device_sim.physics.driving import ROUTES, Profile, drive
from device_sim.physics.sensors import completed, stepped
from device_sim.physics.washing_machine import MODELS as WASHERS
from device_sim.physics.washing_machine import WashingMachine
from device_sim.physics.weather import air_temperature


def arden(**state: float) -> Car:
    return Car(model=MODELS["Arden 5"], **state)  # type: ignore[arg-type]


def driven(car: Car, profile: Profile, *, air: float = 10, pieces: int = 20) -> Car:
    begin = car.now
    car.start(profile)
    for piece in range(1, pieces + 1):
        car.advance(begin + profile.seconds * piece / pieces, air)
    car.stop()
    return car


def a_trip(route: str = "commute", seed: int = 1, seconds: float = 1980) -> Profile:
    return drive(random.Random(seed), seconds, route)


@pytest.mark.parametrize("route", ROUTES)
def test_a_trip_lasts_as_long_as_asked_and_begins_and_ends_standing(route: str) -> None:
    for seed in range(20):
        profile = a_trip(route, seed, 1234)
        assert profile.seconds == pytest.approx(1234)
        assert profile.speed(0) == 0
        assert profile.speed(1233.999) == pytest.approx(0, abs=0.1)
        assert max(profile.speed(second) for second in range(1234)) * 3.6 < 135


def test_speed_never_jumps() -> None:
    profile = a_trip()
    tenths = [profile.speed(i / 10) for i in range(19800)]
    assert max(abs(b - a) for a, b in pairwise(tenths)) < 0.3  # m/s in 0.1 s


def test_distance_and_wear_do_not_depend_on_how_often_one_looks() -> None:
    once, often = driven(arden(), a_trip(), pieces=1), driven(arden(), a_trip(), pieces=977)
    assert once.odometer == pytest.approx(often.odometer)
    assert once.pad_front == pytest.approx(often.pad_front, abs=1e-6)


def test_pads_wear_by_braking_and_so_faster_in_town_than_on_the_motorway() -> None:
    def per_km(route: str) -> float:
        car = arden(pad_front=0)
        for seed in range(20):
            driven(car, a_trip(route, seed))
        return car.pad_front / car.odometer

    assert per_km("town") > 2.5 * per_km("motorway")
    assert 100 / per_km("commute") == pytest.approx(17_000, rel=0.3)


def test_a_unit_that_wears_faster_is_worn_earlier() -> None:
    usual, fast = driven(arden(pad_front=0), a_trip()), driven(arden(pad_front=0, wear_spread=1.3), a_trip())
    assert fast.pad_front == pytest.approx(1.3 * usual.pad_front)


def test_a_worn_out_pad_reports_no_more_than_worn_out() -> None:
    assert driven(arden(pad_front=99.99), a_trip("town")).pad_front == 100


def test_coolant_warms_up_within_minutes_and_stays_at_the_thermostat() -> None:
    car = arden(coolant=8)
    car.start(a_trip(seconds=3000))
    seen = []
    for second in range(0, 3000, 10):
        car.advance(second, 8)
        seen.append(car.coolant)
    warm = next(10 * i for i, t in enumerate(seen) if t >= 80)
    assert 240 <= warm <= 600  # recorded trips: 210 to 620 s, median 370
    assert max(seen) < 90


def test_coolant_cools_down_when_parked() -> None:
    car = arden(coolant=89)
    car.advance(12 * 3600, 5)
    assert 5 < car.coolant < 7


def test_a_coolant_leak_shows_while_driving_and_not_while_parked() -> None:
    car = arden(coolant=60, leaked=0.9)
    car.advance(3600, 8)
    assert car.active_codes() == ()
    driven(car, a_trip(seconds=2400), air=8)
    assert car.coolant > 118
    assert "P0217" in car.active_codes()
    car.repair("cooling-system")
    car.advance(car.now + 8 * 3600, 8)
    driven(car, a_trip(seconds=2400), air=8)
    assert car.coolant < 90


def test_the_battery_dips_while_cranking_and_is_charged_while_driving() -> None:
    rng, car = random.Random(3), arden()
    for _ in range(50):
        assert 7.6 <= car.cranking(rng)["battery_voltage"] <= 10.5  # type: ignore[operator]
        assert 12.5 <= car.readings(rng)["battery_voltage"] <= 12.9  # type: ignore[operator]
    car.start(a_trip())
    assert 13.4 <= car.readings(rng)["battery_voltage"] <= 14.4  # type: ignore[operator]


def test_consumption_is_that_of_a_compact_car() -> None:
    car = arden(fuel=45)
    driven(car, a_trip("commute", seconds=3600))
    assert 4 < 100 * (45 - car.fuel) / car.odometer < 8


def test_an_empty_tank_is_filled() -> None:
    assert driven(arden(fuel=6), a_trip("motorway", seconds=3600)).fuel > 40


def test_new_pads_are_new() -> None:
    car = arden(pad_front=95, pad_rear=50)
    car.repair("brakes-front")
    assert (car.pad_front, car.pad_rear) == (NEW_PADS, 50)


def test_time_does_not_run_backwards() -> None:
    car = arden()
    car.advance(10, 5)
    with pytest.raises(ValueError, match="time runs forward"):
        car.advance(9, 5)


def test_sensors_report_steps() -> None:
    assert stepped(13.8349, 0.01) == 13.83
    assert stepped(300, 1, 0, 250) == 250
    assert completed(94.999, 0.1) == 94.9
    assert completed(94.9999999999, 0.1) == 95.0  # a sum of floats that reached its mark


def washer(**state: float) -> WashingMachine:
    return WashingMachine(model=WASHERS["WashMate 7"], **state)  # type: ignore[arg-type]


def washed(machine: WashingMachine, program: str = "mixed_40", times: int = 1) -> WashingMachine:
    rng = random.Random(1)
    for _ in range(times):
        machine.begin(program, rng)
        machine.finish()
    return machine


def test_washes_are_counted_until_the_next_descaling() -> None:
    machine = washed(washer(), times=41)
    assert machine.washes_since_descale == 41
    washed(machine, "descale")
    assert (machine.washes_since_descale, machine.washes, machine.lime) == (0, 41, 0.0)


def test_hard_water_scales_more_and_hot_washes_more_than_cool_ones() -> None:
    soft, hard = washed(washer(hardness=7)), washed(washer(hardness=21))
    assert hard.lime == pytest.approx(3 * soft.lime)
    assert washed(washer(), "cotton_60").lime > 2 * washed(washer(), "mixed_40").lime
    assert washed(washer(hardness=25), "cotton_60", 100).heating_power < washer().heating_power


def test_a_clogging_pump_drains_longer() -> None:
    assert washer(clogging=0.05).drain_seconds == pytest.approx(35, abs=1)
    assert washer(clogging=0.6).drain_seconds > 80
    clogged = washer(clogging=0.6)
    clogged.repair("drain-pump")
    assert clogged.drain_seconds < 36


def test_worn_dampers_shake() -> None:
    def shake(machine: WashingMachine) -> float:
        rng = random.Random(5)
        machine.begin("cotton_60", rng)
        return float(machine.spinning(rng)["vibration"])

    assert shake(washer(dampers=3.0)) > 2 * shake(washer())


def test_the_air_is_the_same_whoever_asks_and_colder_in_winter() -> None:
    winter, summer = (datetime(2026, month, 20, 8, tzinfo=UTC) for month in (1, 7))
    assert air_temperature("7", winter) == air_temperature("7", winter) != air_temperature("8", winter)
    winters = [air_temperature(str(seed), winter) for seed in range(30)]
    summers = [air_temperature(str(seed), summer) for seed in range(30)]
    assert max(winters) < min(summers)
