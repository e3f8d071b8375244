"""The ladder: which step is taken when, what stands in for what, and what an answer takes back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from garage import DAY, HOUR, JANA, RULES, World, at, open_world

from gateway.domain.delivery import Delivery, DeliveryState, MailAddress, Reached
from gateway.domain.policy import LADDER, Policy, Rung
from gateway.domain.touchpoint import State
from gateway.flow import outgoing, webhooks
from gateway.flow.ladder import Step, steps
from gateway.ports import Records

ALL = ("web_push", "display", "webhook", "email", "letter")


def times(policy: Policy, severity: str, *possible: str) -> dict[str, int]:
    return {step.channel: step.after_ms for step in steps(policy, severity, possible)}


def test_every_step_has_its_own_time_when_all_can_be_taken() -> None:
    assert times(Policy(), "advice", *ALL) == {
        "web_push": 0,
        "display": 0,
        "webhook": 0,
        "email": DAY,
        "letter": 7 * DAY,
    }


@pytest.mark.parametrize(
    ("possible", "expected"),
    [
        (("display", "email", "letter"), {"display": 0, "email": 0, "letter": 7 * DAY}),
        (("web_push", "display", "letter"), {"web_push": 0, "display": 0, "letter": DAY}),
        (("display", "letter"), {"display": 0, "letter": DAY}),
        (("display",), {"display": 0}),
        ((), {}),
    ],
)
def test_a_step_that_cannot_be_taken_leaves_its_place_to_the_next(
    possible: tuple[str, ...], expected: dict[str, int]
) -> None:
    assert times(Policy(), "advice", *possible) == expected


def test_a_severity_may_have_its_own_time() -> None:
    assert times(Policy(), "critical", *ALL)["email"] == 0
    assert times(Policy(), "warning", *ALL)["email"] == DAY


def test_the_operator_may_have_another_ladder() -> None:
    policy = Policy(ladder=(Rung(channel="email"), Rung(channel="web_push", after_ms=HOUR)))
    assert steps(policy, "advice", ALL) == [Step("email", 0), Step("web_push", HOUR)]
    assert Policy().ladder == LADDER


# --- with owners and matters ----------------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        opened.policy = Policy(rules=RULES, channels=ALL)
        await opened.write(
            lambda r: r.owners.update(replace(JANA, email="jana@home.example", address="Elbweg 1"))
        )
        yield opened


async def rows(world: World) -> dict[str, Delivery]:
    """The newest row of each channel that is still to come."""
    waiting = await world.read(lambda r: r.outbox.page(states=(DeliveryState.PENDING,)))
    return {row.channel: row for row in reversed(waiting)}


async def test_all_steps_are_queued_with_the_matter(world: World) -> None:
    await world.subscribes()
    await world.found()
    due = {channel: row.due_at - world.now for channel, row in (await rows(world)).items()}
    assert due == {"web_push": 0, "display": 0, "email": DAY, "letter": 7 * DAY}
    assert "Sent at 9:00 to your phone and the Arden 5’s display." in " ".join(await world.story())


async def test_who_has_no_browser_gets_the_mail_at_once(world: World) -> None:
    await world.found()
    assert (await rows(world))["email"].due_at == world.now
    assert "your e-mail address" in " ".join(await world.story())


async def test_who_switched_a_channel_off_is_not_reached_by_it(world: World) -> None:
    await world.subscribes()
    await world.wishes(channels=("web_push", "display", "letter"))
    await world.found()
    found = await rows(world)
    assert "email" not in found
    assert found["letter"].due_at == world.now + DAY


async def test_an_address_that_takes_no_mail_is_no_step(world: World) -> None:
    bad = MailAddress(address="JANA@home.example", state="undeliverable", reason="550", at=1)
    await world.write(lambda r: r.mail_addresses.mark(bad))
    await world.subscribes()
    await world.found()
    assert set(await rows(world)) == {"web_push", "display", "letter"}


async def test_later_steps_are_moved_out_of_the_quiet_hours(world: World) -> None:
    world.policy = replace(
        world.policy, ladder=(Rung(channel="web_push"), Rung(channel="email", after_ms=14 * HOUR))
    )
    await world.subscribes()
    await world.found()  # at 9:00; fourteen hours later it is 23:00
    assert (await rows(world))["email"].due_at == at("2026-11-24T07:00+01:00")


async def test_a_step_after_the_matters_end_is_not_queued(world: World) -> None:
    world.policy = replace(
        world.policy, ladder=(Rung(channel="web_push"), Rung(channel="letter", after_ms=15 * DAY))
    )
    await world.subscribes()
    await world.found()  # ends after 14 days
    assert set(await rows(world)) == {"web_push"}


@pytest.mark.parametrize("action", ["not_now", "book", "call_me"])
async def test_an_answer_takes_back_what_was_to_come(world: World, action: str) -> None:
    await world.subscribes()
    await world.found()
    slot = (await world.touchpoint()).slots[0].id if action == "book" else None
    await world.answers(action, slot=slot)
    waiting = [*await world.queued("email"), *await world.queued("letter")]
    assert [row for row in waiting if row.payload["about"] == "offer"] == []


async def test_what_is_promised_by_mail_is_said_even_after_the_answer(world: World) -> None:
    await world.subscribes()
    await world.found()
    touchpoint = await world.touchpoint()

    def promise(records: Records) -> None:
        outgoing.queue_mail(
            records,
            to="jana@home.example",
            about="confirmation",
            subject="s",
            text="t",
            touchpoint=touchpoint.id,
            now=world.now,
        )

    await world.write(promise)
    await world.answers("not_now")
    assert [row.payload["about"] for row in await world.queued("email")] == ["confirmation"]


async def test_having_seen_it_stops_nothing(world: World) -> None:
    await world.subscribes()
    await world.found()
    push = (await rows(world))["web_push"]
    assert await world.write(lambda r: r.outbox.reached(push.id, Reached.SEEN, world.now))
    assert "email" in await rows(world)


async def failed(world: World, row: Delivery) -> None:
    def work(records: Records) -> None:
        records.outbox.drop_target(row.channel, row.target)
        outgoing.step_failed(records, row, world.now)

    await world.write(work)


async def test_a_step_that_fails_leaves_its_place_to_the_next_at_once(world: World) -> None:
    await world.subscribes()
    await world.found()
    await failed(world, (await rows(world))["web_push"])
    due = await rows(world)
    assert due["email"].due_at == world.now
    assert due["letter"].due_at == world.now + 7 * DAY
    await failed(world, due["email"])
    assert (await rows(world))["letter"].due_at == world.now


async def test_one_phone_of_two_is_no_failed_step(world: World) -> None:
    await world.subscribes("phone")
    await world.subscribes("tablet")
    await world.found()
    first, second = await world.queued("web_push")
    await failed(world, first)
    assert (await rows(world))["email"].due_at == world.now + DAY
    await failed(world, second)
    assert (await rows(world))["email"].due_at == world.now


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("LADDER", '[{"channel": "pigeon", "after": "0s"}]', "channel is one of"),
        ("LADDER", '[{"channel": "email", "after": "soon"}]', "after is a number with"),
        ("LADDER", '[{"channel": "email", "when": "0s"}]', "a step has channel, after and severity"),
        ("LADDER", '[{"channel": "email", "severity": "huge"}]', "severity is one of"),
        ("RETRIES", '{"pigeon": [1]}', "pigeon is no channel"),
        ("EMAIL__URL", "mail.example", "smtp://"),
        ("EMAIL__SENDER", "nobody", "Name <user@host>"),
    ],
)
def test_settings_that_cannot_be_are_faults(key: str, value: str, said: str) -> None:
    from config.settings import SettingsError, load

    with pytest.raises(SettingsError) as caught:
        load(None, {f"TOUCHPOINT_DELIVER__{key}": value})
    assert said in str(caught.value)


def test_the_settings_make_the_ladder(tmp_path: Path) -> None:
    from config.settings import load
    from gateway.parts import make_policy
    from rules import Catalogue
    from rules import load as load_rules

    environ: dict[str, Any] = {
        "TOUCHPOINT_DELIVER__LADDER": '[{"channel": "email", "after": "90m", "severity": "critical"}]',
        "TOUCHPOINT_DELIVER__EMAIL__URL": "smtp://user:sesame@mail.example",
        "TOUCHPOINT_DELIVER__RETRIES": '{"webhook": [1, 2]}',
    }
    policy = make_policy(load(None, environ), load_rules([], Catalogue.parse([])))
    assert policy.ladder == (Rung(channel="email", after_ms=90 * 60_000, severity="critical"),)
    assert "email" in policy.channels
    assert policy.retry_schedules_s == {"webhook": (1, 2)}
    assert "sesame" not in repr(load(None, environ))


async def test_the_manufacturers_app_hears_of_a_matter_each_time_it_is_sent_and_answered(
    world: World,
) -> None:
    """What returns is sent and answered once more; each is an event of its own."""

    def endpoint(records: Records) -> None:
        webhooks.register(
            records,
            audience="manufacturer",
            url="https://app.example/hooks",
            types=(),
            now=world.now,
            random=lambda n: bytes(n),
        )

    await world.write(endpoint)
    await world.found()
    await world.answers("snooze:tomorrow")
    world.go_to("2026-11-24T09:00+01:00")
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN
    await world.answers("snooze:tomorrow")
    events = [row.payload["event"]["type"] for row in await world.queued("webhook")]
    dropped = await world.queued("webhook", DeliveryState.DROPPED)
    told = events + [row.payload["event"]["type"] for row in dropped]
    assert (told.count("touchpoint.sent"), told.count("touchpoint.answered")) == (2, 2)
