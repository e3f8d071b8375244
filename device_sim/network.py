"""The network as it is, and devices that are not as they should be: what becomes of what a unit says.

Gaps and late delivery are the unit's own (it has to keep what it measured). Here is the rest: messages that
come twice, a clock that is wrong, a firmware that sends the wrong unit, sensors that drift or drop out,
payloads that are none, a device that floods, and one that speaks in another's name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from device_sim.faults import DAY_MS
from device_sim.scenario import DevicePart, Scenario, TroublePart
from device_sim.wire import PREFIX, Event, Message, Reading, payload

NOISE = (
    b"",
    b"{",
    b"null",
    b"[1,2,3]",
    b"\xff\xfe\x00garbage",
    b'{"ts":"yesterday","signals":{"speed":1}}',
    b'{"ts":1,"signals":[]}',
    b'{"signals":{"speed":"fast","engine_speed":{"rpm":1}}}',
    b'{"ts":1e400,"signals":{"speed":1}}',
    b'{"signals":' + b"[" * 300 + b"]" * 300 + b"}",
)
"""Payloads that no codec should take, and none should stumble over."""


class Network:
    """What happens to one device's messages."""

    def __init__(self, scenario: Scenario, part: DevicePart, seed: int) -> None:
        self._id = part.id
        self._rng = random.Random(f"{seed}/{part.id}/network")
        self._troubles = [
            (scenario.ms(trouble.begin), scenario.ms(trouble.end), trouble) for trouble in part.troubles
        ]

    def spoilt(self, item: Reading | Event) -> Reading | Event:
        """What the device itself makes of a reading: another time, another unit."""
        if not self._troubles:
            return item
        at = item.ts
        for begin, end, trouble in self._troubles:
            if not begin <= at < end:
                continue
            if trouble.what == "wrong_clock":
                item = replace(item, ts=item.ts + trouble.shift)
            elif isinstance(item, Reading):
                item = self._measured(item, trouble, (at - begin) / DAY_MS)
        return item

    def _measured(self, item: Reading, trouble: TroublePart, days: float) -> Reading:
        """What sensors make of it after so many days of a trouble."""
        if trouble.what == "wrong_unit":
            return replace(item, signals=dict(_rescaled(item, trouble, trouble.factor, trouble.offset)))
        if trouble.what == "drift":
            return replace(item, signals=dict(_rescaled(item, trouble, 1.0, trouble.per_day * days)))
        if trouble.what == "dropouts":
            return replace(item, signals=dict(self._left(item, trouble)))
        return item

    def _left(self, item: Reading, trouble: TroublePart) -> Iterator[tuple[str, object]]:
        """What is not missing; one value is always left, for a message says something."""
        *others, last = item.signals.items()
        for name, value in others:
            if trouble.signal not in ("", name) or self._rng.random() >= trouble.share:
                yield name, value
        yield last

    def sent(self, at: int, messages: list[Message]) -> list[Message]:
        """What reaches the broker of what the device publishes at `at` (ms)."""
        if not self._troubles:
            return messages
        for trouble in self._now(at):
            messages = list(self._changed(messages, trouble, at))
        return messages

    def _now(self, at: int) -> Iterator[TroublePart]:
        return (trouble for begin, end, trouble in self._troubles if begin <= at < end)

    def _changed(self, messages: list[Message], trouble: TroublePart, at: int) -> Iterator[Message]:
        for message in messages:
            happens = self._rng.random() < trouble.share
            if trouble.what == "poison" and happens:
                yield message._replace(payload=self._rng.choice(NOISE))
            elif trouble.what == "somebody_else" and trouble.whose is not None:
                yield message
                topic = f"{PREFIX}/{trouble.whose}/telemetry"
                yield message._replace(topic=topic)
            elif trouble.what == "duplicates" and happens:
                yield from (message, message)
            elif trouble.what == "flood":
                yield message
                yield from self._flood(trouble, at)
            else:
                yield message

    def _flood(self, trouble: TroublePart, at: int) -> Iterator[Message]:
        for number in range(trouble.count):
            body = {"ts": at + number, "signals": {"speed": 0.0}}
            yield Message(self._id, f"{PREFIX}/{self._id}/telemetry", payload(body))


def _rescaled(
    item: Reading, trouble: TroublePart, factor: float, offset: float
) -> Iterator[tuple[str, object]]:
    for name, value in item.signals.items():
        if name == trouble.signal and isinstance(value, int | float):
            yield name, round(value * factor + offset, 3)
        else:
            yield name, value
