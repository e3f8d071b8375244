"""The player: what is published, in which order, and what a seed promises."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from device_sim.fleet import Fleet, Message
from device_sim.player import Player
from device_sim.scenario import Scenario, ScenarioError

HOUR = 3_600_000


class Sink:
    """A broker that acknowledges at once and keeps everything."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def publish(self, device: str, topic: str, payload: bytes) -> None:
        self.messages.append(Message(device, topic, payload))

    def of(self, device: str, what: str) -> list[Any]:
        topic = f"touchpoint/v1/{device}/{what}"
        return [json.loads(m.payload) for m in self.messages if m.topic == topic]


async def played(seed: int = 7, *, step: int | None = None, history: bool = True) -> Sink:
    sink, scenario = Sink(), Scenario.load("small-fleet")
    player = Player(scenario, seed, sink.publish)
    if history:
        await player.play_history()
    at = scenario.start
    while at < scenario.end:
        at = min(at + (step or scenario.end), scenario.end)
        await player.play_until(at)
    assert player.published == len(sink.messages)
    return sink


async def test_the_same_seed_publishes_the_same_bytes_at_any_pace() -> None:
    first, second = await played(), await played(step=7 * 60_000)
    assert first.messages == second.messages
    assert len(first.messages) > 150


async def test_another_seed_is_another_story() -> None:
    assert (await played(7)).messages != (await played(8)).messages


async def test_without_the_history_the_story_is_the_same() -> None:
    with_past, without = await played(), await played(history=False)
    assert with_past.messages[-len(without.messages) :] == without.messages


def readings(sink: Sink, device: str) -> list[dict[str, Any]]:
    bodies = sink.of(device, "telemetry")
    return [item for body in bodies for item in (body if isinstance(body, list) else [body])]


async def test_each_trip_is_told_by_events_and_stands_at_both_ends() -> None:
    sink = await played()
    events = sink.of("car-2", "event")
    assert [event["event"] for event in events] == ["trip_started", "trip_ended"] * (len(events) // 2)
    by_ts = {item["ts"]: item["signals"] for item in readings(sink, "car-2")}
    for event in events:
        assert by_ts[event["ts"]]["speed"] == 0
    assert any(signals["speed"] > 0 for signals in by_ts.values())


async def test_a_state_passes_through_its_mark() -> None:
    sink, scenario = await played(), Scenario.load("small-fleet")
    mark = scenario.ms(scenario.part.devices[1].marks["pad_wear_front"].at)
    worn = [(item["ts"], item["signals"]["pad_wear_front"]) for item in readings(sink, "car-2")]
    before = [value for ts, value in worn if ts < mark - 300_000]
    after = [value for ts, value in worn if ts >= mark]
    assert max(before) < 95.0 <= min(after)
    assert all(a <= b for a, b in pairwise(before))


async def test_washes_are_counted_and_pass_through_their_mark() -> None:
    counts = [r["signals"].get("washes_since_descale") for r in readings(await played(), "washer-1")]
    seen = [count for count in counts if count is not None]
    assert seen[-1] == 31  # 30 on Monday 0:00, one wash on Monday evening


async def test_a_machine_descaled_in_the_past_counts_from_there() -> None:
    text = """
name: tiny
about: a machine that was descaled
start: 2026-11-22 16:00
span: 1d
history: 40d
owners: [{id: ida, name: Ida}]
devices:
  - {id: w, kind: washing_machine, model: WashMate 7, owner: ida,
     washes: [{days: [mon, wed, fri], at: 18:00}],
     marks: {washes_since_descale: {value: 3, at: 2026-11-22 16:00}}}
"""
    fleet = Fleet(Scenario.parse(text), 1)
    items = [item for message in fleet.history() for item in json.loads(message.payload)]
    counts = [i["signals"]["washes_since_descale"] for i in items if "washes_since_descale" in i["signals"]]
    assert counts[-3:] == [1, 2, 3]
    assert counts[-4] > 3


def test_a_mark_that_use_overtakes_is_a_fault() -> None:
    text = """
name: tiny
about: a car that drives more than it may
start: 2026-11-22 16:00
span: 1d
history: 40d
owners: [{id: ida, name: Ida}]
devices:
  - {id: c, kind: car, model: Arden 5, owner: ida,
     trips: [{days: [mon, wed, fri], leave: 8:00, arrive: 9:00}],
     marks: {odometer: {value: 3, at: 2026-11-22 16:00}}}
"""
    with pytest.raises(ScenarioError, match=r"c\.marks\.odometer: use since the history began adds"):
        Fleet(Scenario.parse(text), 1)


def times(messages: Sequence[Any]) -> list[int]:
    return [message["ts"] for message in messages]


async def test_after_a_gap_everything_arrives_late_some_of_it_out_of_order_and_one_twice() -> None:
    sink, scenario = await played(history=False), Scenario.load("small-fleet")
    gap = scenario.part.devices[0].gaps[0]
    begin, end = scenario.ms(gap.begin), scenario.ms(gap.end)
    telemetry = [item for item in sink.of("car-1", "telemetry") if begin <= item["ts"] < end]
    late = times(telemetry)
    assert len(late) > 15
    assert late != sorted(late)
    assert len(late) == len(set(late)) + 1
    whole = [item["seq"] for item in sink.of("car-1", "telemetry")]
    assert sorted(set(whole)) == list(range(1, max(whole) + 1))  # nothing is missing
    states = [m.payload for m in sink.messages if m.topic == "touchpoint/v1/car-1/status"]
    assert states == [b"online", b"offline", b"online"]


async def test_nothing_of_the_gap_is_heard_before_it_ends() -> None:
    sink, scenario = Sink(), Scenario.load("small-fleet")
    player = Player(scenario, 7, sink.publish)
    gap = scenario.part.devices[0].gaps[0]
    await player.play_until(scenario.ms(gap.end) - 1)
    assert not [t for t in times(sink.of("car-1", "telemetry")) if t >= scenario.ms(gap.begin)]
    await player.play_until(scenario.ms(gap.end))
    assert [t for t in times(sink.of("car-1", "telemetry")) if t >= scenario.ms(gap.begin)]


async def test_a_repair_changes_what_the_device_reports() -> None:
    sink, scenario = Sink(), Scenario.load("small-fleet")
    player = Player(scenario, 7, sink.publish)
    await player.play_until(scenario.start + 24 * HOUR)
    player.fleet.repair("car-2", "brakes-front", player.now)
    await player.play_until(scenario.end)
    assert readings(sink, "car-2")[-1]["signals"]["pad_wear_front"] == 2.0


async def test_history_is_a_message_for_each_device_and_day_in_order() -> None:
    scenario = Scenario.load("small-fleet")
    messages = list(Fleet(scenario, 7).history())
    days = [(scenario.local(json.loads(m.payload)[0]["ts"]).date(), json.loads(m.payload)) for m in messages]
    assert [day for day, _ in days] == sorted(day for day, _ in days)
    assert all(item["ts"] < scenario.start for _, items in days for item in items)
    assert {message.device for message in messages} == {"car-1", "car-2", "washer-1"}


async def test_the_player_says_when_something_happens_next() -> None:
    sink, scenario = Sink(), Scenario.load("small-fleet")
    player = Player(scenario, 7, sink.publish)
    assert player.next_at() == scenario.start  # all come online
    await player.play_until(scenario.start)
    following = player.next_at()
    assert following is not None
    assert following > scenario.start
    assert await player.play_until(following - 1) == 0
    assert await player.play_until(following) > 0
