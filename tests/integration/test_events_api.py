"""CloudEvents of other systems, as the project's own SDK writes them, and ours, as it reads them."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_http_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent
from web_lab import DAY, NOW, Caller, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.case import CaseKind
from gateway.domain.touchpoint import State
from gateway.domain.webhooks import cloud_event


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        yield opened


def event(type: str, data: dict[str, Any], number: str = "1", **attributes: Any) -> CloudEvent:
    named = {
        "id": number,
        "source": "https://dms.example/hamburg",
        "type": type,
        "specversion": "1.0",
        "time": datetime.fromtimestamp((NOW - DAY) / 1000, UTC),
        "datacontenttype": "application/json",
        **attributes,
    }
    return CloudEvent(attributes=named, data=data)


async def send(lab: Lab, caller: Caller, message: HTTPMessage) -> tuple[int, Any]:
    headers = {**caller.headers, **message.headers}
    async with lab.client.post("/api/v1/events", data=message.body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize("written", [to_structured_event, to_binary_event])
async def test_a_job_done_elsewhere_settles_what_was_open_about_it(lab: Lab, written: Any) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    crm = await lab.caller(Role.INTEGRATION, "crm")
    told = event("visit.finished", {"device": "car-1", "service": "brakes-front", "place": "Garage Süd"})
    status, kept = await send(lab, crm, written(told))
    assert (status, kept["outcome"], kept["owner"], kept["at"]) == (
        201,
        "closed",
        "jana",
        "2026-11-22T08:00:00.000Z",
    )
    after = await crm.get(f"touchpoints/{matter.id}")
    assert (after["state"], after["answer"]["action"], after["answer"]["place"]) == (
        "closed",
        "already_done",
        "Garage Süd",
    )
    assert after["answer"]["by"] == "integration:crm"
    assert (await send(lab, crm, written(told))) == (201, kept)
    codes = [line["code"] for line in await crm.all("owners/jana/ledger")]
    assert codes.count("heard_visit") == 1
    assert [e["id"] for e in await crm.all("events")] == [kept["id"]]


async def test_a_visit_that_was_booked_here_is_done_with_it(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    jana, api = await lab.caller(Role.OWNER, "jana"), await lab.caller()
    await jana("POST", f"touchpoints/{matter.id}/answer", {"action": "book", "slot": matter.slots[0].id})
    data = {"device": "car-1", "service": "brakes-front"}
    assert (await send(lab, api, to_structured_event(event("visit.finished", data))))[0] == 201
    assert (await api.get(f"touchpoints/{matter.id}"))["state"] == State.FULFILLED


async def test_an_owners_answer_from_another_channel(lab: Lab) -> None:
    matter = await lab.worn_pads("car-1", "jana")
    api = await lab.caller(Role.INTEGRATION, "app")
    data = {"action": "snooze", "until": "tomorrow"}
    told = event("answer.given", data, subject=f"touchpoint/{matter.id}")
    status, kept = await send(lab, api, to_binary_event(told))
    assert (status, kept["outcome"]) == (201, "answered")
    after = await api.get(f"touchpoints/{matter.id}")
    assert (after["answer"]["action"], after["answer"]["by"]) == ("snooze", "jana")
    lines = {line.code: line for line in await lab.read(lambda r: r.touchpoints.ledger(touchpoint=matter.id))}
    assert lines["answered_in_app"].params["by"] == "integration:app"
    other = event("answer.given", {"touchpoint": matter.id, "action": "never"}, "2")
    assert (await send(lab, api, to_structured_event(other)))[0] == 409
    assert [e["event"] for e in await api.all("events")] == ["1"]


async def test_a_complaint_makes_somebody_responsible_and_the_owner_reads_it(lab: Lab) -> None:
    api = await lab.caller()
    told = event("complaint.received", {"device": "car-1", "text": "It squeals again.", "reason": "Q7"})
    _, kept = await send(lab, api, to_structured_event(told))
    case = await lab.read(lambda r: r.cases.get(kept["case"]))
    assert (case.kind, case.owner, case.text) == (CaseKind.COMPLAINT, "jana", "It squeals again.")
    codes = [line["code"] for line in await api.all("owners/jana/ledger")]
    assert {"heard_complaint", "case_complaint"} <= set(codes)


async def test_a_batch_is_taken_whole_or_not_at_all(lab: Lab) -> None:
    api = await lab.caller()

    async def batch(*events: CloudEvent) -> tuple[int, Any]:
        body = [json.loads(to_structured_event(one).body) for one in events]
        message = HTTPMessage(
            headers={"content-type": "application/cloudevents-batch+json"}, body=json.dumps(body).encode()
        )
        return await send(lab, api, message)

    good = event("order.placed", {"device": "car-1"})
    bad = event("comment.received", {"device": "nobody"}, "2")
    status, refused = await batch(good, bad)
    assert (status, refused["errors"][0]["pointer"]) == (422, "#/1")
    assert await api.all("events") == []
    other = event("parcel.sent", {"owner": "jana", "carrier": "post"}, "3")
    status, kept = await batch(good, other)
    assert (status, [one["outcome"] for one in kept["items"]]) == (201, ["kept", "kept"])
    assert (await batch(good, other))[1] == kept


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/cloudevents+json"}, b'{"id":"1"}', 422),
        ({"content-type": "application/cloudevents+json"}, b"{", 400),
        ({"content-type": "application/cloudevents+xml"}, b"<event/>", 415),
        ({"content-type": "application/json"}, b"{}", 415),
        ({"content-type": "application/json", "ce-specversion": "0.3", "ce-id": "1"}, b"{}", 422),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", 422),
    ],
)
async def test_what_is_no_cloud_event_is_a_problem(
    lab: Lab, headers: dict[str, str], body: bytes, status: int
) -> None:
    message = HTTPMessage(headers=headers, body=body)
    answered, problem = await send(lab, await lab.caller(), message)
    assert (answered, problem["status"]) == (status, status)


def test_what_we_send_is_a_cloud_event_for_its_own_sdk() -> None:
    sent = {
        "type": "appointment.done",
        "timestamp": "2026-11-23T08:00:00.000Z",
        "data": {"appointment": "a1"},
    }
    body = json.dumps(cloud_event("d1", sent, "https://gateway.example")).encode()
    read = from_http_event(HTTPMessage(headers={"content-type": "application/cloudevents+json"}, body=body))
    assert (read.get_id(), read.get_type(), read.get_source(), read.get_subject(), read.get_data()) == (
        "d1",
        "appointment.done",
        "https://gateway.example",
        "appointment/a1",
        {"appointment": "a1"},
    )
