"""Scenario files: what is read, and how faults are told."""

from datetime import UTC, datetime

import pytest

from device_sim.scenario import Scenario, ScenarioError, scenarios

SMALL = """
name: tiny
about: one car
start: 2026-11-22 16:00
span: 2d
owners:
  - {id: ida, name: Ida}
workshops:
  - id: garage
    name: Garage
    bays: [Bay 1]
    hours: {mon: [[08:00, 17:30]]}
    services: [{id: brakes-front, names: {en: Brakes}, minutes: 60}]
    entries:
      2026-11-23: {Bay 1: [08:00 90 Inspection]}
devices:
  - {id: car-1, kind: car, model: Arden 5, owner: ida}
"""


def faults(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as told:
        Scenario.parse(text, "tiny.yaml")
    return list(told.value.faults)


def test_times_are_local_times_of_the_scenario() -> None:
    scenario = Scenario.parse(SMALL)
    assert datetime.fromtimestamp(scenario.start / 1000, UTC) == datetime(2026, 11, 22, 15, tzinfo=UTC)
    assert scenario.end - scenario.start == 2 * 86_400_000


def test_seeds_have_the_shapes_of_the_interfaces() -> None:
    scenario = Scenario.parse(SMALL)
    assert scenario.owners == [
        {"id": "ida", "name": "Ida", "language": "en", "wishes": {}, "time_zone": "Europe/Berlin"}
    ]
    assert scenario.devices == [{"id": "car-1", "kind": "car", "model": "Arden 5", "owner": "ida"}]
    assert scenario.workshops[0]["hours"] == {"mon": [["08:00", "17:30"]]}
    entry = scenario.appointments[0]
    assert (entry["bay"], entry["label"], entry["end"] - entry["start"]) == ("Bay 1", "Inspection", 5_400_000)
    assert datetime.fromtimestamp(entry["start"] / 1000, UTC) == datetime(2026, 11, 23, 7, tzinfo=UTC)


@pytest.mark.parametrize("name", scenarios())
def test_shipped_scenarios_are_good(name: str) -> None:
    assert Scenario.load(name).name == name


def test_all_faults_are_told_at_once_with_their_place() -> None:
    text = SMALL.replace("span: 2d", "span: 2 days").replace("owner: ida}", "owner: ida, colour: red}")
    told = faults(text)
    assert told == [
        "span: '2 days' is no duration; write a number with its unit, such as 30s, 12m, 6h or 10d",
        "devices[0].colour: is no key of a scenario",
    ]


@pytest.mark.parametrize(
    ("change", "by", "told"),
    [
        ("owner: ida", "owner: ivo", "devices[0].owner: nobody has the id 'ivo'"),
        ("model: Arden 5", "model: Boat", "devices[0].model: 'Boat' is no car; there are Arden 5"),
        (
            "08:00 90 Insp",
            "07:00 90 Insp",
            "workshops[0].entries: 2026-11-23 Bay 1 07:00: Garage is closed then",
        ),
        ("[08:00 90 Inspection]", "[08:00 90 A, 09:00 30 B]", "09:00: the bay is taken"),
        ("Bay 1: [08", "Bay 9: [08", "no bay is called 'Bay 9'"),
        ("[08:00 90 Inspection]", "[early]", "'early' is no entry; write it as 08:00 90 Inspection"),
        (
            "- {id: ida, name: Ida}",
            "- {id: ida, name: A}\n  - {id: ida, name: B}",
            "'ida' stands there 2 times",
        ),
        ("start: 2026-11-22 16:00", "start: yesterday", "start: 'yesterday' is no local time"),
        (
            "owner: ida}",
            "owner: ida, marks: {speed: {value: 1, at: 2026-11-22 16:00}}}",
            "marks.speed: a car has",
        ),
        (
            "owner: ida}",
            "owner: ida, faults: [{fault: pump_clogging, onset: 2026-11-22 16:00}]}",
            "pump_clogging is nothing a car can have",
        ),
        (
            "owner: ida}",
            "owner: ida, trips: [{leave: 08:00, arrive: 07:00, days: [mon]}]}",
            "a trip arrives after it left",
        ),
        ("start: 2026", "time_zone: Atlantis\nstart: 2026", "'Atlantis' is no IANA time zone"),
    ],
)
def test_a_fault_says_what_and_where(change: str, by: str, told: str) -> None:
    assert change in SMALL
    assert any(told in fault for fault in faults(SMALL.replace(change, by))), faults(
        SMALL.replace(change, by)
    )


def test_a_scenario_that_is_not_there_says_which_are() -> None:
    with pytest.raises(ScenarioError, match="small-fleet"):
        Scenario.load("nowhere")
