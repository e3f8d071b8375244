"""receive: take messages from the broker in batches, journal them raw, acknowledge them after the commit.

Nothing is acknowledged that is not on disk. When the journal cannot take a batch, the same batch is tried
again; meanwhile no acknowledgement goes out, and the broker's Receive Maximum stops the flow. What the broker
sends again because our acknowledgement did not reach it is in the journal already, and is only acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from gateway.domain.counters import Counters
from gateway.domain.messages import Message, PacketIds
from gateway.ports import Clock, Journal, JournalFullError, JournalWriteError

log = structlog.get_logger()

SHORTEST_WAIT = 100
LONGEST_WAIT = 5_000
"""ms between two tries to append the same batch."""


FAR_BEHIND = 20_000
"""Messages; half of what the journal keeps in memory."""
HOLD, LONGEST_HOLD, SLOWEST = 25, 250, 10
"""ms between two looks whether the rules have caught up (a look costs a tenth of a ms itself), and until a
batch is acknowledged anyway; a large one only after as long as so many messages a ms would take, else batches
of many thousands outrun the rules, and what memory no longer holds is read and decoded a second time."""


class Delivery(Protocol):
    """Messages that the broker has handed over and still holds."""

    @property
    def messages(self) -> Sequence[Message]:
        """In the order of their arrival; one at least."""
        ...

    @property
    def packet_ids(self) -> PacketIds | None:
        """What the broker calls them; None when no message has an id."""
        ...

    @property
    def again(self) -> Sequence[int]:
        """Indices of the messages that the broker says it has sent before (DUP). Without that a message is
        never a repeated one; nor is it in a new session, whose packet ids have named nothing yet."""
        ...

    def acknowledge(self) -> None:
        """Tell the broker that it may forget them; nothing when the connection they came by is gone."""
        ...


class Source(Protocol):
    """Where messages come from."""

    async def batch(self) -> Delivery:
        """Wait until a batch is gathered."""
        ...


def backoff(tries: int, random: Callable[[], float], *, shortest: int, longest: int) -> int:
    """ms to wait after so many failed tries: doubled each time, half of it by chance."""
    return int(min(longest, shortest * 2.0 ** min(tries, 30)) * (0.5 + random() / 2))


async def receive(
    source: Source,
    journal: Journal,
    clock: Clock,
    counters: Counters,
    *,
    random: Callable[[], float],
    behind: Callable[[], int] | None = None,
) -> None:
    """Run until cancelled.

    `behind` says how many messages the rules of this process have still to assess: beyond FAR_BEHIND
    acknowledgements wait a little, for what is assessed while it is still in memory costs half.
    """
    while True:
        delivery = await source.batch()
        await _append(delivery, journal, clock, counters, random)
        if behind is not None:
            await _let_catch_up(behind, clock, len(delivery.messages))
        delivery.acknowledge()


async def _let_catch_up(behind: Callable[[], int], clock: Clock, messages: int) -> None:
    until = clock.now() + max(LONGEST_HOLD, messages // SLOWEST)
    while behind() > FAR_BEHIND and clock.now() < until:
        await clock.wait(asyncio.Event(), clock.now() + HOLD)


async def not_journaled(delivery: Delivery, journal: Journal) -> tuple[Sequence[Message], PacketIds | None]:
    """The delivery without what the journal holds: marked as sent again, and under the same packet id the
    newest message there has the same topic and payload. Raises JournalWriteError."""
    messages, packet_ids, again = delivery.messages, delivery.packet_ids, set(delivery.again)
    if packet_ids is None or not again:
        return messages, packet_ids
    numbers = packet_ids.numbers()
    newest = await journal.by_packet_id(packet_ids.session, {numbers[index] for index in again})
    fresh = [
        index
        for index, message in enumerate(messages)
        if index not in again or newest.get(numbers[index]) != message
    ]
    return [messages[index] for index in fresh], packet_ids.only(fresh)


async def _append(
    delivery: Delivery,
    journal: Journal,
    clock: Clock,
    counters: Counters,
    random: Callable[[], float],
) -> None:
    received, tries, said = clock.now(), 0, ""
    while True:
        try:
            messages, packet_ids = await not_journaled(delivery, journal)
            if messages:
                await journal.append(messages, received, packet_ids)
        except (JournalFullError, JournalWriteError) as error:
            counters.journal_waits += 1
            if str(error) != said:  # once for each cause, however often it is tried
                said = str(error)
                _say(error)
            pause = backoff(tries, random, shortest=SHORTEST_WAIT, longest=LONGEST_WAIT)
            await clock.wait(asyncio.Event(), clock.now() + pause)
            tries += 1
        else:
            if tries:
                log.info("journal_recovered", tries=tries, waited_ms=clock.now() - received)
            counters.journaled += len(messages)
            counters.redelivered += len(delivery.messages) - len(messages)
            return


def _say(error: Exception) -> None:
    if isinstance(error, JournalFullError):
        log.warning(
            "journal_full",
            problem=str(error),
            effect="nothing is acknowledged, the broker holds the messages",
            todo="see which reader is behind with `touchpoint journal status`, or raise journal.max_bytes",
        )
    else:
        log.error(
            "journal_not_written",
            problem=str(error),
            effect="nothing is acknowledged, the broker holds the messages",
        )
