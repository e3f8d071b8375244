"""The last step of the ladder, all the way: a week without an answer, and a line for the call centre."""

import csv
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from garage import DAY, JANA, SIGNALS, TEXTS, World, open_world

from gateway.channels.letter import LetterChannel
from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, Outcome, Sent
from gateway.domain.policy import LADDER
from gateway.flow.deliver import Deliverer
from gateway.flow.outgoing import Renderer


class Elsewhere:
    """A channel that takes everything."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.taken: list[Delivery] = []

    async def send(self, delivery: Delivery) -> Outcome:
        self.taken.append(delivery)
        return Sent()

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        channels = ("web_push", "display", "email", "letter")
        opened.policy = replace(opened.policy, channels=channels, ladder=LADDER)
        jana = replace(JANA, email="jana@keller.example", address="Am Deich 4, Hamburg", phone="+49 40 1234")
        await opened.write(lambda records: records.owners.update(jana))
        await opened.wishes(channels=channels)
        yield opened


@pytest.fixture
def deliverer(world: World, tmp_path: Path) -> Callable[[], Deliverer]:
    channels: dict[str, Any] = {name: Elsewhere(name) for name in ("web_push", "display", "email")}
    channels["letter"] = LetterChannel(tmp_path / "letters", world.clock.now)

    def make() -> Deliverer:
        renderer = Renderer(
            texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://tp.example"
        )
        return Deliverer(world.database, world.clock, channels, world.policy, renderer, Counters())

    return make


def letters(folder: Path) -> list[dict[str, str]]:
    paths = sorted((folder / "letters").glob("*.csv"))
    return [row for path in paths for row in csv.DictReader(path.read_text("utf-8").splitlines())]


async def days(world: World, deliverer: Callable[[], Deliverer], number: int) -> None:
    """So many days pass, with what falls due in them; the process is another one each day."""
    for _ in range(number):
        await deliverer().now()
        world.clock.advance(world.now + DAY)
        await world.timers()
    await deliverer().now()


async def test_who_says_nothing_for_a_week_is_written_to(
    world: World, deliverer: Callable[[], Deliverer], tmp_path: Path
) -> None:
    await world.subscribes()
    await world.found()
    matter = await world.touchpoint()
    await days(world, deliverer, 6)
    assert letters(tmp_path) == []
    await days(world, deliverer, 1)
    [letter] = letters(tmp_path)
    assert (letter["name"], letter["address"]) == ("Jana Keller", "Am Deich 4, Hamburg")
    assert (letter["phone"], letter["touchpoint"]) == ("+49 40 1234", matter.id)
    assert letter["text"]
    assert letter["page"] == f"https://tp.example/me/touchpoints/{matter.id}"
    assert "to your postal address: there was no answer yet" in " ".join(await world.story())
    await days(world, deliverer, 3)
    assert len(letters(tmp_path)) == 1


async def test_who_answers_on_the_sixth_day_is_not(
    world: World, deliverer: Callable[[], Deliverer], tmp_path: Path
) -> None:
    await world.subscribes()
    await world.found()
    await days(world, deliverer, 6)
    await world.answers("noted")
    await days(world, deliverer, 4)
    assert letters(tmp_path) == []
