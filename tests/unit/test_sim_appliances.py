"""What use and faults do to the simulated appliances, to electric cars, and to all of a car but its drive."""

import random

import pytest

from device_sim.physics import coffee_machine, dishwasher, electric_car, heat_pump, refrigerator
from device_sim.physics.car_body import FILLED, Body
from device_sim.physics.driving import drive
from device_sim.physics.places import PLACES, around, between
from device_sim.physics.washing_machine import MODELS as WASHERS
from device_sim.physics.washing_machine import WashingMachine

RNG = random.Random(1)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# --- electric cars --------------------------------------------------------------------------------------


def driven(model: str, air: float, *, minutes: int = 60) -> electric_car.ElectricCar:
    car = electric_car.ElectricCar(model=electric_car.MODELS[model], charge=90.0)
    car.start(drive(random.Random(3), minutes * 60, "commute"))
    car.advance(minutes * 60, air)
    car.stop()
    return car


def consumption(car: electric_car.ElectricCar) -> float:
    """kWh per 100 km"""
    return (90 - car.charge) / 100 * car.model.capacity * 0.97 / car.odometer * 100


def test_an_electric_car_needs_what_such_cars_need_and_more_in_frost() -> None:
    mild, frost = driven("Meridian E", 20), driven("Meridian E", -8)
    assert 11 < consumption(mild) < 22
    assert consumption(frost) > 1.1 * consumption(mild)


def test_it_charges_to_its_limit_and_ages_by_a_percent_or_two_a_year() -> None:
    car = driven("Tilia E", 10)
    car.charging = True
    car.advance(car.now + 12 * 3600, 10)
    assert car.charge == 80
    before = car.health
    car.age(365)
    assert 0.8 < before - car.health < 2
    with pytest.raises(ValueError, match="time runs forward"):
        car.advance(0, 10)


def test_an_uneven_cell_shows_and_a_repair_ends_it() -> None:
    def gap(car: electric_car.ElectricCar) -> float:
        values = car.readings(RNG)
        return float(str(values["cell_voltage_max"])) - float(str(values["cell_voltage_min"]))

    car = driven("Tilia E", 10)
    assert gap(car) < 0.05
    car.uneven = 1.0
    assert gap(car) > 0.1
    car.repair("traction-battery")
    assert gap(car) < 0.05


# --- all of a car but its drive ---------------------------------------------------------------------------


def test_tyres_lose_air_slowly_and_are_softer_in_the_cold() -> None:
    body = Body()
    body.rest(30 * 86_400)
    assert 1 < FILLED - body.tyres[0] < 5
    warm, cold = (body.pressures(RNG, air, rolling=False) for air in (20, -10))
    assert mean([float(str(v)) for v in warm.values()]) > mean([float(str(v)) for v in cold.values()]) + 25
    body.repair("tyre-pressure", -10)
    filled = body.pressures(RNG, -10, rolling=False)
    assert mean([float(str(v)) for v in filled.values()]) == pytest.approx(FILLED, abs=3)


def test_rain_wears_wipers_and_empties_the_washer() -> None:
    dry, wet = Body(), Body()
    dry.drive(3600, 60, RNG, wet=0.0, town=False, lamp=False)
    wet.drive(3600, 60, RNG, wet=0.9, town=False, lamp=True)
    assert wet.wipers > dry.wipers
    assert wet.washer_fluid < dry.washer_fluid
    assert (wet.mil_minutes, dry.mil_minutes) == (60, 0)


def test_soot_gathers_in_town_and_burns_off_on_the_road() -> None:
    town, road = Body(diesel=True), Body(diesel=True)
    for _ in range(60):
        town.drive(1200, 8, RNG, wet=0, town=True, lamp=False)
        road.drive(1200, 25, RNG, wet=0, town=False, lamp=False)
    assert town.soot > 75
    assert town.regenerating
    assert road.soot < 75


@pytest.mark.parametrize(("leaks", "level"), [(0.0, "NORMAL"), (0.2, "LOW"), (0.7, "CRITICALLY_LOW")])
def test_a_leak_shows_as_a_level(leaks: float, level: str) -> None:
    assert Body(leaks=leaks).state()["coolant_level"] == level


def test_an_inspection_sets_both_intervals_back() -> None:
    body = Body(service_km=400, service_days=10)
    body.repair("inspection")
    state = body.state()
    assert (state["distance_to_service"], state["time_to_service"]) == (30_000, 730 * 86_400)


# --- appliances -----------------------------------------------------------------------------------------


def test_salt_goes_with_hard_water_and_is_filled_up() -> None:
    soft, hard = (dishwasher.Dishwasher(model=dishwasher.MODELS["Tellmar 60"], hardness=h) for h in (7, 21))
    for machine in (soft, hard):
        for _ in range(15):
            machine.program = "auto_60"
            machine.finish()
    assert hard.salt < soft.salt
    hard.salt = 0.0
    assert hard.state()["salt_low"] is True
    hard.repair("refill-salt")
    assert hard.state()["salt_low"] is False
    assert (hard.runs, hard.since_filter) == (15, 15)


def test_a_blocked_arm_stands_still_and_a_weak_heater_warms_slowly() -> None:
    machine = dishwasher.Dishwasher(model=dishwasher.MODELS["Tellmar 60"], program="eco_50")
    well = machine.washing(RNG)
    machine.arm_stuck, machine.scale = 1.0, 1.0
    ill = machine.washing(RNG)
    assert float(str(ill["spray_arm_speed"])) < 15 < float(str(well["spray_arm_speed"]))
    assert float(str(ill["heating_rate"])) < 1 < float(str(well["heating_rate"]))


def test_cups_are_counted_and_jobs_set_their_counters_back() -> None:
    machine = coffee_machine.CoffeeMachine(model=coffee_machine.MODELS["Barista M"])
    for _ in range(100):
        machine.brew(milk=True)
    assert (machine.cups, machine.milk_cups, machine.since_clean) == (100, 100, 100)
    assert machine.water_since_descale == pytest.approx(13)
    assert machine.state()["drip_tray_full"] is True
    for job in ("descale", "water-filter", "clean-brew-unit", "empty-drip-tray", "rinse-milk"):
        machine.repair(job)
    state = machine.state()
    assert [state[k] for k in ("water_since_descale", "cups_brewed", "milk_cups_since_rinse")] == [0, 0, 0]
    assert state["cups"] == 100


def test_a_worn_seal_brews_with_less_pressure() -> None:
    machine = coffee_machine.CoffeeMachine(model=coffee_machine.MODELS["Barista M"])
    well = mean([float(str(machine.brewing(RNG)["brew_pressure"])) for _ in range(30)])
    machine.seal_worn = 1.0
    ill = mean([float(str(machine.brewing(RNG)["brew_pressure"])) for _ in range(30)])
    assert well > 8.5
    assert ill < 5


def test_a_fridge_works_more_in_a_hot_kitchen_and_with_dust() -> None:
    fridge = refrigerator.Refrigerator(model=refrigerator.MODELS["Nordfrost 300"])
    fridge.advance(3600, 20)
    mild = fridge.duty
    fridge.advance(3600, 32)
    hot = fridge.duty
    fridge.dust = 1.0
    fridge.advance(3600, 20)
    assert 25 < mild < 60
    assert hot > mild + 10
    assert fridge.duty > mild + 5


def test_a_heat_pump_is_worse_in_frost_and_with_dirt() -> None:
    pump = heat_pump.HeatPump(model=heat_pump.MODELS["Aerotherm 8"])
    pump.advance(3600, 7)
    assert 3 < pump.cop(35) < 5
    mild = pump.cop(35)
    pump.advance(3600, -10)
    assert pump.cop(35) < mild
    frost = pump.cop(35)
    pump.evaporator_dirty = 1.0
    assert pump.cop(35) < 0.6 * frost
    brine = heat_pump.HeatPump(model=heat_pump.MODELS["Geotherm 10"])
    brine.advance(3600, -10)
    assert brine.cop(35) > 1.2 * frost


def test_hours_and_pressure_of_a_heat_pump_follow_the_season() -> None:
    winter, summer = (heat_pump.HeatPump(model=heat_pump.MODELS["Aerotherm 8"]) for _ in range(2))
    for day in range(30):
        winter.advance(86_400, -2)
        summer.advance(86_400, 20)
        assert day < 30
    assert winter.hours > 4 * summer.hours
    assert winter.pressure < 1.7
    winter.repair("refill-heating-water")
    assert winter.pressure == 1.7


def test_a_washing_machine_wears_its_seal_and_its_bearing_is_heard() -> None:
    machine = WashingMachine(model=WASHERS["WashMate 7"], seal=0.0)
    for _ in range(200):
        machine.begin("cotton_60", RNG)
        machine.finish()
    assert 4 < machine.seal < 10
    machine.begin("cotton_60", RNG)
    calm = machine.more_spinning(RNG)["bearing_vibration"]
    machine.bearing = 1.0
    assert float(str(machine.more_spinning(RNG)["bearing_vibration"])) > float(str(calm)) + 5


# --- places ---------------------------------------------------------------------------------------------


def test_the_way_leads_from_one_place_to_the_other() -> None:
    munich, bozen = PLACES["munich"], PLACES["bozen"]
    assert between(munich, bozen, 0) == (munich.latitude, munich.longitude)
    assert between(munich, bozen, 1) == pytest.approx((bozen.latitude, bozen.longitude))
    north = around(munich, 0.0, 111.2)
    assert north == pytest.approx((munich.latitude + 1, munich.longitude))
