"""receive: an acknowledgement waits for the rules, longer for a large batch, and never for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import pytest
from mqtt_lab import HeldJournal, T

from gateway.adapters.clock import VirtualClock
from gateway.domain.counters import Counters
from gateway.domain.messages import Message
from gateway.flow.receive import FAR_BEHIND, HOLD, LONGEST_HOLD, receive
from gateway.ports import Journal

NOW = 1_795_363_200_000


class Handed:
    """One delivery, and when it was acknowledged."""

    packet_ids = None
    again: Sequence[int] = ()

    def __init__(self, count: int, clock: VirtualClock) -> None:
        self.messages: Sequence[Message] = [(T, b"{}")] * count
        self.acknowledged: int | None = None
        self._clock = clock

    def acknowledge(self) -> None:
        self.acknowledged = self._clock.now() - NOW


class Once:
    """A source that has one delivery."""

    def __init__(self, delivery: Handed) -> None:
        self._left = [delivery]

    async def batch(self) -> Handed:
        if not self._left:
            await asyncio.Event().wait()
        return self._left.pop()


@contextlib.asynccontextmanager
async def handing(count: int, behind: Callable[[], int] | None) -> AsyncIterator[tuple[Handed, VirtualClock]]:
    clock = VirtualClock(NOW)
    delivery = Handed(count, clock)
    work = receive(
        Once(delivery),
        cast(Journal, HeldJournal()),
        clock,
        Counters(),
        random=lambda: 0.0,
        behind=behind,
    )
    task = asyncio.create_task(work)
    try:
        yield delivery, clock
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def play(clock: VirtualClock, until: int) -> None:
    """Every moment that somebody waits for, up to so many ms."""
    for _ in range(2 * until):
        for _ in range(20):
            await asyncio.sleep(0)
        due = clock.next_due()
        if due is None or due > NOW + until:
            return
        clock.advance(due)


@pytest.mark.parametrize(
    ("count", "held"), [(1, LONGEST_HOLD), (2_500, LONGEST_HOLD), (9_000, 900), (40_000, 4_000)]
)
async def test_it_waits_no_longer_than_its_size_allows_while_the_rules_stand_still(
    count: int, held: int
) -> None:
    async with handing(count, lambda: FAR_BEHIND + 1) as (delivery, clock):
        await play(clock, held - HOLD)
        assert delivery.acknowledged is None
        await play(clock, held)
        assert delivery.acknowledged == held


async def test_it_goes_out_as_soon_as_the_rules_have_caught_up() -> None:
    left = [FAR_BEHIND + 3]

    def behind() -> int:
        left[0] -= 1
        return left[0]

    async with handing(9_000, behind) as (delivery, clock):
        await play(clock, 900)
        assert delivery.acknowledged == 2 * HOLD


@pytest.mark.parametrize("behind", [None, lambda: FAR_BEHIND])
async def test_it_does_not_wait_where_the_rules_keep_up_or_run_elsewhere(
    behind: Callable[[], int] | None,
) -> None:
    async with handing(9_000, behind) as (delivery, clock):
        await play(clock, 900)
        assert delivery.acknowledged == 0
