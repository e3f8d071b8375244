"""One conversation a touchpoint: offered while somebody is there, else a call by a promised time; agents
verify the caller, and what they answer can be taken back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from web_lab import DAY, NOW, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.conversation import Offer
from gateway.domain.device import Facts
from gateway.domain.touchpoint import State, Touchpoint
from gateway.flow import conversation
from gateway.web.access import Identity
from gateway.web.events import concerns

MINUTE = 60_000


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        await opened.owner("max", "car-2")
        yield opened


async def matter_of(lab: Lab, device: str = "car-1", owner: str = "jana") -> Touchpoint:
    return await lab.worn_pads(device, owner)


async def test_it_is_the_same_for_owner_and_agent_and_told_to_both(lab: Lab) -> None:
    matter = await matter_of(lab)
    jana, ben = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.OPERATOR, "Ben")
    at = f"touchpoints/{matter.id}/conversation"
    assert (await jana.get(at))["offer"] == "callback"
    alone = await jana("POST", at, {"text": "Is it urgent?"})
    assert (alone.status, alone.body["type"]) == (409, "urn:touchpoint:problem:conflict")
    assert [one["name"] for one in (await ben("PUT", "desk", {"here": True})).body["present"]] == [
        "operator:Ben"
    ]
    assert (await jana.get(at))["offer"] == "talk"
    feed = lab.database.watch()
    begun = await jana("POST", at, {"text": "Is it urgent?"})
    assert (begun.status, begun.body["waiting_since"]) == (201, "2026-11-23T08:00:00.000Z")
    assert ("conversation", matter.id) in feed.take()
    feed.close()
    assert [one["touchpoint"] for one in (await ben.get("desk"))["waiting"]] == [matter.id]
    await ben("POST", at, {"text": "No, in the next three weeks."})
    seen = await jana.get(at)
    assert [(line["part"], line["by"], line["text"]) for line in seen["lines"]] == [
        ("owner", "jana", "Is it urgent?"),
        ("agent", "operator:Ben", "No, in the next three weeks."),
    ]
    assert seen == await ben.get(at)
    assert (await ben.get("desk"))["waiting"] == []
    assert "talk_began" in [line["code"] for line in await jana.all("owners/jana/ledger")]


async def test_somebody_is_there_for_five_minutes_or_until_they_leave(lab: Lab) -> None:
    matter, ben = await matter_of(lab), await lab.caller(Role.OPERATOR, "Ben")

    async def offer() -> Offer:
        now, policy = lab.clock.now(), lab.context.policy
        return (await lab.read(lambda r: conversation.offered(r, matter, now, policy))).offer

    await ben("PUT", "desk", {"here": True})
    lab.clock.advance(NOW + 5 * MINUTE - 1)
    assert await offer() == Offer.TALK
    lab.clock.advance(NOW + 5 * MINUTE)
    assert await offer() == Offer.CALLBACK
    await ben("PUT", "desk", {"here": True})
    assert await offer() == Offer.TALK
    await ben("PUT", "desk", {"here": False})
    assert await offer() == Offer.CALLBACK


async def test_in_a_car_it_is_offered_only_while_it_is_parked(lab: Lab) -> None:
    matter = await matter_of(lab)
    policy = lab.context.policy
    for moving, offer in ((True, Offer.NONE), (False, Offer.CALLBACK)):
        facts = Facts(device="car-1", last_seen=NOW, moving=moving)
        await lab.write(lambda r, facts=facts: r.devices.put_facts([facts]))  # type: ignore[misc]
        found = await lab.read(lambda r: conversation.offered(r, matter, NOW, policy, display=True))
        assert found.offer == offer


async def test_calls_are_promised_one_after_another_and_the_promise_stands(lab: Lab) -> None:
    first, second = await matter_of(lab), await matter_of(lab, "car-2", "max")
    jana, max_ = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.OWNER, "max")
    ben = await lab.caller(Role.OPERATOR, "Ben")
    number = await jana("POST", f"touchpoints/{first.id}/conversation/callback", {})
    assert (number.status, "phone" in number.body["detail"]) == (422, True)
    one = await jana("POST", f"touchpoints/{first.id}/conversation/callback", {"phone": "040 1"})
    two = await max_("POST", f"touchpoints/{second.id}/conversation/callback", {"phone": "040 2"})
    assert (one.body["offer"], two.body["offer"]) == ("waits", "waits")
    queue = (await ben.get("desk"))["callbacks"]
    assert [(case["owner"], case["data"]["phone"]) for case in queue] == [("jana", "040 1"), ("max", "040 2")]
    assert one.body["promised_at"] < two.body["promised_at"]
    again = await jana("POST", f"touchpoints/{first.id}/conversation/callback", {"phone": "040 1"})
    assert again.body["promised_at"] == one.body["promised_at"]
    assert len((await ben.get("desk"))["callbacks"]) == 2


async def test_an_agent_answers_only_for_a_caller_who_was_verified(lab: Lab) -> None:
    matter = await matter_of(lab)
    jana, ben = await lab.caller(Role.OWNER, "jana"), await lab.signed_in("Ben")
    at = f"touchpoints/{matter.id}/conversation"
    assert (await ben("POST", f"{at}/answer", {"action": "snooze"})).status == 403
    code = (await jana("POST", f"{at}/code")).body["code"]
    wrong = f"{(int(code) + 1) % 10**6:06}"
    assert (await ben("POST", f"{at}/verify", {"code": wrong})).status == 422
    good = await ben("POST", f"{at}/verify", {"code": code})
    assert (good.status, good.body["verified"], good.body["verified_by"]) == (201, True, "code")
    assert (await ben("POST", f"{at}/verify", {"code": code})).status == 422  # good once
    answered = await ben("POST", f"{at}/answer", {"action": "snooze", "until": "tomorrow"})
    assert (answered.body["answer"]["by"], answered.body["answer"]["channel"]) == (
        "operator:Ben",
        "call_centre",
    )
    codes = [line["code"] for line in await jana.all("owners/jana/ledger")]
    assert {"talk_verified", "answered_for_you", "answered_snooze"} <= set(codes)
    lab.clock.advance(NOW + 31 * MINUTE)
    assert (await ben("POST", f"{at}/answer", {"action": "noted"})).status == 403


async def test_five_wrong_codes_end_a_code_and_two_facts_do_as_well(lab: Lab) -> None:
    matter = await matter_of(lab)
    jana, ben = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.OPERATOR, "Ben")
    at = f"touchpoints/{matter.id}/conversation"
    code = (await jana("POST", f"{at}/code")).body["code"]
    for number in range(1, 6):
        wrong = f"{(int(code) + number) % 10**6:06}"
        assert (await ben("POST", f"{at}/verify", {"code": wrong})).status == 422
    assert (await ben("POST", f"{at}/verify", {"code": code})).status == 422
    assert (await ben("POST", f"{at}/verify", {"asked": ["plate"]})).status == 422
    unknown = await ben("POST", f"{at}/verify", {"asked": ["plate", "serial"]})
    assert (unknown.status, "serial of theirs is not known" in unknown.body["detail"]) == (422, True)
    known = await ben("POST", f"{at}/verify", {"asked": ["plate", "address"]})
    assert (known.status, known.body["verified_by"]) == (201, "plate, address")


@pytest.mark.parametrize("action", ["book", "snooze", "not_now", "never", "already_done", "noted", "call_me"])
async def test_the_owner_takes_back_what_was_answered_for_them(lab: Lab, action: str) -> None:
    matter = await matter_of(lab)
    jana, ben = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.OPERATOR, "Ben")
    at = f"touchpoints/{matter.id}"
    await ben("POST", f"{at}/conversation/verify", {"asked": ["plate", "address"]})
    body = {"action": action} | ({"slot": matter.slots[0].id} if action == "book" else {})
    assert (await ben("POST", f"{at}/conversation/answer", body)).status == 201
    assert (await jana.get(f"{at}/conversation"))["undo_until"] == "2026-11-25T08:00:00.000Z"
    undone = await jana("POST", f"{at}/undo")
    assert (undone.status, undone.body["state"], undone.body["answer"]) == (201, State.OPEN, None)
    assert (await jana("POST", f"{at}/undo")).status == 409
    assert "answer_undone" in [line["code"] for line in await jana.all("owners/jana/ledger")]
    if action == "book":
        [visit] = await jana.all("appointments")
        assert visit["state"] == "cancelled"
    if action == "never":
        assert (await jana.get("owners/jana/preferences"))["muted"] == []
    mine = await jana(
        "POST", f"touchpoints/{undone.body['id']}/answer", {"action": "snooze", "until": "tomorrow"}
    )
    assert (mine.status, mine.body["answer"]["by"]) == (201, "jana")


async def test_what_the_owner_answered_or_long_ago_is_not_taken_back(lab: Lab) -> None:
    own, other = await matter_of(lab), await matter_of(lab, "car-2", "max")
    jana = await lab.caller(Role.OWNER, "jana")
    ben = await lab.caller(Role.OPERATOR, "Ben")
    await jana("POST", f"touchpoints/{own.id}/answer", {"action": "noted"})
    assert (await jana("POST", f"touchpoints/{own.id}/undo")).status == 409
    told = {"action": "noted", "verified": {"asked": ["plate", "address"]}}
    assert (await ben("POST", f"touchpoints/{other.id}/answer", told)).status == 201
    lab.clock.advance(NOW + 2 * DAY)
    max_ = await lab.caller(Role.OWNER, "max")
    assert (await max_("POST", f"touchpoints/{other.id}/undo")).status == 409


async def test_nobody_of_after_sales_answers_for_a_caller_who_was_not_verified(lab: Lab) -> None:
    matter, ben = await matter_of(lab), await lab.signed_in("Ben")
    jana, north = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.WORKSHOP, "north")
    at = f"touchpoints/{matter.id}"
    book = {"action": "book", "slot": matter.slots[0].id}
    for path in (f"{at}/answer", f"{at}/conversation/answer"):
        for said in (book, {**book, "through": "telephone"}):
            refused = await ben("POST", path, said)
            assert (refused.status, refused.body["type"]) == (403, "urn:touchpoint:problem:unverified")
            assert refused.body["verify"] == f"/api/v1/{at}/conversation/verify"
            assert "Verify the caller first" in refused.body["detail"]
    assert (await ben("POST", f"{at}/answer", {**book, "through": "app"})).status == 422
    await jana("POST", f"{at}/answer", book)
    (visit,) = await jana.all("appointments")
    await north("POST", f"appointments/{visit['id']}/confirm", {})
    start = {"start": "2026-11-26T09:00:00Z"}
    for path, body in (
        (f"{at}/return", {"until": "tomorrow"}),
        (f"{at}/wish", {"starts": [start["start"]]}),
        (f"appointments/{visit['id']}/take-offer", start),
        (f"appointments/{visit['id']}/wish", {"starts": [start["start"]]}),
        (f"appointments/{visit['id']}/stay", {"stay": "waits"}),
        (f"appointments/{visit['id']}/reschedule", {"slot": matter.slots[1].id}),
        (f"appointments/{visit['id']}/cancel", {}),
    ):
        refused = await ben("POST", path, body)
        assert (refused.status, refused.body.get("type")) == (403, "urn:touchpoint:problem:unverified"), path
    told = {"verified": {"asked": ["plate", "address"]}}
    assert (await ben("POST", f"appointments/{visit['id']}/cancel", told)).body["state"] == "cancelled"
    lines = {line["code"]: line for line in await jana.all("owners/jana/ledger")}
    assert lines["answered_for_you"]["params"]["by"] == "operator:Ben"
    assert lines["talk_verified"]["params"]["how"] == "plate, address"
    (told_of,) = await lab.read(
        lambda r: [x for x in r.conversations.lines(matter.id) if x.code == "changed_for"]
    )
    assert told_of.by == "operator:Ben"


async def test_a_token_need_not_say_how_the_caller_was_verified_and_the_ledger_tells(lab: Lab) -> None:
    matter, system = await matter_of(lab), await lab.caller()
    jana, at = await lab.caller(Role.OWNER, "jana"), f"touchpoints/{matter.id}"
    book = {"action": "book", "slot": matter.slots[0].id}
    taken = await system("POST", f"{at}/answer", book)
    assert (taken.status, taken.body["answer"]["channel"]) == (201, "call_centre")
    again = await system("POST", f"{at}/answer", book)
    assert (again.status, again.body["answer"]) == (201, taken.body["answer"])
    assert (await system("POST", f"{at}/answer", {"action": "noted"})).status == 409
    codes = [line["code"] for line in await jana.all("owners/jana/ledger")]
    assert codes.count("answered_unverified") == 1
    assert (await jana("POST", f"{at}/undo")).status == 201


async def test_a_wrong_code_with_an_answer_counts_though_the_answer_is_refused(lab: Lab) -> None:
    matter, ben = await matter_of(lab), await lab.caller(Role.OPERATOR, "Ben")
    jana = await lab.caller(Role.OWNER, "jana")
    at = f"touchpoints/{matter.id}"
    code = (await jana("POST", f"{at}/conversation/code")).body["code"]
    for number in range(1, 6):
        wrong = {"action": "noted", "verified": {"code": f"{(int(code) + number) % 10**6:06}"}}
        assert (await ben("POST", f"{at}/answer", wrong)).status == 422
    good = {"action": "noted", "verified": {"code": code}}
    assert (await ben("POST", f"{at}/answer", good)).status == 422
    assert (await jana.get(at))["answer"] is None


async def test_a_request_that_is_sent_once_more_says_its_code_once_more(lab: Lab) -> None:
    """After a refusal that names other times, or an answer that was not heard; a code is good once."""
    matter, ben = await matter_of(lab), await lab.signed_in("Ben")
    jana, at = await lab.caller(Role.OWNER, "jana"), f"touchpoints/{matter.id}"
    code = (await jana("POST", f"{at}/conversation/code")).body["code"]
    gone = {"action": "book", "slot": f"north@{NOW + DAY + MINUTE}", "verified": {"code": code}}
    refused = await ben("POST", f"{at}/answer", gone)
    assert (refused.status, refused.body["type"]) == (409, "urn:touchpoint:problem:slot-taken")
    book = {"action": "book", "slot": matter.slots[0].id, "verified": {"code": code}}
    answered = await ben("POST", f"{at}/answer", book)
    assert answered.status == 201
    again = await ben("POST", f"{at}/answer", book)
    assert (again.status, again.body["answer"]) == (201, answered.body["answer"])
    wrong = {**book, "verified": {"code": f"{(int(code) + 1) % 10**6:06}"}}
    assert (await ben("POST", f"{at}/answer", wrong)).status == 422
    assert [line["code"] for line in await jana.all("owners/jana/ledger")].count("talk_verified") == 1
    lab.clock.advance(NOW + 31 * MINUTE)
    jana, ben = await lab.caller(Role.OWNER, "jana"), await lab.signed_in("Ben")
    assert (await ben("POST", f"{at}/answer", book)).status == 422


async def test_the_owner_is_told_once_of_what_was_changed_for_them(lab: Lab) -> None:
    matter, crm = await matter_of(lab), await lab.caller()
    jana, at = await lab.caller(Role.OWNER, "jana"), f"touchpoints/{matter.id}"
    await jana("POST", f"{at}/answer", {"action": "book", "slot": matter.slots[0].id})
    (visit,) = await jana.all("appointments")
    for _ in range(2):
        assert (await crm("POST", f"appointments/{visit['id']}/stay", {"stay": "waits"})).status == 201
    codes = [line["code"] for line in await jana.all("owners/jana/ledger")]
    assert codes.count("answered_for_you") == 1
    told = [line.code for line in await lab.read(lambda r: r.conversations.lines(matter.id))]
    assert told.count("changed_for") == 1


async def test_another_system_says_who_verified_the_caller_and_how(lab: Lab) -> None:
    matter, crm = await matter_of(lab), await lab.caller(Role.INTEGRATION, "crm")
    jana, at = await lab.caller(Role.OWNER, "jana"), f"touchpoints/{matter.id}"
    asked = {"asked": ["plate", "address"]}
    nameless = await crm("POST", f"{at}/answer", {"action": "noted", "verified": asked})
    assert (nameless.status, "say who of yours" in nameless.body["detail"]) == (422, True)
    said = {"action": "noted", "verified": {**asked, "agent": "Ida"}}
    answered = await crm("POST", f"{at}/answer", said)
    assert (answered.body["answer"]["by"], answered.body["answer"]["channel"]) == (
        "integration:crm (Ida)",
        "call_centre",
    )
    again = await crm("POST", f"{at}/answer", {"action": "noted"})
    assert again.status == 201
    told = [x.code for x in await lab.read(lambda r: r.conversations.lines(matter.id))]
    assert told.count("answered_for") == 1, "the same once more is nothing new"
    assert (await jana("POST", f"{at}/undo")).body["state"] == State.OPEN
    assert (await (await lab.caller(Role.OPERATOR, "Ben"))("POST", f"{at}/answer", said)).status == 422


async def test_nobody_hears_of_somebody_elses_conversation(lab: Lab) -> None:
    matter = await matter_of(lab)
    max_, north = await lab.caller(Role.OWNER, "max"), await lab.caller(Role.WORKSHOP, "north")
    at = f"touchpoints/{matter.id}/conversation"
    assert (await max_("GET", at)).status == 404
    assert (await max_("POST", at, {"text": "x"})).status == 404
    assert (await north("GET", at)).status == 403
    stranger = Identity(role=Role.OWNER, subject="max", language="en")
    owner = Identity(role=Role.OWNER, subject="jana", language="en")
    change = ("conversation", matter.id)
    assert await lab.read(lambda r: (concerns(r, change, stranger), concerns(r, change, owner))) == (
        False,
        True,
    )


async def test_a_matter_that_is_somebody_elses_now_has_a_caller_whom_nobody_knows(lab: Lab) -> None:
    ben, system = await lab.signed_in("Ben"), await lab.caller(Role.INTEGRATION, "crm")
    matter = await matter_of(lab)
    at = f"touchpoints/{matter.id}/conversation"
    await ben("POST", f"{at}/verify", {"asked": ["plate", "address"]})
    assert (await ben.get(at))["verified"]
    assert (await system("PUT", "devices/car-1/people/max", {"role": "driver", "asked": True})).status == 200
    assert (await lab.read(lambda r: r.touchpoints.get(matter.id))).owner == "max"
    assert not (await ben.get(at))["verified"]
    refused = await ben("POST", f"touchpoints/{matter.id}/answer", {"action": "decline"})
    assert (refused.status, refused.body["type"]) == (403, "urn:touchpoint:problem:unverified")
