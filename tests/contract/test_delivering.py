"""Webhooks, mail addresses and outcomes keep what they were given; the outbox finds what it is asked for."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from garage import World, open_world

from gateway.adapters.database import schema
from gateway.domain.delivery import Attempt, Delivery, DeliveryState, MailAddress, Reached
from gateway.domain.errors import NotFoundError
from gateway.domain.webhooks import EndpointState, SigningSecret, Webhook
from gateway.ports import Records


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


HOOK = Webhook(
    id="w1",
    audience="manufacturer",
    url="https://hooks.example/",
    types=("touchpoint.sent", "appointment.*"),
    secrets=(SigningSecret(text="whsec_new"), SigningSecret(text="whsec_old", until=9)),
    created=1,
)


def row(delivery_id: str, **changes: Any) -> Delivery:
    plain: dict[str, Any] = {"channel": "email", "target": "a@b.example", "key": delivery_id, "payload": {}}
    return Delivery(id=delivery_id, **(plain | changes))


def queued(*deliveries: Delivery) -> Callable[[Records], None]:
    return lambda r: [r.outbox.add(delivery) for delivery in deliveries] and None


# --- webhooks -------------------------------------------------------------------------------------


async def test_an_endpoint_comes_back_as_it_was_and_is_replaced_whole(world: World) -> None:
    await world.write(lambda r: r.webhooks.put(HOOK))
    assert await world.read(lambda r: r.webhooks.get("w1")) == HOOK
    off = replace(HOOK, state=EndpointState.DISABLED, disabled_at=7, reason="410", secrets=())
    await world.write(lambda r: r.webhooks.put(off))
    assert await world.read(lambda r: r.webhooks.page()) == [off]
    await world.write(lambda r: r.webhooks.remove("w1"))
    assert await world.read(lambda r: r.webhooks.find("w1")) is None
    with pytest.raises(NotFoundError):
        await world.read(lambda r: r.webhooks.get("w1"))


@pytest.mark.parametrize(
    ("audience", "event_type", "hears"),
    [
        ("manufacturer", "touchpoint.sent", True),
        ("manufacturer", "appointment.done", True),
        ("manufacturer", "touchpoint.answered", False),
        ("workshop:nord", "appointment.done", False),
    ],
)
async def test_who_hears_what(world: World, audience: str, event_type: str, hears: bool) -> None:
    await world.write(lambda r: r.webhooks.put(HOOK))
    assert bool(await world.read(lambda r: r.webhooks.hearing(audience, event_type))) is hears


def test_which_secrets_sign() -> None:
    assert HOOK.signing(8) == ("whsec_new", "whsec_old")
    assert HOOK.signing(9) == ("whsec_new",)
    turned = HOOK.rotated(100, lambda n: b"x" * n)
    assert len(turned.signing(100)) == 2
    assert turned.secrets[1] == SigningSecret(text="whsec_new", until=100 + 86_400_000)


# --- addresses and outcomes -----------------------------------------------------------------------


async def test_an_address_is_the_same_however_it_is_written(world: World) -> None:
    bad = MailAddress(address="Jana@Home.example", state="undeliverable", reason="550", at=3)
    await world.write(lambda r: r.mail_addresses.mark(bad))
    found = await world.read(lambda r: r.mail_addresses.find(" jana@home.EXAMPLE"))
    assert found == replace(bad, address="jana@home.example")
    assert await world.read(lambda r: r.mail_addresses.undeliverable("jana@home.example"))
    await world.write(lambda r: r.mail_addresses.mark(replace(bad, state="good")))
    assert not await world.read(lambda r: r.mail_addresses.undeliverable("jana@home.example"))


async def test_each_outcome_is_noted_once_with_its_first_time(world: World) -> None:
    await world.write(queued(row("d1"), row("d2")))

    def work(records: Records) -> list[bool]:
        reached = records.outbox.reached
        return [
            reached("d1", Reached.SEEN, 5),
            reached("d1", Reached.SENT, 5),
            reached("d1", Reached.SEEN, 9),
            reached("nothing", Reached.SEEN, 9),
        ]

    assert await world.write(work) == [True, True, False, False]
    known = await world.read(lambda r: r.outbox.outcomes(["d1", "d2"]))
    assert [(one.outcome, one.at) for one in known["d1"]] == [(Reached.SENT, 5), (Reached.SEEN, 5)]
    assert "d2" not in known


# --- the outbox -----------------------------------------------------------------------------------


async def test_only_an_older_one_that_was_tried_to_the_same_target_is_ahead(world: World) -> None:
    await world.write(
        queued(row("d1"), row("other", target="c@d.example"), row("push", channel="web_push"), row("d2"))
    )
    ahead = lambda of: world.read(lambda r: r.outbox.ahead_of(r.outbox.get(of)))  # noqa: E731
    assert await ahead("d2") is None  # nothing was tried yet
    tried = row("d1", attempts=1, due_at=60)
    attempt = Attempt(delivery="d1", number=1, at=1, result="retry", detail="451")
    await world.write(lambda r: r.outbox.finish(tried, attempt))
    assert (await ahead("d2")).id == "d1"
    for unconcerned in ("d1", "other", "push"):
        assert await ahead(unconcerned) is None
    await world.write(lambda r: r.outbox.finish(replace(tried, state=DeliveryState.SENT), attempt))
    assert await ahead("d2") is None


async def test_one_that_falls_due_in_a_moment_is_ahead_and_a_later_step_is_not(world: World) -> None:
    await world.write(queued(row("step", due_at=9_000), row("back", due_at=70), row("d2", due_at=50)))
    ahead = await world.read(lambda r: r.outbox.ahead_of(r.outbox.get("d2"), 100))
    assert ahead is not None
    assert ahead.id == "back"


async def test_only_what_a_touchpoint_is_about_is_dropped(world: World) -> None:
    await world.write(
        queued(
            row("d1", touchpoint="t_1", key="t_1:offer:d1"),
            row("d2", touchpoint="t_1", key="t_1:visit:d2"),
            row("d3", touchpoint="tx1", key="tx1:offer:d3"),
        )
    )
    assert await world.write(lambda r: r.outbox.drop_pending("t_1", channel="email", about="offer")) == 1
    states = await world.read(lambda r: [r.outbox.get(f"d{n}").state for n in (1, 2, 3)])
    assert states == ["dropped", "pending", "pending"]


async def test_a_row_is_moved_while_it_waits_and_put_back_while_it_is_leased(world: World) -> None:
    await world.write(queued(row("d1", due_at=50)))
    await world.write(lambda r: r.outbox.put_back("d1", 70))  # nobody has it
    assert (await world.read(lambda r: r.outbox.get("d1"))).due_at == 50
    await world.write(lambda r: r.outbox.move("d1", 5))
    (claimed,) = await world.write(lambda r: r.outbox.claim(5, lease_ms=9, limit=9, channels=["email"]))
    await world.write(lambda r: r.outbox.move("d1", 6))  # it is being sent
    assert (await world.read(lambda r: r.outbox.get("d1"))).due_at == claimed.due_at
    await world.write(lambda r: r.outbox.put_back("d1", 70))
    back = await world.read(lambda r: r.outbox.get("d1"))
    assert (back.state, back.due_at, back.lease_until, back.attempts) == ("pending", 70, None, 0)


async def test_what_waits_for_a_target_is_dropped_and_what_went_to_it_is_found(world: World) -> None:
    await world.write(queued(row("d1"), row("d2", state=DeliveryState.SENT), row("x", target="else")))
    assert await world.write(lambda r: r.outbox.drop_target("email", "a@b.example")) == 1
    found = await world.read(lambda r: r.outbox.to_target("email", "a@b.example"))
    assert [(one.id, one.state) for one in found] == [("d2", "sent"), ("d1", "dropped")]
    assert (await world.read(lambda r: r.outbox.get("x"))).state is DeliveryState.PENDING


@pytest.mark.parametrize(
    ("index", "work"),
    [
        ("outbox_target", lambda r: r.outbox.to_target("email", "a")),
        ("outbox_target", lambda r: r.outbox.ahead_of(row("d1"))),
        ("outbox_target", lambda r: r.outbox.drop_target("email", "a")),
        ("webhooks_audience", lambda r: r.webhooks.hearing("manufacturer", "x.y")),
        ("delivery_outcomes", lambda r: r.outbox.outcomes(["d1", "d2"])),
        ("mail_addresses", lambda r: r.mail_addresses.find("a")),
    ],
)
async def test_an_index_serves_every_lookup(world: World, index: str, work: Any) -> None:
    plan = await world.write(lambda r: query_plan(r, work))
    assert any(index in line and "SEARCH" in line for line in plan), plan
    assert not any(line.startswith("SCAN") and "CONSTANT" not in line for line in plan), plan


def query_plan(records: Any, work: Callable[[Records], Any]) -> list[str]:
    said: list[str] = []
    connection = records.transaction.connection
    driver = connection.connection.driver_connection
    driver.set_trace_callback(said.append)
    try:
        work(records)
    finally:
        driver.set_trace_callback(None)
    plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all() for text in said]
    return [line.detail for plan in plans for line in plan]


# --- owners of before -----------------------------------------------------------------------------


def test_who_chose_channels_once_keeps_the_choice_and_gets_the_new_ones(tmp_path: Path) -> None:
    """A database of before is upgraded: what could not be chosen then is on until it is switched off."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/domain.db")
    config = Config()
    config.set_main_option("script_location", str(schema._MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.exec_driver_sql(
            "INSERT INTO owners (id, name, language, time_zone, wishes, created, search) "
            "VALUES ('jana', 'Jana', 'en', 'UTC', '{}', 1, 'jana')"
        )
        connection.exec_driver_sql(
            "INSERT INTO preferences (owner, quiet_from, quiet_to, channels, muted, weekly_budget) "
            "VALUES ('jana', '21:00', '07:00', '[\"display\"]', '[]', 2)"
        )
        command.upgrade(config, "0004")
        channels = connection.exec_driver_sql("SELECT channels FROM preferences").scalar()
    engine.dispose()
    assert channels == '["display", "email", "letter", "webhook"]'
