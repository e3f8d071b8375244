"""What integrators rely on, over real stores: /api/v1."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from web_lab import DAY, HOUR, NOW, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.delivery import Attempt, Delivery, DeliveryState
from gateway.domain.device import Facts
from gateway.domain.messages import QuarantineRow
from gateway.domain.times import rfc3339
from gateway.flow import people
from gateway.ports import Records
from gateway.web import looking
from gateway.web.api.endpoint import make_cursor

SUBSCRIPTION = {
    "endpoint": "https://push.example/abc",
    "expirationTime": None,
    "keys": {"p256dh": "B" * 87, "auth": "a" * 22},
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        yield opened


# --- registering ----------------------------------------------------------------------------------


async def test_the_acceptance_bench_registers_an_owner_with_devices(lab: Lab) -> None:
    api = await lab.caller()
    owner = {"id": "o1", "name": "o1", "language": "de", "time_zone": "Europe/Berlin"}
    created = await api("POST", "owners", owner)
    assert created.status == 201
    assert created.body == owner | {
        "email": None,
        "phone": None,
        "address": None,
        "wishes": {},
        "created": "2026-11-23T08:00:00.000Z",
    }
    assert (await api("PUT", "owners/o1/consents/maintenance", {"granted": True})).status == 200
    device = await api("POST", "devices", {"id": "worn-01", "kind": "car", "model": "m1", "owner": "o1"})
    assert device.status == 201
    assert (device.body["kind"], device.body["owner"], device.body["registered"]) == ("car", "o1", True)
    assert [d["id"] for d in await api.all("devices?owner=o1")] == ["worn-01"]


async def test_a_registered_device_is_in_the_journal_before_the_answer(lab: Lab) -> None:
    api = await lab.caller()
    await api("POST", "devices", {"id": "d1", "kind": "car", "model": "m1"})
    entry = {"type": "device", "device": "d1", "kind": "car", "model": "m1", "time_zone": None}
    assert lab.announced == [[entry]]


async def test_the_rules_know_by_which_clock_an_owner_lives_also_after_a_move(lab: Lab) -> None:
    api = await lab.caller()
    await api("POST", "owners", {"id": "jana", "name": "Jana", "time_zone": "Asia/Tokyo"})
    await api("POST", "owners", {"id": "max", "name": "Max", "time_zone": "Europe/Berlin"})
    await api("POST", "devices", {"id": "d1", "kind": "car", "owner": "jana"})
    await api("PUT", "owners/jana", {"name": "Jana", "time_zone": "Asia/Tokyo", "phone": "1"})
    moved = await api("PUT", "owners/jana", {"name": "Jana", "time_zone": "America/Lima"})
    assert (moved.status, moved.body["time_zone"], moved.body["phone"]) == (200, "America/Lima", None)
    await api("PUT", "devices/d1/owner", {"owner": "max"})
    zones = [entry["time_zone"] for entries in lab.announced for entry in entries]
    assert zones == ["Asia/Tokyo", "America/Lima", "Europe/Berlin"]
    assert (await api("PUT", "owners/nobody", {"name": "Nobody"})).status == 404


async def test_a_device_is_its_owners_since_it_was_bought(lab: Lab) -> None:
    api = await lab.caller()
    await lab.owner("jana")
    await api("POST", "devices", {"id": "d1", "kind": "car", "owner": "jana", "purchased": "2026-03-01"})
    owned = await lab.read(lambda r: r.devices.ownerships("d1"))
    assert [rfc3339(o.since) for o in owned] == ["2026-03-01T00:00:00.000Z"]


async def test_all_faults_of_a_body_are_told_at_once_with_what_was_perhaps_meant(lab: Lab) -> None:
    api = await lab.caller()
    body = {"naem": "Jana", "time_zone": "Europe/Berlln", "language": "german", "email": "nobody"}
    refused = await api("POST", "owners", body)
    assert refused.status == 422
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    faults = {e["pointer"]: e["detail"] for e in refused.body["errors"]}
    assert faults["#/naem"] == "naem is not known here; did you mean name?"
    assert faults["#/name"] == "name is missing."
    assert faults["#/time_zone"] == "time_zone: 'Europe/Berlln' is no IANA time zone, such as Europe/Berlin."
    assert set(faults) == {"#/naem", "#/name", "#/time_zone", "#/language", "#/email"}
    assert await api.all("owners") == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"id": "d1", "kind": "cra"}, "#/kind"),
        ({"id": "d1", "kind": "car", "owner": "nobody"}, "#/owner"),
        ({"id": "d1", "kind": "car", "workshop": "nowhere"}, "#/workshop"),
        ({"id": "a/b", "kind": "car"}, "#/id"),
        ({"id": "d1", "kind": "car", "purchased": "2026-02-30"}, "#/purchased"),
        ({"id": "d1", "kind": "car", "name": "a\u0000b"}, "#/name"),
        ({"id": 5, "kind": "car"}, "#/id"),
    ],
)
async def test_a_device_that_cannot_be_is_refused_where_it_is_wrong(
    lab: Lab, body: dict[str, Any], pointer: str
) -> None:
    refused = await (await lab.caller())("POST", "devices", body)
    assert (refused.status, [e["pointer"] for e in refused.body["errors"]]) == (422, [pointer])


async def test_an_id_that_is_taken_is_a_conflict(lab: Lab) -> None:
    api = await lab.caller()
    await api("POST", "owners", {"id": "o1", "name": "One"})
    refused = await api("POST", "owners", {"id": "o1", "name": "Two"})
    assert (refused.status, refused.body["type"]) == (409, "urn:touchpoint:problem:conflict")


async def test_a_transfer_ends_what_the_former_owner_sees(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("max")
    api = await lab.caller()
    await lab.measured("car-1", "speed", (NOW - HOUR, 50.0), (NOW + HOUR, 60.0))
    assert (await api("PUT", "devices/car-1/owner", {"owner": "max"})).status == 200
    jana, new = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.OWNER, "max")
    assert [r["value"] for r in await jana.all("devices/car-1/readings?signal=speed")] == [50.0]
    assert [r["value"] for r in await new.all("devices/car-1/readings?signal=speed")] == [60.0]
    assert (await jana("GET", "devices/car-1")).status == 404
    assert lab.announced[-1][0]["device"] == "car-1"


async def test_an_owner_does_not_read_facts_from_before_they_owned_it(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("max")
    facts = Facts(device="car-1", last_seen=NOW, latest={"odometer": (NOW - DAY, 48_210.0)})

    def work(records: Records) -> None:
        records.devices.put_facts([facts])
        records.devices.transfer("car-1", "max", NOW)

    await lab.write(work)
    shown = await (await lab.caller(Role.OWNER, "max")).get("devices/car-1")
    assert shown["facts"]["latest"] == {}
    seen = await (await lab.caller()).get("devices/car-1")
    assert seen["facts"]["latest"]["odometer"]["value"] == 48_210.0


async def test_a_device_shows_how_far_its_counters_are(lab: Lab) -> None:
    api = await lab.caller()
    await api("POST", "devices", {"id": "w1", "kind": "washing_machine"})
    latest = {"washes_since_descale": (NOW, 118.0), "water_temperature": (NOW, 40.0)}
    await lab.write(lambda r: r.devices.put_facts([Facts(device="w1", last_seen=NOW, latest=latest)]))
    assert (await api.get("devices/w1"))["counters"] == {"washes_since_descale": 118.0}


async def test_a_device_nobody_registered_is_listed_as_unclaimed(lab: Lab) -> None:
    await lab.write(lambda r: r.devices.put_facts([Facts(device="car-7", last_seen=NOW)]))
    api = await lab.caller()
    listed = await api.all("devices?unclaimed=true")
    assert [(d["id"], d["kind"], d["registered"]) for d in listed] == [("car-7", "car", False)]
    assert (await api.get("devices/car-7"))["registered"] is False
    assert (await api("GET", "devices/car-8")).status == 404


# --- lists ----------------------------------------------------------------------------------------


async def test_a_list_is_read_to_its_end_by_its_cursors_and_says_when_it_ends(lab: Lab) -> None:
    for n in range(5):
        await lab.owner(f"owner-{n}")
    api = await lab.caller()
    first = await api.get("owners?limit=2")
    assert (len(first["items"]), first["next"] is None) == (2, False)
    assert [o["id"] for o in await api.all("owners?limit=2")] == [f"owner-{n}" for n in range(5)]
    assert (await api.get("owners?limit=5"))["next"] is None


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=5001", "limit"),
        ("limit=0", "limit"),
        ("cursor=%21", "cursor"),
        ("cursor=bm9uZQ", "cursor"),
        ("limti=5", "limti"),
        ("limit=1&limit=2", "limit"),
    ],
)
async def test_a_query_that_cannot_be_is_refused_by_name(lab: Lab, query: str, parameter: str) -> None:
    refused = await (await lab.caller())("GET", f"owners?{query}")
    assert (refused.status, refused.body["errors"][0]["parameter"]) == (422, parameter)


# --- readings -------------------------------------------------------------------------------------


async def test_readings_come_in_order_page_by_page_each_once(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.measured("car-1", "speed", *((NOW - 7_000 + n * 1_001, float(n)) for n in range(7)))
    api = await lab.caller()
    rows = await api.all("devices/car-1/readings?signal=speed&limit=3")
    assert [r["value"] for r in rows] == [float(n) for n in range(7)]
    assert rows[0] == {"ts": "2026-11-23T07:59:53.000Z", "value": 0.0}


async def test_readings_are_asked_for_by_time_and_by_vss_path(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.measured("car-1", "speed", (NOW - 2 * HOUR, 1.0), (NOW - HOUR, 2.0), (NOW, 3.0))
    api = await lab.caller()
    path = (
        "devices/car-1/readings?signal=Vehicle.Speed&from=2026-11-23T08:00:00+01:00&to=2026-11-23T08:00:00Z"
    )
    assert [r["value"] for r in await api.all(path)] == [2.0]


async def test_intervals_carry_minimum_mean_maximum_and_count(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.measured(
        "car-1", "speed", (NOW - 3 * HOUR, 10.0), (NOW - 3 * HOUR + 1, 30.0), (NOW - HOUR, 5.0)
    )
    api = await lab.caller()
    rows = await api.all(f"devices/car-1/readings?signal=speed&every=1h&from={rfc3339(NOW - DAY)}&limit=1")
    assert rows == [
        {"ts": "2026-11-23T05:00:00.000Z", "min": 10.0, "mean": 20.0, "max": 30.0, "count": 2},
        {"ts": "2026-11-23T07:00:00.000Z", "min": 5.0, "mean": 5.0, "max": 5.0, "count": 1},
    ]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("", "signal"),
        ("signal=speed&every=1h", "from"),
        ("signal=speed&every=1fortnight&from=2026-11-23T08:00:00Z", "every"),
        ("signal=speed&every=1s&from=2020-01-01T00:00:00Z", "every"),
        ("signal=speed&from=2026-11-23T08:00:00", "from"),
        ("signal=speed&from=yesterday", "from"),
        (f"signal=speed&cursor={make_cursor('²')}", "cursor"),
        (f"signal=speed&cursor={make_cursor('--1')}", "cursor"),
    ],
)
async def test_readings_that_cannot_be_asked_for_name_the_parameter(
    lab: Lab, query: str, parameter: str
) -> None:
    await lab.owner("jana", "car-1")
    refused = await (await lab.caller())("GET", f"devices/car-1/readings?{query}")
    assert (refused.status, refused.body["errors"][0]["parameter"]) == (422, parameter)


# --- consent and wishes ---------------------------------------------------------------------------


async def test_consent_keeps_its_history_and_the_newest_entry_holds(lab: Lab) -> None:
    await lab.owner("jana")
    jana = await lab.caller(Role.OWNER, "jana")
    await jana("PUT", "owners/jana/consents/marketing", {"granted": True})
    lab.clock.advance(NOW + HOUR)
    for _ in range(2):
        withdrawn = await jana("PUT", "owners/jana/consents/marketing", {"granted": False})
    assert withdrawn.body["granted"] is False
    assert [(e["granted"], e["source"]) for e in withdrawn.body["history"]] == [
        (False, "owner"),
        (True, "owner"),
    ]
    never = await jana.get("owners/jana/consents/usage")
    assert (never["granted"], never["history"]) == (False, [])


async def test_withdrawn_consent_withdraws_what_waits_for_an_answer(lab: Lab) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    matter = await lab.worn_pads("car-1", "jana")
    jana = await lab.caller(Role.OWNER, "jana")
    await jana("PUT", "owners/jana/consents/maintenance", {"granted": False})
    assert (await jana.get(f"touchpoints/{matter.id}"))["state"] == "withdrawn"


async def test_preferences_are_set_and_shown(lab: Lab) -> None:
    await lab.owner("jana")
    jana = await lab.caller(Role.OWNER, "jana")
    wishes = {
        "quiet_from": "22:00",
        "quiet_to": "06:30",
        "channels": ["display"],
        "muted": ["brake-pads-front-worn"],
        "weekly_budget": 1,
        "marketing_budget": 0,
    }
    assert (await jana("PUT", "owners/jana/preferences", wishes)).status == 200
    assert await jana.get("owners/jana/preferences") == wishes


async def test_what_holds_is_shown_to_who_never_set_anything(lab: Lab) -> None:
    await lab.owner("jana")
    jana = await lab.caller(Role.OWNER, "jana")
    shown = await jana.get("owners/jana/preferences")
    policy = lab.context.policy
    assert shown["quiet_from"] == policy.quiet_from
    assert (shown["weekly_budget"], shown["marketing_budget"]) == (
        policy.weekly_budget,
        policy.marketing_budget,
    )


async def test_only_rules_that_there_are_can_be_muted(lab: Lab) -> None:
    await lab.owner("jana")
    jana = await lab.caller(Role.OWNER, "jana")
    refused = await jana("PUT", "owners/jana/preferences", {"muted": ["no-such-rule"]})
    assert refused.status == 422
    assert "there is no rule no-such-rule" in refused.body["detail"]


async def test_a_browser_subscribes_once_and_is_taken_out_again(lab: Lab) -> None:
    await lab.owner("jana")
    jana = await lab.caller(Role.OWNER, "jana")
    first = await jana("POST", "owners/jana/subscriptions", SUBSCRIPTION)
    again = await jana("POST", "owners/jana/subscriptions", SUBSCRIPTION | {"label": "Phone"})
    assert (first.status, first.body["id"]) == (201, again.body["id"])
    assert [s["label"] for s in await jana.all("owners/jana/subscriptions")] == ["Phone"]
    assert (await jana("DELETE", f"owners/jana/subscriptions/{first.body['id']}")).status == 204
    assert await jana.all("owners/jana/subscriptions") == []


async def test_a_push_service_without_tls_is_refused(lab: Lab) -> None:
    await lab.owner("jana")
    jana = await lab.caller(Role.OWNER, "jana")
    body = SUBSCRIPTION | {"endpoint": "http://127.0.0.1:8080/internal"}
    assert (await jana("POST", "owners/jana/subscriptions", body)).status == 422


async def test_the_ledger_says_what_was_found_and_what_came_of_it_newest_first(lab: Lab) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    await lab.worn_pads("car-1", "jana")
    lines = await (await lab.caller(Role.OWNER, "jana")).all("owners/jana/ledger?limit=1")
    assert lines[-1]["code"] == "found"
    assert lines[-1]["params"]["rule"] == "brake-pads-front-worn"
    assert all(line["text"] for line in lines)


# --- from offer to feedback -----------------------------------------------------------------------


async def test_a_matter_goes_from_offer_to_feedback_by_the_api_alone(lab: Lab) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    matter = await lab.worn_pads("car-1", "jana")
    jana, north = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.WORKSHOP, "north")

    held = await jana("POST", f"touchpoints/{matter.id}/hold")
    slots = held.body["slots"]
    assert held.status == 201
    assert all(slot["held_until"] for slot in slots)
    answered = await jana(
        "POST", f"touchpoints/{matter.id}/answer", {"action": "book", "slot": slots[1]["id"]}
    )
    assert (answered.status, answered.body["state"]) == (201, "booked")
    assert answered.body["answer"]["channel"] == "api"

    [visit] = await north.all("appointments")
    assert (visit["start"], visit["state"]) == (slots[1]["start"], "confirmed")
    assert visit["diagnosis"]["rule"] == "brake-pads-front-worn"
    done = await north("POST", f"appointments/{visit['id']}/done", {"note": "new pads", "parts": ["PF-1"]})
    assert (done.status, done.body["state"], done.body["work"]["parts"]) == (201, "done", ["PF-1"])
    assert [(e["type"], e["signals"]) for e in lab.announced[-1]] == [("reset", ["pad_wear_front"])]

    [question] = await jana.all("feedback")
    rated = await jana("POST", f"feedback/{question['id']}", {"score": 5, "comment": "quick"})
    assert (rated.status, rated.body["score"]) == (201, 5)
    assert (await jana.get(f"touchpoints/{matter.id}"))["state"] == "fulfilled"
    [funnel] = (await (await lab.caller()).get("analytics/funnel"))["items"]
    assert (funnel["rule"], funnel["fulfilled"]) == ("brake-pads-front-worn", 1)


async def test_the_same_answer_gives_the_first_one_back_and_another_one_is_refused(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    matter = await lab.worn_pads("car-1", "jana")
    jana = await lab.caller(Role.OWNER, "jana")
    path = f"touchpoints/{matter.id}/answer"
    first = await jana("POST", path, {"action": "not_now"})
    lab.clock.advance(NOW + HOUR)
    assert (await jana("POST", path, {"action": "not_now"})).body == first.body
    refused = await jana("POST", path, {"action": "already_done"})
    assert (refused.status, refused.body["holds"]["answer"]["action"]) == (409, "not_now")


async def test_a_slot_that_is_gone_is_answered_with_the_next_ones(lab: Lab) -> None:
    await lab.workshop()
    for name in ("jana", "max"):
        await lab.owner(name, f"car-{name}", workshop="north")
    first = await lab.worn_pads("car-jana", "jana")
    second = await lab.worn_pads("car-max", "max")
    slot = first.slots[0].id
    assert slot == second.slots[0].id
    jana, other = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.OWNER, "max")
    await jana("POST", f"touchpoints/{first.id}/answer", {"action": "book", "slot": slot})
    refused = await other("POST", f"touchpoints/{second.id}/answer", {"action": "book", "slot": slot})
    assert (refused.status, refused.body["type"]) == (409, "urn:touchpoint:problem:slot-taken")
    following = [s["id"] for s in refused.body["next_slots"]]
    assert following
    assert slot not in following
    shown = await other.get(f"touchpoints/{second.id}")
    assert [s["id"] for s in shown["slots"]] == following


async def test_an_action_that_does_not_exist_is_refused(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    matter = await lab.worn_pads("car-1", "jana")
    jana = await lab.caller(Role.OWNER, "jana")
    refused = await jana("POST", f"touchpoints/{matter.id}/answer", {"action": "perhaps"})
    assert refused.status == 422


async def test_touchpoints_are_found_by_device_owner_rule_and_state(lab: Lab) -> None:
    await lab.owner("jana", "car-1", "car-2")
    one = await lab.worn_pads("car-1", "jana")
    lab.clock.advance(NOW + 1)
    two = await lab.worn_pads("car-2", "jana")
    api = await lab.caller()
    await api("POST", f"touchpoints/{one.id}/answer", {"action": "noted"})

    async def found(query: str) -> list[str]:
        return [t["id"] for t in await api.all(f"touchpoints?{query}&limit=1")]

    assert await found("owner=jana") == [two.id, one.id]
    assert await found("device=car-1") == [one.id]
    assert await found("state=closed") == [one.id]
    assert await found("state=open,closed&rule=brake-pads-front-worn") == [two.id, one.id]
    assert await found("rule=another") == []


async def test_a_workshop_offers_its_free_times(lab: Lab) -> None:
    await lab.workshop()
    api = await lab.caller()
    slots = await api.all("workshops/north/slots?service=brakes-front&limit=7&to=2026-11-25T00:00:00Z")
    assert slots[0]["start"] == "2026-11-24T07:00:00.000Z"
    assert [s["start"] for s in slots] == sorted({s["start"] for s in slots})
    refused = await api("GET", "workshops/north/slots?service=oil")
    assert "brakes-front" in refused.body["detail"]


async def test_a_workshop_is_registered_and_changed(lab: Lab) -> None:
    api = await lab.caller()
    body = {
        "id": "south",
        "name": "Süd",
        "hours": {"mon": [["08:00", "12:00"], ["13:00", "17:00"]]},
        "services": [{"id": "brakes-front", "names": {"de": "Bremsen vorn"}, "minutes": 90}],
    }
    created = await api("POST", "workshops", body)
    assert created.status == 201
    assert created.body["hours"] == {"mon": [["08:00", "12:00"], ["13:00", "17:00"]]}
    south = await lab.caller(Role.WORKSHOP, "south")
    changed = await south("PUT", "workshops/south", {"name": "Süd", "bays": ["A", "B"], "services": []})
    assert (changed.status, changed.body["bays"], changed.body["services"]) == (200, ["A", "B"], [])
    wrong = await south("PUT", "workshops/south", {"name": "Süd", "hours": {"mon": [["18:00", "08:00"]]}})
    assert wrong.status == 422


async def test_a_workshop_that_cannot_take_the_time_offers_another(lab: Lab) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    matter = await lab.worn_pads("car-1", "jana")
    jana, north = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.WORKSHOP, "north")
    await jana("POST", f"touchpoints/{matter.id}/answer", {"action": "book", "slot": matter.slots[0].id})
    [visit] = await north.all("appointments")
    countered = await north(
        "POST", f"appointments/{visit['id']}/counter", {"starts": ["2026-11-26T10:00:00+01:00"]}
    )
    assert (countered.status, countered.body["state"]) == (201, "countered")
    again = await jana.get(f"touchpoints/{matter.id}")
    assert (again["state"], [s["start"] for s in again["slots"]]) == ("open", ["2026-11-26T09:00:00.000Z"])


# --- idempotency ----------------------------------------------------------------------------------


async def test_a_post_with_the_same_key_happens_once(lab: Lab) -> None:
    api = await lab.caller()
    first = await api("POST", "owners", {"name": "Jana"}, Idempotency_Key="k1")
    again = await api("POST", "owners", {"name": "Jana"}, Idempotency_Key="k1")
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(await api.all("owners")) == 1
    other = await api("POST", "owners", {"name": "Max"}, Idempotency_Key="k1")
    assert (other.status, other.body["type"]) == (422, "urn:touchpoint:problem:idempotency-key-reused")


async def test_a_key_counts_for_one_token_and_one_address_only(lab: Lab) -> None:
    one, two = await lab.caller(), await lab.caller()
    await one("POST", "owners", {"name": "Jana"}, Idempotency_Key="k1")
    await two("POST", "owners", {"name": "Jana"}, Idempotency_Key="k1")
    assert len(await one.all("owners")) == 2
    assert (await one("POST", "workshops", {"name": "Nord"}, Idempotency_Key="k1")).status == 201


async def test_who_is_shown_a_repeated_answer_stands_in_the_ledger(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway dies when the times are held and before it is written who was shown them."""
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    matter = await lab.worn_pads("car-1", "jana")
    desk = await lab.caller(Role.OPERATOR, "desk 3")
    with monkeypatch.context() as dying:
        dying.setattr(looking, "note", AsyncMock(side_effect=OSError("gone")))
        unheard = await desk("POST", f"touchpoints/{matter.id}/hold", Idempotency_Key="k1")
    again = await desk("POST", f"touchpoints/{matter.id}/hold", Idempotency_Key="k1")
    assert (unheard.status, again.status, again.headers["Idempotency-Replayed"]) == (500, 201, "true")
    lines = await lab.read(lambda records: people.ledger(records, "jana", limit=500))
    assert [line.params["by"] for line in lines if line.code == "looked"] == ["operator:desk 3"]


async def test_what_was_refused_is_not_remembered(lab: Lab) -> None:
    api = await lab.caller()
    body = {"id": "d1", "kind": "car", "owner": "jana"}
    assert (await api("POST", "devices", body, Idempotency_Key="k1")).status == 422
    await lab.owner("jana")
    assert (await api("POST", "devices", body, Idempotency_Key="k1")).status == 201


# --- the shape of refusals ------------------------------------------------------------------------


async def test_refusals_are_problems(lab: Lab) -> None:
    api = await lab.caller()
    async with lab.client.post(
        "/api/v1/owners", data=b"{", headers={**api.headers, "Content-Type": "application/json"}
    ) as response:
        assert (response.status, (await response.json(content_type=None))["title"]) == (400, "Bad Request")
    async with lab.client.post("/api/v1/owners", data={"name": "x"}, headers=api.headers) as response:
        assert response.status == 415
    big = await api("POST", "owners", {"name": "x", "address": "y" * 300_000})
    assert big.status == 413
    assert (await api("PATCH", "owners")).status == 405
    assert (await api("PATCH", "owners")).headers["Allow"] == "GET, HEAD, POST"
    nowhere = await api("GET", "nothing/here")
    assert (nowhere.status, nowhere.body["status"]) == (404, 404)


# --- operating ------------------------------------------------------------------------------------


async def test_quarantine_is_listed_shown_and_replayed(lab: Lab) -> None:
    rows = [
        QuarantineRow(
            position=n,
            received=NOW,
            topic="touchpoint/v1/d1/telemetry",
            payload=p,
            reason="not_json",
            detail=".",
        )
        for n, p in ((3, b"{"), (5, b"\xff"))
    ]
    await lab.write(lambda r: r.quarantine.add(rows))
    api = await lab.caller()
    listed = await api.all("quarantine?limit=1&reason=not_json")
    assert [(q["position"], q["text"], q["payload"]) for q in listed] == [(5, None, "/w=="), (3, "{", "ew==")]
    replayed = await api("POST", "quarantine/replay", {"positions": [3]})
    assert (replayed.status, replayed.body) == (201, {"replayed": 1})
    assert (await api.get("quarantine/3"))["replayed"] is not None
    [batch] = await lab.journal.read(0, limit=10)
    assert batch.messages == [("touchpoint/v1/d1/telemetry", b"{")]
    assert (await api("POST", "quarantine/replay", {})).status == 422
    assert (await api("GET", "quarantine/99999999999999999999")).status == 404


async def test_a_dead_letter_is_sent_again(lab: Lab) -> None:
    dead = Delivery(
        id="x1", channel="web_push", target="s1", key="k", state=DeliveryState.DEAD, attempts=1, created=NOW
    )

    def work(records: Records) -> None:
        records.outbox.add(dead)
        records.outbox.finish(dead, Attempt(delivery="x1", number=1, at=NOW, result="dead", detail="410"))

    await lab.write(work)
    api = await lab.caller()
    assert [d["id"] for d in await api.all("outbox?state=dead")] == ["x1"]
    retried = await api("POST", "outbox/x1/retry")
    assert (retried.status, retried.body["state"], retried.body["tries"][0]["detail"]) == (
        201,
        "pending",
        "410",
    )
    assert (await api("POST", "outbox/x1/retry")).status == 409


async def test_rules_are_listed_as_deciding_knows_them(lab: Lab) -> None:
    api = await lab.caller()
    [rule] = await api.all("rules")
    assert (rule["id"], rule["when"]) == ("brake-pads-front-worn", "pad_wear_front >= 80")
    assert await api.get("rules/brake-pads-front-worn") == rule | {"versions": []}
    assert (await api("GET", "rules/none")).status == 404


async def test_the_journal_says_how_far_its_readers_are(lab: Lab) -> None:
    await lab.journal.append([("touchpoint/v1/d1/telemetry", b"{}")], NOW)
    shown = await (await lab.caller()).get("journal")
    assert (shown["head"], shown["readers"]["assess"]) == (1, {"position": 0, "lag": 1})


async def test_a_service_plan_pays_for_what_it_contains_in_every_offer_from_now_on(lab: Lab) -> None:
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    matter = await lab.worn_pads("car-1", "jana")
    system = await lab.caller(Role.INTEGRATION)
    plan = {"name": "Carefree", "until": "2027-06-30", "services": ["brakes-front"]}
    covered = await system("PUT", "devices/car-1/cover", {"warranty_until": None, "plan": plan})
    assert (covered.status, covered.body["plan"]) == (200, plan)
    jana = await lab.caller(Role.OWNER, "jana")
    slot = (await jana.get(f"touchpoints/{matter.id}"))["slots"][0]["id"]
    await jana("POST", f"touchpoints/{matter.id}/answer", {"action": "book", "slot": slot})
    (visit,) = await lab.read(lambda r: r.workshops.appointments(device="car-1"))
    assert "plan" in str(visit.terms)
    assert "Carefree" in str(visit.terms)
    other = {"id": "car-9", "kind": "car", "plan": {"until": "2027-06-30"}}
    assert (await system("POST", "devices", other)).body["plan"]["until"] == "2027-06-30"
    refused = await system("PUT", "devices/car-1/cover", {"warranty_until": None, "plan": {"name": "x"}})
    assert (refused.status, "until is missing" in str(refused.body)) == (422, True)
    assert (await system("PUT", "devices/nobody/cover", {"warranty_until": None, "plan": None})).status == 404


async def test_a_fault_says_how_it_is_written_and_quotes_no_pattern(lab: Lab) -> None:
    await lab.owner("jana")
    system = await lab.caller(Role.INTEGRATION)
    for path, body, said in (
        ("owners/jana/preferences", {"quiet_from": "25:00"}, "quiet_from: write it as a local time, 21:30."),
        ("owners/jana", {"name": "Jana", "email": "a b@c"}, "email: write it as one address"),
    ):
        refused = await system("PUT", path, body)
        assert refused.status == 422
        assert said in refused.body["detail"]
