"""Owners who answer and workshops who work, before a gateway that is only a notebook."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from device_sim.api import ApiError
from device_sim.fleet import Message, WasherUnit
from device_sim.people import People
from device_sim.player import Player
from device_sim.scenario import Scenario

CAST = """
name: tiny
about: a car, a machine and a workshop
start: 2026-11-23 00:00
span: 9d
owners:
  - {id: ida, name: Ida, acts: {after: 10m, slot: last, score: 4, comment: Good}}
  - {id: tom, name: Tom, acts: {sees: display, slot: evening}}
  - {id: eva, name: Eva, acts: {visitor: true, answer: not_now, descales: true}}
workshops:
  - id: garage
    name: Garage
    bays: [Bay 1]
    hours: {mon: [[08:00, 17:00]], tue: [[08:00, 17:00]], wed: [[08:00, 17:00]]}
    services: [{id: brakes-front, names: {en: Brakes}, minutes: 60}]
    note: All well.
    parts: {brakes-front: [pads]}
devices:
  - {id: car-ida, kind: car, model: Arden 5, owner: ida,
     marks: {pad_wear_front: {value: 95, at: 2026-11-23 00:00}}}
  - {id: car-tom, kind: car, model: Arden 5, owner: tom, trips: [{days: [tue], leave: 09:00, arrive: 09:20}]}
  - {id: washer-eva, kind: washing_machine, model: WashMate 7, owner: eva, washes: [{days: [sat], at: 09:30}],
     marks: {washes_since_descale: {value: 41, at: 2026-11-23 00:00}}}
"""
TWO_SLOTS = [
    {"id": "garage@1", "start": "2026-11-24T07:00:00.000Z"},
    {"id": "garage@2", "start": "2026-11-25T15:30:00.000Z"},
]


class Notebook:
    """The API: matters and jobs as they are put in, and a note of every POST."""

    def __init__(self) -> None:
        self.matters: dict[str, dict[str, Any]] = {}
        self.jobs: list[dict[str, Any]] = []
        self.questions: list[dict[str, Any]] = []
        self.posted: list[tuple[str, str, Mapping[str, Any]]] = []
        self.refuse: list[int] = []
        """statuses for the next POSTs; 0 is no answer"""

    async def get(self, who: str, path: str, **query: str) -> dict[str, Any]:
        if path == "/appointments":
            return {"items": [job for job in self.jobs if job["state"] == query["state"]]}
        if path.startswith("/appointments/"):
            return next(job for job in self.jobs if path.endswith(job["id"]))
        if path == "/feedback":
            return {"items": [row for row in self.questions if row["owner"] == query["owner"]]}
        return self.matters[path.rpartition("/")[2]]

    async def post(self, who: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.refuse:
            raise ApiError(self.refuse.pop(0), "refused")
        self.posted.append((who, path, dict(body)))
        return {}

    async def put(self, who: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.posted.append((who, path, dict(body)))
        return {}

    async def close(self) -> None: ...


class Displays:
    def __init__(self) -> None:
        self.shown: dict[str, dict[str, dict[str, Any]]] = {}


class Town:
    """A scenario that plays before a notebook."""

    def __init__(self, *, live: bool = False, cast: str = CAST) -> None:
        self.scenario = Scenario.parse(cast).peopled(7)
        self.api, self.displays = Notebook(), Displays()
        self.messages: list[Message] = []
        self.player = Player(self.scenario, 7, self._publish)
        self.people = People(
            self.scenario, seed=7, fleet=self.player.fleet, api=self.api, devices=self.displays, live=live
        )
        for source in self.people.sources():
            self.player.add(source)

    async def _publish(self, device: str, topic: str, payload: bytes) -> None:
        self.messages.append(Message(device, topic, payload))

    def at(self, text: str) -> int:
        return self.scenario.ms(datetime.fromisoformat(text))

    async def until(self, text: str) -> None:
        await self.player.play_until(self.at(text))

    def push(self, owner: str, about: str = "offer", touchpoint: str = "t1") -> None:
        self.people.on_push(owner, {"about": about, "touchpoint": touchpoint}, self.player.now)

    def matter(self, **changes: Any) -> None:
        standing = {
            "state": "open",
            "rule": "pads",
            "device": "car-ida",
            "kind": "appointment",
            "slots": TWO_SLOTS,
        }
        self.api.matters["t1"] = standing | changes


async def test_an_owner_answers_a_push_after_a_while_with_the_time_that_suits() -> None:
    town = Town()
    town.matter()
    await town.until("2026-11-23 08:00")
    town.push("ida")
    await town.until("2026-11-23 08:05")
    assert town.api.posted == []
    await town.until("2026-11-23 08:20")
    assert town.api.posted == [("ida", "/touchpoints/t1/answer", {"action": "book", "slot": "garage@2"})]


async def test_nobody_answers_twice() -> None:
    town = Town()
    town.matter()
    town.push("ida")
    town.push("ida")
    await town.until("2026-11-23 08:00")
    assert len(town.api.posted) == 1


async def test_what_has_been_settled_meanwhile_is_left_alone() -> None:
    town = Town()
    town.matter(state="booked")
    town.push("ida")
    await town.until("2026-11-23 08:00")
    assert town.api.posted == []


async def test_a_slot_that_is_gone_is_replaced_by_the_next() -> None:
    town = Town()
    town.matter()
    town.api.refuse = [409]
    town.push("ida")
    await town.until("2026-11-23 08:00")
    assert len(town.api.posted) == 1


async def test_when_the_gateway_is_away_people_try_again_later() -> None:
    town = Town()
    town.matter()
    town.api.refuse = [0, 503]
    town.push("ida")
    await town.until("2026-11-23 00:40")
    assert town.api.posted == []
    await town.until("2026-11-23 02:00")
    assert len(town.api.posted) == 1


@pytest.mark.parametrize(("kind", "action"), [("appointment", "call_me"), ("reminder", "noted")])
async def test_without_times_there_is_another_answer(kind: str, action: str) -> None:
    town = Town()
    town.matter(slots=[], kind=kind)
    town.push("ida")
    await town.until("2026-11-23 08:00")
    assert town.api.posted[0][2] == {"action": action}


async def test_who_looks_at_the_display_answers_there_after_a_trip() -> None:
    town = Town()
    actions = [{"id": f"book:garage@{town.at(text)}"} for text in ("2026-11-25 09:00", "2026-11-26 16:30")]
    town.displays.shown["car-tom"] = {"t1": {"id": "t1", "actions": [*actions, {"id": "not_now"}]}}
    town.push("tom")
    await town.until("2026-11-24 09:24")
    assert not [m for m in town.messages if m.topic.endswith("/answer")]
    await town.until("2026-11-24 09:26")
    (answer,) = [m for m in town.messages if m.topic.endswith("/answer")]
    assert answer.topic == "touchpoint/v1/car-tom/answer"
    body = json.loads(answer.payload)
    assert (body["touchpoint"], body["action"]) == ("t1", f"book:garage@{town.at('2026-11-26 16:30')}")
    assert body["ts"] == town.at("2026-11-24 09:25")
    assert town.api.posted == []


async def test_the_visitor_is_not_answered_for_until_they_hand_over() -> None:
    town = Town(live=True)
    town.matter()
    town.push("eva")
    await town.until("2026-11-23 12:00")
    assert town.api.posted == []
    town.people.take_over("eva", town.player.now)
    await town.until("2026-11-23 13:00")
    assert town.api.posted == [("eva", "/touchpoints/t1/answer", {"action": "not_now"})]


async def test_headless_the_visitor_acts_as_written() -> None:
    town = Town()
    town.matter()
    town.push("eva")
    await town.until("2026-11-23 12:00")
    assert [body["action"] for _, _, body in town.api.posted] == ["not_now"]


async def test_a_descaling_is_run_on_saturday_when_the_machine_is_free() -> None:
    town = Town()
    town.matter(rule="descale-due", device="washer-eva", kind="reminder", slots=[])
    town.push("eva")
    await town.until("2026-11-28 13:30")
    assert town.api.posted == [("eva", "/touchpoints/t1/answer", {"action": "noted"})]
    unit = town.player.fleet.units["washer-eva"]
    assert isinstance(unit, WasherUnit)
    assert unit.machine.washes_since_descale == 0
    programs = [
        json.loads(m.payload)["data"]["program"]
        for m in town.messages
        if m.device == "washer-eva" and m.topic.endswith("/event")
    ]
    assert programs == ["mixed_40", "mixed_40", "descale", "descale"]


def a_job(**changes: Any) -> dict[str, Any]:
    job = {
        "id": "a1", "state": "confirmed", "touchpoint": "t1", "device": "car-ida", "service": "brakes-front",
        "start": "2026-11-24T08:00:00.000Z", "end": "2026-11-24T09:00:00.000Z",
    }  # fmt: skip
    return job | changes


async def test_a_workshop_finishes_its_job_on_time_and_the_pads_are_new() -> None:
    town = Town()
    town.api.jobs = [a_job(), a_job(id="own", touchpoint=None)]
    await town.until("2026-11-24 09:59")
    assert town.api.posted == []
    assert town.player.fleet.units["car-ida"].car.pad_front == 95  # type: ignore[attr-defined]
    await town.until("2026-11-24 10:00")
    work = {"note": "All well.", "parts": ["pads"]}
    assert town.api.posted == [("garage", "/appointments/a1/done", work)]
    assert town.player.fleet.units["car-ida"].car.pad_front == 2  # type: ignore[attr-defined]


async def test_nobody_drives_a_car_that_is_with_the_workshop() -> None:
    town = Town()
    town.api.jobs = [a_job(device="car-tom")]  # 9 to 10 o'clock, and the trip would have been at 9
    await town.until("2026-11-24 12:00")
    assert not [m for m in town.messages if m.device == "car-tom" and m.topic.endswith("/event")]


async def test_a_job_that_was_moved_is_done_at_its_new_time() -> None:
    town = Town()
    town.api.jobs = [a_job()]
    await town.until("2026-11-24 09:30")
    town.api.jobs = [a_job(end="2026-11-24T14:00:00.000Z")]
    await town.until("2026-11-24 14:00")
    assert town.api.posted == []
    await town.until("2026-11-24 15:00")
    assert len(town.api.posted) == 1


async def test_a_cancelled_job_is_not_done() -> None:
    town = Town()
    town.api.jobs = [a_job()]
    await town.until("2026-11-24 09:30")
    town.api.jobs = [a_job(state="cancelled")]
    await town.until("2026-11-25 17:00")
    assert town.api.posted == []


async def test_a_job_that_could_not_be_reported_is_reported_later() -> None:
    town = Town()
    town.api.jobs = [a_job(end="2026-11-24T09:30:00.000Z")]
    town.api.refuse = [503]
    await town.until("2026-11-24 10:45")
    assert town.api.posted == []
    await town.until("2026-11-24 11:00")
    assert len(town.api.posted) == 1


@pytest.mark.parametrize(("question", "score"), [("csat", 4), ("ces", 6), ("nps", 8)])
async def test_the_one_question_is_answered_on_its_own_scale(question: str, score: int) -> None:
    town = Town()
    town.api.questions = [
        {
            "id": "f1",
            "owner": "ida",
            "question": question,
            "asked_at": "2026-11-22T23:00:00Z",
            "answered_at": None,
        },
        {
            "id": "f2",
            "owner": "ida",
            "question": question,
            "asked_at": "2026-11-29T23:00:00Z",
            "answered_at": None,
        },
    ]
    town.push("ida", "question")
    await town.until("2026-11-23 08:00")
    assert town.api.posted == [("ida", "/feedback/f1", {"score": score, "comment": "Good"})]


# --- people as they are -------------------------------------------------------------------------------

ACTING = CAST.replace("acts: {after: 10m, slot: last, score: 4, comment: Good}", "acts: {%s}")
FULL = ACTING.replace(
    "marks: {pad_wear_front: {value: 95, at: 2026-11-23 00:00}}",
    "reports: full, begins: {pad_wear_front: 95}",
)


async def answers(acts: str, times: int = 2, **matter: Any) -> tuple[Town, list[Mapping[str, Any]]]:
    town = Town(cast=FULL % acts)
    town.matter(matters=[{"service": "brakes-front", "rule": "pads"}], service="brakes-front", **matter)
    for time in range(times):
        await town.until(f"2026-11-{23 + time} 08:00")
        town.people.on_push("ida", {"about": "offer", "touchpoint": "t1"}, town.player.now)
        town.people._persons["ida"]._answered.clear()
        await town.until(f"2026-11-{23 + time} 12:00")
    return town, [body for who, _, body in town.api.posted if who == "ida"]


async def test_who_declines_says_not_now_and_then_never() -> None:
    _, said = await answers("after: 10m, answer: not_now, does: 0.5")
    assert [body["action"] for body in said] == ["not_now", "never"]


async def test_who_snoozes_books_when_asked_again() -> None:
    _, said = await answers("after: 10m, answer: snooze")
    assert said == [{"action": "snooze", "until": "next_week"}, {"action": "book", "slot": "garage@1"}]


async def test_who_goes_elsewhere_has_it_done_there() -> None:
    town, said = await answers("after: 10m, answer: elsewhere, does: 1", times=1)
    assert [body["action"] for body in said] == ["not_now"]
    unit: Any = town.player.fleet.units["car-ida"]
    assert unit.car.pad_front == 95
    while town.player.fleet.next_at() < town.player.now + 15 * 86_400_000:
        town.player.fleet.play()
    assert unit.car.pad_front < 10


async def test_who_ignores_everything_answers_nothing() -> None:
    _, said = await answers("after: 10m, ignores: 1")
    assert said == []


async def test_what_owners_can_do_they_do_and_say_so() -> None:
    town = Town(cast=FULL % "after: 10m, does: 1")
    unit: Any = town.player.fleet.units["car-ida"]
    unit.body.washer_fluid = 0.05
    told = {"service": "washer-fluid", "rule": "washer-fluid-low"}
    town.matter(matters=[told], service="washer-fluid", kind="hint", slots=[])
    await town.until("2026-11-23 08:00")
    town.push("ida")
    await town.until("2026-11-24 12:00")
    assert town.api.posted == [("ida", "/touchpoints/t1/answer", {"action": "already_done"})]
    assert unit.body.washer_fluid == 1.0


JOB = {
    "id": "a1", "touchpoint": "t1", "device": "car-ida", "owner": "ida", "service": "brakes-front",
    "state": "confirmed",
    "start": "2026-11-24T08:00:00.000Z", "end": "2026-11-24T09:00:00.000Z",
}  # fmt: skip


async def worked(cast: str, job: Mapping[str, Any] = JOB) -> Town:
    town = Town(cast=cast)
    town.api.jobs = [dict(job)]
    await town.until("2026-11-25 12:00")
    return town


async def test_a_workshop_on_strike_calls_its_jobs_off() -> None:
    strike = "events: [{what: strike, at: 2026-11-23 00:00, lasts: 3d, workshops: [garage]}]\n"
    town = await worked(CAST + strike)
    assert ("garage", "/appointments/a1/cancel", {}) in town.api.posted
    assert not any(path.endswith("/done") for _, path, _ in town.api.posted)


async def test_who_does_not_come_is_a_no_show_and_nothing_is_mended() -> None:
    town = await worked(FULL % "shows_up: 0")
    assert ("garage", "/appointments/a1/no-show", {}) in town.api.posted
    unit: Any = town.player.fleet.units["car-ida"]
    assert unit.car.pad_front == 95


async def test_a_botched_job_is_said_to_be_done_and_mends_nothing() -> None:
    town = await worked((FULL % "after: 1h").replace("note: All well.", "note: All well.\n    botches: 1"))
    assert any(path.endswith("/done") for _, path, _ in town.api.posted)
    unit: Any = town.player.fleet.units["car-ida"]
    assert unit.car.pad_front == 95


@pytest.mark.parametrize(("counters", "path"), [(0, "confirm"), (1, "counter")])
async def test_a_workshop_on_request_says_yes_or_another_time(counters: int, path: str) -> None:
    cast = CAST.replace(
        "note: All well.", f"note: All well.\n    books: on_request\n    counters: {counters}"
    )
    town = await worked(cast, JOB | {"state": "requested"})
    assert any(posted == f"/appointments/a1/{path}" for _, posted, _ in town.api.posted)


async def test_products_are_sold_and_consents_withdrawn() -> None:
    cast = CAST.replace("slot: last,", "slot: last, withdraws: [{purpose: usage, at: 2026-11-24 10:00}],")
    town = Town(cast=cast + "events: [{what: sale, at: 2026-11-24 09:00, devices: [car-ida], to: tom}]\n")
    await town.until("2026-11-25 00:00")
    assert town.api.posted == [
        ("operator", "/devices/car-ida/owner", {"owner": "tom"}),
        ("ida", "/owners/ida/consents/usage", {"granted": False}),
    ]
