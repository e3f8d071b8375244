"""Pages are made ready when a gateway has time for it, when somebody comes, or in the end anyway."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp_jinja2
import jinja2
import pytest
from web_lab import NOW, Lab, web_lab

from gateway.adapters.clock import VirtualClock
from gateway.web import warming
from gateway.web.render import OPENED
from gateway.web.warming import BEHIND, CALM, LATEST_MS, LOOK_MS, warm_in_time


@dataclass
class Start:
    """A process that has just begun, and how much it has to do."""

    clock: VirtualClock
    opened: asyncio.Event
    share: float = 0.0
    """of a core, what it uses"""
    behind: int = 0
    used: float = 0.0
    warmed_at: int | None = None

    async def play(self, until: int) -> None:
        """Up to so many ms after the start."""
        while (due := self.clock.next_due()) is not None and due <= NOW + until:
            self.used += self.share * (due - self.clock.now()) / 1000
            self.clock.advance(due)
            await self.turns()

    async def turns(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    clock, opened = VirtualClock(NOW), asyncio.Event()
    begun = Start(clock, opened)

    async def warm(_: object) -> None:
        begun.warmed_at = clock.now() - NOW

    monkeypatch.setattr(warming, "warm", warm)
    work = warm_in_time({OPENED: opened}, clock, used=lambda: begun.used, behind=lambda: begun.behind)  # type: ignore[arg-type]
    task = asyncio.create_task(work)
    await begun.turns()
    yield begun
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_idle_start_makes_them_ready_after_three_seconds(start: Start) -> None:
    await start.play(LATEST_MS)
    assert start.warmed_at == CALM * LOOK_MS == 3_000


async def test_it_waits_while_the_gateway_catches_up(start: Start) -> None:
    start.share = 0.9
    await start.play(20_000)
    assert start.warmed_at is None
    start.share = 0.1
    await start.play(LATEST_MS)
    assert start.warmed_at == 20_000 + CALM * LOOK_MS


async def test_a_breath_between_is_not_the_end_of_catching_up(start: Start) -> None:
    for second in range(20):
        start.share = 0.1 if second % CALM else 0.9
        await start.play(1_000 * (second + 1))
    assert start.warmed_at is None


async def test_it_waits_for_the_rules_where_others_have_the_processor(start: Start) -> None:
    start.behind = BEHIND + 1
    await start.play(20_000)
    assert start.warmed_at is None
    start.behind = BEHIND
    await start.play(LATEST_MS)
    assert start.warmed_at == 20_000 + CALM * LOOK_MS


async def test_it_does_not_wait_for_ever(start: Start) -> None:
    start.share, start.behind = 1.5, 100_000
    await start.play(10 * LATEST_MS)
    assert start.warmed_at == LATEST_MS


async def test_a_page_that_somebody_opens_ends_the_wait(start: Start) -> None:
    start.share = 0.9
    await start.play(10_000)
    start.opened.set()
    await start.turns()
    assert start.warmed_at == 10_000


@contextlib.asynccontextmanager
async def warmed(lab: Lab) -> AsyncIterator[None]:
    """The pages of a gateway that catches up all the time."""
    clock = VirtualClock(NOW)
    task = asyncio.create_task(
        warm_in_time(lab.app, clock, used=lambda: clock.now() / 1000, behind=lambda: 0)
    )
    await asyncio.sleep(0)
    while clock.next_due() is not None and clock.now() < NOW + 2 * CALM * LOOK_MS:
        clock.advance(clock.next_due() or 0)
        for _ in range(10):
            await asyncio.sleep(0)
    yield
    await asyncio.wait_for(task, 30)


async def test_a_page_that_is_asked_for_makes_the_others_ready(tmp_path: Path) -> None:
    async with web_lab(tmp_path) as lab:
        environment = aiohttp_jinja2.get_env(lab.app)
        async with warmed(lab):
            async with lab.client.get("/health/live") as answer:
                assert answer.status == 200
            assert not lab.app[OPENED].is_set()  # who only looks whether it runs opens no page
            assert not _compiled(environment)
            async with lab.client.get("/sign-in") as answer:
                assert answer.status == 200
        assert _compiled(environment) >= set(warming.FIRST)


def _compiled(environment: jinja2.Environment) -> set[str]:
    return {name for _, name in environment.cache or ()}
