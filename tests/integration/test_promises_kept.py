"""What played owners found: each of these broke a promise once (see docs/decisions/0023)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from garage import DAY, HOUR, JANA, MINUTE, MONDAY_MORNING, SIGNALS, TEXTS, World, at, open_world

from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, Outcome, Sent
from gateway.domain.feedback import AskState, Feedback
from gateway.domain.touchpoint import State
from gateway.flow import agree, book, deliver, follow_up
from gateway.flow.deliver import Deliverer, Later
from gateway.flow.outgoing import Renderer
from gateway.ports import Records

REAR, HEAT = "brake-pads-rear-worn", "coolant-too-hot"
TUESDAY_8 = at("2026-11-24T08:00+01:00")
CHANNELS = ("web_push", "display", "email", "journal")


class Taken:
    """A channel that takes everything."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: list[Delivery] = []

    async def send(self, delivery: Delivery) -> Outcome:
        self.sent.append(delivery)
        return Sent()

    async def close(self) -> None:
        """Nothing to close."""


class Post:
    """All channels, and the loop that sends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.channels = {name: Taken(name) for name in CHANNELS}
        self.renderer = Renderer(
            texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://gateway.example"
        )

    async def goes(self, when: str | int | None = None) -> None:
        """At that time what is due is sent."""
        if when is not None:
            self.world.go_to(when)
        world = self.world
        await Deliverer(
            world.database, world.clock, self.channels, world.policy, self.renderer, Counters()
        ).now()

    def abouts(self, channel: str) -> list[str]:
        return [row.key.split(":")[-2] for row in self.channels[channel].sent]

    @property
    def shown(self) -> Any:
        """What the display shows now."""
        return self.channels["display"].sent[-1].payload["show"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        opened.policy = replace(opened.policy, channels=("web_push", "display", "email"))
        yield opened


@pytest.fixture
async def post(world: World) -> Post:
    await world.subscribes()
    return Post(world)


async def withdraws(world: World, purpose: str) -> None:
    by = agree.By(name="jana", source="owner")
    await world.write(agree.agree, "jana", purpose, False, by, world.now, world.policy)


async def contacts(world: World) -> list[int]:
    return await world.read(lambda r: r.contacts.times("jana", ["service", "survey"], 0))


# --- the week counts from when they were reached ----------------------------------------------


async def test_a_push_that_waited_for_a_trip_counts_from_when_it_rang(world: World, post: Post) -> None:
    """The display was first, when the car stopped; the phone followed three minutes later."""
    await world.found()
    await world.drives()
    await post.goes()
    assert post.abouts("web_push") == post.abouts("display") == []
    world.go_to(world.now + 10 * MINUTE)
    await world.parks()
    await post.goes()
    parked = world.now
    assert (post.abouts("display"), post.abouts("web_push")) == (["display"], [])
    await post.goes(parked + 3 * MINUTE)
    assert post.abouts("web_push") == ["offer"]
    assert await contacts(world) == [parked + 3 * MINUTE]


async def test_a_later_step_moves_no_contact_but_one_that_is_the_first_to_arrive(
    world: World, post: Post
) -> None:
    await world.write(lambda r: r.owners.update(replace(JANA, email="jana@home.example")))
    await world.found()
    await post.goes()
    await post.goes(MONDAY_MORNING + DAY)
    assert post.abouts("email") == ["offer"]
    assert await contacts(world) == [MONDAY_MORNING]


async def test_a_question_that_waited_for_a_trip_counts_from_when_it_came(world: World, post: Post) -> None:
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    world.go_to(TUESDAY_8 + HOUR)
    visit = (await world.read(lambda r: r.workshops.appointments()))[0]
    await world.write(follow_up.done, visit.id, {}, world.now, world.policy)
    world.go_to("2026-11-25T07:00+01:00")
    await world.drives()
    await world.write(follow_up.step, world.now, world.policy)
    asked = world.now
    await post.goes()
    assert "question" not in post.abouts("web_push")
    world.go_to(asked + HOUR)
    await world.parks()
    await post.goes(asked + 2 * HOUR)
    assert post.abouts("web_push")[-1] == "question"
    assert (await contacts(world))[-1] == asked + 2 * HOUR


# --- consent, while a visit was booked --------------------------------------------------------


async def test_a_visit_that_falls_through_brings_back_nothing_that_is_not_agreed_to(
    world: World, post: Post
) -> None:
    await world.found()
    await post.goes()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    await withdraws(world, "maintenance")
    await post.goes()
    visit = (await world.read(lambda r: r.workshops.appointments()))[0]
    await world.write(book.cancel, visit.id, world.now, world.policy, by="nord")
    assert (await world.touchpoint()).state is State.CLOSED
    assert (await world.codes())[-1] == "withdrawn_no_consent"
    await post.goes(world.now + HOUR)
    assert post.shown is None
    assert post.abouts("web_push")[-1] == "visit"  # nobody goes there in vain
    assert post.channels["web_push"].sent[-1].payload["message"]["title"].startswith("No visit at Tuesday")


async def test_who_did_not_come_needs_no_word_of_it(world: World, post: Post) -> None:
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    await post.goes()
    await withdraws(world, "maintenance")
    world.go_to(TUESDAY_8 + HOUR)
    visit = (await world.read(lambda r: r.workshops.appointments()))[0]
    await world.write(book.no_show, visit.id, world.now, world.policy)
    assert await world.queued("web_push") == []
    assert (await world.codes())[-1] == "withdrawn_no_consent"


async def test_of_a_visit_for_two_the_one_that_is_still_so_comes_back(world: World, post: Post) -> None:
    await world.found()
    await world.found(REAR)
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    own = (await world.touchpoint()).finding
    await world.write(lambda r: r.touchpoints.clear_finding(own, world.now))
    visit = (await world.read(lambda r: r.workshops.appointments()))[0]
    await world.write(book.cancel, visit.id, world.now, world.policy, by="nord")
    back = await world.touchpoint()
    assert (back.state, back.rule) == (State.OPEN, REAR)
    assert (await world.codes())[-1] == "partly_untrue"
    matters = await world.read(lambda r: r.touchpoints.matters(back.id))
    assert [matter.rule for matter in matters] == [REAR]


async def test_what_was_muted_while_a_visit_was_booked_does_not_come_back(world: World) -> None:
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    await world.write(agree.mute, "jana", "brake-pads-front-worn", True, world.now, world.policy)
    visit = (await world.read(lambda r: r.workshops.appointments()))[0]
    await world.write(book.cancel, visit.id, world.now, world.policy)
    assert ((await world.touchpoint()).state, (await world.codes())[-1]) == (State.CLOSED, "withdrawn_muted")


async def test_a_display_shows_nothing_that_is_not_agreed_to(world: World, post: Post) -> None:
    await world.found()
    await world.agrees("maintenance", granted=False)  # as if its row were under way at that moment
    await post.goes()
    assert post.shown is None


# --- nights and trips ----------------------------------------------------------------------------


async def waits(world: World, row: Delivery) -> str | None:
    """Why a row waits now."""
    wait = await world.read(lambda r: deliver._moment(r, row, world.policy, world.now))
    return wait.why if isinstance(wait, Later) else None


async def asked_by_mail(world: World, touchpoint: str | None) -> Delivery:
    def ask(records: Records) -> None:
        records.feedback.ask(
            Feedback(
                id="q",
                touchpoint=None,
                owner="jana",
                device="car",
                question="nps",
                asked_at=world.now,
                state=AskState.ASKED,
            )
        )

    await world.write(ask)
    return Delivery(
        id="mail",
        channel="email",
        target="jana@home.example",
        key="question:mail",
        payload={"about": "question", "feedback": "q"},
        touchpoint=touchpoint,
        owner="jana",
        due_at=world.now,
        created=world.now,
    )


@pytest.mark.parametrize("with_touchpoint", [True, False])
async def test_a_question_by_mail_waits_for_the_end_of_a_trip_and_of_the_night(
    world: World, with_touchpoint: bool
) -> None:
    await world.found()
    row = await asked_by_mail(world, (await world.touchpoint()).id if with_touchpoint else None)
    assert await waits(world, row) is None
    await world.drives()
    assert await waits(world, row) == "not_sent_driving"
    await world.parks()
    assert await waits(world, row) == "not_sent_just_parked"
    world.go_to("2026-11-23T23:00+01:00")
    assert await waits(world, row) == "not_sent_quiet_hours"
    assert await waits(world, replace(row, payload={"about": "case"})) is None  # they wait for that


async def test_news_of_what_was_dangerous_at_once_keep_the_night(world: World, post: Post) -> None:
    world.go_to("2026-11-23T23:00+01:00")
    await world.found("water-in-base", "washer")
    (offer,) = await world.queued("web_push")
    assert await waits(world, offer) is None
    assert await waits(world, replace(offer, payload={"about": "visit"})) == "not_sent_quiet_hours"


@pytest.mark.parametrize(
    ("rule", "device", "kept"), [(HEAT, "car", False), ("water-in-base", "washer", True)]
)
async def test_a_push_for_a_phone_that_is_off_is_kept_into_the_night_only_if_it_may_ring_then(
    world: World, post: Post, rule: str, device: str, kept: bool
) -> None:
    await world.found(rule, device)
    await post.goes()
    (push,) = post.channels["web_push"].sent
    until = world.now + push.payload["ttl_s"] * 1000
    assert (until > at("2026-11-23T21:00+01:00")) is kept


async def test_a_question_for_a_phone_that_is_off_is_not_kept_into_the_night(
    world: World, post: Post
) -> None:
    await world.found()
    row = await asked_by_mail(world, (await world.touchpoint()).id)
    push = replace(row, channel="web_push", target="phone")
    told = await world.read(lambda r: post.renderer.render(r, push, world.now))
    assert told is not None
    assert world.now + told.payload["ttl_s"] * 1000 == at("2026-11-23T21:00+01:00")
