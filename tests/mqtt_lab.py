"""What the tests of receive stand on: publishers of their own, a journal that can be told to hold still."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any

import aiomqtt
from real_parts import PATIENCE_S

from gateway.adapters.clock import SystemClock
from gateway.adapters.mqtt import Broker, MqttSource
from gateway.domain.counters import Counters
from gateway.domain.messages import Batch, Message, PacketIds
from gateway.flow.receive import receive
from gateway.ports import Journal

T = "touchpoint/v1/car-1/telemetry"


class HeldJournal:
    """A journal in memory. `gate` lets appends through; `faults` are raised first, one an append."""

    def __init__(self, *, closed: bool = False, faults: Sequence[Exception] = ()) -> None:
        self.gate = asyncio.Event()
        if not closed:
            self.gate.set()
        self.faults = list(faults)
        self.messages: list[Message] = []
        self.named: dict[tuple[int, int], Message] = {}
        self.tried = 0

    async def append(
        self, messages: Sequence[Message], received: int, packet_ids: PacketIds | None = None
    ) -> int:
        self.tried += 1
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        self.messages += messages
        if packet_ids is not None:
            for number, message in zip(packet_ids.numbers(), messages, strict=True):
                self.named[packet_ids.session, number] = message
        return len(self.messages) - len(messages) + 1

    async def by_packet_id(self, session: int, ids: Collection[int]) -> Mapping[int, Message]:
        return {number: self.named[session, number] for number in ids if (session, number) in self.named}

    async def append_controls(self, controls: Sequence[Mapping[str, Any]], received: int) -> int:
        raise NotImplementedError

    async def read(self, after: int, *, limit: int) -> list[Batch]:
        raise NotImplementedError

    async def commit(self, reader: str, position: int) -> None: ...

    def head(self) -> int:
        return len(self.messages)

    def appended(self) -> asyncio.Event:
        return asyncio.Event()

    def status(self) -> Mapping[str, Any]:
        return {}

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.messages]


async def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait for something that another process brings about and nothing announces."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


@contextlib.asynccontextmanager
async def receiving(
    broker: Broker | str, journal: Journal, counters: Counters | None = None, **options: Any
) -> AsyncIterator[MqttSource]:
    """Receive from the broker into the journal while inside; connected when it begins."""
    if isinstance(broker, str):
        broker = Broker(url=broker, client_id="gateway")
    counters = counters or Counters()
    options = {"batch_delay_ms": 2, "random": lambda: 0.5} | options
    wait = options.pop("wait", True)
    source = MqttSource(broker, counters=counters, **options)
    tasks = [
        asyncio.create_task(source.run()),
        asyncio.create_task(receive(source, journal, SystemClock(), counters, random=lambda: 0.0)),
    ]
    try:
        if wait:
            await until(lambda: source.state.connected, "connected")
        yield source
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, asyncio.CancelledError):
                raise result


async def publish(url: str, messages: Sequence[Message], *, qos: int = 1, retain: bool = False) -> None:
    """Publish in order, each acknowledged by the broker."""
    port = int(url.rsplit(":", 1)[1])
    async with aiomqtt.Client("127.0.0.1", port, max_queued_outgoing_messages=0) as client:
        client.pending_calls_threshold = 100_000
        for start in range(0, len(messages), 500):
            chunk = messages[start : start + 500]
            await asyncio.gather(
                *(client.publish(t, p, qos=qos, retain=retain, timeout=PATIENCE_S) for t, p in chunk)
            )
