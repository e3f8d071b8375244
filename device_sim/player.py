"""The player: everything that happens in a scenario, in order, on a clock that others move.

Sources (the fleet, people, workshops) say when they act next; the player lets the earliest act and publishes
what comes of it, one message after the other, each acknowledged before the next. The same scenario and seed
therefore give the same messages in the same order, whatever the speed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

from device_sim.fleet import Fleet, Message
from device_sim.scenario import Scenario

Publish: TypeAlias = Callable[[str, str, bytes], Awaitable[None]]
"""publish(device, topic, payload), done when the broker has acknowledged it"""


class Source(Protocol):
    """Somebody who acts by themselves, besides the devices."""

    def next_at(self) -> int | None:
        """ms of the next act; None while there is none."""
        ...

    async def play(self, at: int) -> Sequence[Message]:
        """Act, and give what a device publishes because of it."""
        ...


class Player:
    """Plays a scenario. Where two act in the same millisecond, devices come first, then sources in order."""

    def __init__(
        self, scenario: Scenario, seed: int, publish: Publish, *, fleet: Fleet | None = None
    ) -> None:
        self.scenario = scenario
        self.fleet = fleet or Fleet(scenario, seed)
        self.now = scenario.start
        """ms of story time up to which it has played"""
        self.published = 0
        self._publish = publish
        self._sources: list[Source] = []

    def add(self, source: Source) -> None:
        """Let people or workshops act, too."""
        self._sources.append(source)

    def next_at(self) -> int | None:
        """ms of the next event; None when nothing will ever happen by itself."""
        return min((at for at, _ in self._due()), default=None)

    async def play_until(self, until: int) -> int:
        """Let everything happen that is due up to and including `until`; gives the number of messages."""
        before = self.published
        while True:
            at, source = min(self._due(), key=lambda due: due[0], default=(until + 1, None))
            if at > until:
                break
            self.now = max(self.now, at)
            messages = self.fleet.play() if source is None else await source.play(at)
            await self._send(messages)
        self.now = max(self.now, until)
        return self.published - before

    async def play_history(self) -> int:
        """Publish what the devices reported before the start, as late data; gives the number of messages."""
        before = self.published
        await self._send(list(self.fleet.history()))
        return self.published - before

    def _due(self) -> Iterator[tuple[int, Source | None]]:
        yield self.fleet.next_at(), None
        for source in self._sources:
            at = source.next_at()
            if at is not None:
                yield at, source

    async def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            await self._publish(*message)
            self.published += 1
