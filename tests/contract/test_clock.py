"""What both clocks promise."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.adapters.clock import SystemClock, VirtualClock
from gateway.ports import Clock

Drive = Callable[[Clock], None]


@pytest.fixture(params=["system", "virtual"])
async def clock(request: pytest.FixtureRequest) -> AsyncIterator[Clock]:
    """A clock that moves: the virtual one is pushed on whenever somebody waits for a time."""
    if request.param == "system":
        yield SystemClock()
        return
    clock = VirtualClock(1_795_363_200_000)

    async def drive() -> None:
        while True:
            await asyncio.sleep(0)
            if (due := clock.next_due()) is not None:
                clock.advance(due)

    driver = asyncio.create_task(drive())
    yield clock
    driver.cancel()
    await asyncio.gather(driver, return_exceptions=True)


async def test_now_is_utc_milliseconds(clock: Clock) -> None:
    assert 1_700_000_000_000 < clock.now() < 4_000_000_000_000


async def test_an_event_that_is_set_needs_no_waiting(clock: Clock) -> None:
    event = asyncio.Event()
    event.set()
    assert await clock.wait(event, clock.now() - 5) is True
    assert event.is_set(), "the clock clears no event"


async def test_a_time_that_has_come_needs_no_waiting(clock: Clock) -> None:
    assert await clock.wait(asyncio.Event(), clock.now()) is False


async def test_waits_until_its_time(clock: Clock) -> None:
    until = clock.now() + 20
    assert await clock.wait(asyncio.Event(), until) is False
    assert clock.now() >= until


async def test_an_event_ends_the_waiting(clock: Clock) -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(clock.wait(event))
    await asyncio.sleep(0)
    event.set()
    assert await waiting is True


class TestVirtual:
    start = 1_795_363_200_000

    async def test_stands_still_until_it_is_advanced(self) -> None:
        clock = VirtualClock(self.start)
        waiting = asyncio.create_task(clock.wait(asyncio.Event(), self.start + 3_600_000))
        await asyncio.sleep(0)
        clock.advance(self.start + 3_599_999)
        await asyncio.sleep(0)
        assert not waiting.done()
        assert clock.next_due() == self.start + 3_600_000
        clock.advance(self.start + 3_600_000)
        assert await waiting is False

    async def test_never_goes_back(self) -> None:
        clock = VirtualClock(self.start)
        clock.advance(self.start - 1)
        assert clock.now() == self.start

    async def test_settles_only_when_every_registered_task_stands_idle(self) -> None:
        clock, work = VirtualClock(self.start), asyncio.Event()
        gate, done = asyncio.Event(), 0

        async def worker() -> None:
            nonlocal done
            while True:
                await clock.wait(work)
                work.clear()
                await gate.wait()  # busy elsewhere, not idle
                done += 1

        task = asyncio.create_task(worker())
        clock.register(task)
        await clock.settled()
        work.set()
        settling = asyncio.create_task(clock.settled())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not settling.done()
        gate.set()
        await settling
        assert done == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_is_not_settled_while_somebody_is_due(self) -> None:
        clock, woken = VirtualClock(self.start), 0

        async def worker() -> None:
            nonlocal woken
            while True:
                await clock.wait(asyncio.Event(), clock.now() + 1000)
                woken += 1

        task = asyncio.create_task(worker())
        clock.register(task)
        await clock.settled()
        for step in range(1, 4):
            clock.advance(self.start + step * 1000)
            await clock.settled()
            assert woken == step
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await clock.settled()  # an ended task holds nobody up
