"""From the finding to the phone: pushes over HTTP to a push service that checks and decrypts them."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from garage import DAY, HOUR, MINUTE, SIGNALS, TEXTS, World, at, open_world

from device_sim.push import Failure, PushService
from gateway.channels.vapid import Vapid
from gateway.channels.web_push import WebPushChannel
from gateway.domain.counters import Counters
from gateway.domain.delivery import Attempt, Delivery, DeliveryState, Reached
from gateway.domain.touchpoint import Answer
from gateway.flow import follow_up, respond
from gateway.flow.deliver import Deliverer
from gateway.flow.outgoing import Renderer
from gateway.ports import Records

TUESDAY_8 = at("2026-11-24T08:00+01:00")


@dataclass
class Phone:
    """Jana's phone with everything between it and the database."""

    world: World
    service: PushService
    subscription: str
    deliverer: Deliverer
    counters: Counters

    async def send(self) -> None:
        """Everything that is due is sent."""
        await self.deliverer.now()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What the phone could read."""
        return [dict(push.message) for push in self.service.taken]

    async def rows(self) -> list[Delivery]:
        """All rows to the phone, oldest first."""
        rows = await self.world.read(lambda r: r.outbox.page())
        return [row for row in reversed(rows) if row.channel == "web_push"]

    async def attempts(self) -> list[Attempt]:
        """Of the first row."""
        first = (await self.rows())[0].id
        return await self.world.read(lambda r: r.outbox.attempts(first))


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[Phone]:
    async with open_world(tmp_path) as world, PushService() as service:
        subscription = service.subscribe("jana")
        await world.subscribes(
            subscription.id,
            endpoint=subscription.endpoint,
            p256dh=subscription.p256dh,
            auth=subscription.auth,
        )
        vapid = Vapid.load_or_create(tmp_path / "vapid.pem", "mailto:after-sales@example.com")
        channel = WebPushChannel(vapid, loopback=True)
        counters = Counters()
        renderer = Renderer(
            texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://gateway.example/"
        )
        deliverer = Deliverer(
            world.database, world.clock, {"web_push": channel}, world.policy, renderer, counters
        )
        yield Phone(world, service, subscription.id, deliverer, counters)
        await channel.close()


async def test_a_finding_reaches_the_phone_with_its_times_and_actions(phone: Phone) -> None:
    await phone.world.found()
    await phone.send()
    touchpoint = await phone.world.touchpoint()
    (message,) = phone.messages
    (row,) = await phone.rows()
    assert message["id"] == row.id
    assert message["touchpoint"] == touchpoint.id
    assert message["title"] == "Your front brake pads are worn to 2.5\u00a0mm"
    assert "Autohaus Nord has Tuesday" in message["body"]
    assert message["severity"] == "advice"
    assert [action["action"] for action in message["actions"]] == [
        f"book:{touchpoint.slots[0].id}",
        f"book:{touchpoint.slots[1].id}",
        "other_time",
        "not_now",
    ]
    assert message["url"] == f"https://gateway.example/me/touchpoints/{touchpoint.id}"
    assert row.state is DeliveryState.SENT
    assert phone.service.refused == []
    assert phone.counters.deliveries == {("web_push", "sent"): 1}
    assert sum(phone.counters.delivery_delays) == 1


async def test_the_push_service_is_told_until_when_and_what_it_replaces(phone: Phone) -> None:
    await phone.world.found()
    await phone.send()
    headers = phone.service.taken[0].headers
    assert int(headers["TTL"]) == 12 * 3600  # 9:00 to 21:00, when the quiet hours begin
    assert headers["Urgency"] == "normal"
    assert headers["Topic"] == (await phone.world.touchpoint()).id.replace("-", "")


async def test_an_action_tapped_in_the_notification_books(phone: Phone) -> None:
    await phone.world.found()
    await phone.send()
    action = phone.messages[0]["actions"][0]["action"]
    chosen = Answer(action=action, channel="web_push", at=phone.world.now, by="jana")
    touchpoint = phone.messages[0]["touchpoint"]
    await phone.world.write(respond.answer, touchpoint, chosen, phone.world.now, phone.world.policy)
    assert (await phone.world.read(lambda r: r.workshops.appointments()))[0].start == TUESDAY_8


async def test_an_answer_in_the_car_replaces_the_notification(phone: Phone) -> None:
    await phone.world.found()
    await phone.send()
    await phone.world.answers(f"book:nord@{TUESDAY_8}", channel="display")
    await phone.send()
    offer, booked = phone.messages
    assert booked["touchpoint"] == offer["touchpoint"]
    assert booked["title"] == "Booked: Tuesday, 24\u00a0November, 8:00"
    assert booked["actions"] == []
    assert phone.service.taken[1].headers["Topic"] == phone.service.taken[0].headers["Topic"]


async def test_an_answer_at_night_or_at_the_wheel_closes_the_phone_at_once_and_without_a_sound(
    phone: Phone,
) -> None:
    await phone.world.found()
    await phone.send()
    phone.world.go_to("2026-11-23T23:30+01:00")
    await phone.world.drives()
    await phone.world.answers("not_now", channel="display")
    await phone.send()
    offer, answered = phone.messages
    assert (answered["touchpoint"], answered["about"]) == (offer["touchpoint"], "answered")
    assert answered["silent"] is True


async def test_a_phone_that_showed_nothing_is_not_told_of_an_answer_at_night(phone: Phone) -> None:
    await phone.world.found()  # the push was never sent
    phone.world.go_to("2026-11-23T23:30+01:00")
    await phone.world.answers(f"book:nord@{TUESDAY_8 + 3 * 86_400_000}", channel="display")
    await phone.send()
    assert phone.messages == []
    phone.world.go_to("2026-11-24T07:00+01:00")
    await phone.send()
    assert [message["about"] for message in phone.messages] == ["answered"]


async def test_what_was_answered_before_it_could_be_sent_is_not_sent(phone: Phone) -> None:
    await phone.world.found()
    await phone.world.answers("not_now")
    await phone.send()
    assert phone.messages == []


async def test_a_push_service_that_is_busy_is_asked_again_when_it_said(phone: Phone) -> None:
    phone.service.failures = [Failure(status=429, headers={"Retry-After": "90"}), Failure(status=503)]
    await phone.world.found()
    began = phone.world.now
    await phone.send()
    assert [row.due_at for row in await phone.rows()] == [began + 90_000]
    await phone.send()
    phone.world.clock.advance(began + 90_000)
    await phone.send()
    assert [row.due_at for row in await phone.rows()] == [began + 90_000 + 60_000]
    phone.world.clock.advance(began + 150_000)
    await phone.send()
    assert [(a.number, a.result, a.detail) for a in await phone.attempts()] == [
        (1, "retry", "HTTP 429"),
        (2, "retry", "HTTP 503"),
        (3, "sent", "HTTP 201"),
    ]
    assert len(phone.messages) == 1


async def test_after_the_last_try_it_is_a_dead_letter_that_can_be_retried(phone: Phone) -> None:
    phone.service.failures = [Failure(status=500)] * (len(phone.world.policy.retry_schedule_s) + 1)
    await phone.world.wishes(quiet_from="00:00", quiet_to="00:00")
    await phone.world.found()
    for seconds in (0, *phone.world.policy.retry_schedule_s):
        phone.world.clock.advance(phone.world.now + seconds * 1000)
        await phone.send()
    (row,) = await phone.rows()
    assert row.state is DeliveryState.DEAD
    assert (await phone.attempts())[-1].result == "dead"
    await phone.world.write(lambda records: records.outbox.retry(row.id, phone.world.now))
    await phone.send()
    assert phone.messages[0]["id"] == row.id


@pytest.mark.parametrize("status", [400, 401, 403, 301, 307])
async def test_what_will_never_be_taken_is_a_dead_letter_at_once(phone: Phone, status: int) -> None:
    phone.service.failures = [Failure(status=status, headers={"Location": f"{phone.service.url}/push/x"})]
    await phone.world.found()
    await phone.send()
    assert [row.state for row in await phone.rows()] == [DeliveryState.DEAD]
    assert phone.messages == []


async def test_what_is_too_large_is_cut_short_and_sent_again_at_once(phone: Phone) -> None:
    phone.service.failures = [Failure(status=413)]
    await phone.world.found()
    await phone.send()
    (message,) = phone.messages
    assert message["actions"] == []
    assert message["url"].endswith(message["touchpoint"])
    assert len(json.dumps(message, ensure_ascii=False).encode()) <= 1_000
    assert [(a.result, a.detail) for a in await phone.attempts()] == [("sent", "HTTP 201")]


async def test_what_is_too_large_even_then_is_a_dead_letter(phone: Phone) -> None:
    phone.service.failures = [Failure(status=413), Failure(status=413)]
    await phone.world.found()
    await phone.send()
    assert [row.state for row in await phone.rows()] == [DeliveryState.DEAD]


async def test_a_key_that_is_not_taken_is_said_to_be_the_operators_matter(phone: Phone) -> None:
    phone.service.failures = [Failure(status=403)]
    await phone.world.found()
    await phone.send()
    assert "does not take our key" in (await phone.attempts())[0].detail
    (row,) = await phone.rows()
    known = await phone.world.read(lambda r: r.outbox.outcomes([row.id]))
    assert [one.outcome for one in known[row.id]] == [Reached.FAILED]


async def test_an_answer_through_a_push_is_noted_with_it(phone: Phone) -> None:
    await phone.world.found()
    await phone.send()
    (row,) = await phone.rows()
    phone.world.clock.advance(phone.world.now + MINUTE)
    await phone.world.write(lambda r: r.outbox.reached(row.id, Reached.SEEN, phone.world.now))
    await phone.world.answers("not_now", channel="web_push")
    known = await phone.world.read(lambda r: r.outbox.outcomes([row.id]))
    assert [one.outcome for one in known[row.id]] == [Reached.SENT, Reached.SEEN, Reached.ANSWERED]


async def test_a_browser_that_is_gone_is_forgotten(phone: Phone) -> None:
    phone.service.unsubscribe(phone.subscription)
    await phone.world.found()
    await phone.send()
    assert [row.state for row in await phone.rows()] == [DeliveryState.DROPPED]
    assert await phone.world.read(lambda r: r.owners.subscriptions("jana")) == []
    await phone.world.found("brake-pads-rear-worn")
    assert len(await phone.rows()) == 1


async def test_a_push_service_that_is_away_is_tried_again(phone: Phone) -> None:
    await phone.service.stop()
    await phone.world.found()
    await phone.send()
    (attempt,) = await phone.attempts()
    assert attempt.result == "retry"
    assert "ClientConnector" in attempt.detail


async def test_a_crash_between_sending_and_storing_sends_it_again_under_the_same_id(phone: Phone) -> None:
    await phone.world.found()
    world = phone.world
    lease = world.policy.lease_ms

    def crash(records: Records) -> list[Delivery]:
        return records.outbox.claim(world.now, lease_ms=lease, limit=1, channels=["web_push"])

    (claimed,) = await world.write(crash)
    await phone.send()
    assert phone.messages == []  # somebody else has it
    world.clock.advance(world.now + lease)
    await phone.send()
    assert [message["id"] for message in phone.messages] == [claimed.id]


async def test_no_phone_rings_at_the_wheel_and_it_does_when_the_trip_is_over(phone: Phone) -> None:
    world = phone.world
    await world.drives()
    await world.found("coolant-too-hot")
    for _ in range(5):
        await phone.send()
        world.clock.advance(world.now + MINUTE)
        await world.reports()
    assert phone.messages == []
    [row] = await phone.rows()
    tried = await world.read(lambda r: r.outbox.attempts(row.id))
    assert [attempt.detail for attempt in tried] == ["waits: not_sent_driving"], "said once, not each minute"
    await world.parks()
    world.clock.advance(world.now + 3 * MINUTE)
    await phone.send()
    assert [message["severity"] for message in phone.messages] == ["critical"]
    assert phone.service.taken[0].headers["Urgency"] == "high"


async def test_a_push_that_fell_due_in_the_night_waits_for_the_morning(phone: Phone) -> None:
    world = phone.world
    phone.service.failures = [Failure(status=503)]
    world.go_to("2026-11-23T20:59:50+01:00")
    await world.found()
    await phone.send()
    world.go_to("2026-11-23T21:00:30+01:00")
    await phone.send()
    assert [row.due_at for row in await phone.rows()] == [at("2026-11-24T07:00+01:00")]
    world.go_to("2026-11-24T07:00+01:00")
    await phone.send()
    assert len(phone.messages) == 1


async def test_the_question_is_asked_once_at_its_time(phone: Phone) -> None:
    world = phone.world
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    world.go_to(TUESDAY_8 + HOUR)
    appointment = (await world.read(lambda r: r.workshops.appointments()))[0]
    await world.write(follow_up.done, appointment.id, {}, world.now, world.policy)
    await phone.send()
    assert phone.messages == []
    world.go_to("2026-11-25T07:00+01:00")
    await world.write(follow_up.ask_due, world.now, world.policy)
    await phone.send()
    (message,) = phone.messages
    question = (await world.read(lambda r: r.feedback.page()))[0]
    assert message["about"] == "question"
    assert message["title"] == "How was the visit with your Arden 5?"
    assert message["url"] == f"https://gateway.example/me/feedback/{question.id}"


async def test_withdrawn_consent_stops_what_is_on_its_way(phone: Phone) -> None:
    await phone.world.found()
    await phone.world.agrees("maintenance", granted=False)
    await phone.send()
    assert phone.messages == []
    assert [row.state for row in await phone.rows()] == [DeliveryState.DROPPED]


async def test_an_offer_that_expired_is_not_sent_late(phone: Phone) -> None:
    await phone.service.stop()
    await phone.world.found()
    phone.world.clock.advance(phone.world.now + 14 * DAY)
    await phone.send()
    assert [row.state for row in await phone.rows()] == [DeliveryState.DROPPED]
