"""The journal as a channel: control entries that follow from the domain (counter resets, registrations).

An entry carries the id of its outbox row. Whoever reads the journal may meet it twice after a crash
between appending and storing the outcome; setting a counter back, or saying again what a device is,
changes nothing the second time.

Retry: the journal could not be written. Refused, Gone: never. The owner sees nothing of it.
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.domain.delivery import Delivery, Outcome, Retry, Sent
from gateway.ports import Clock, Journal, JournalFullError, JournalWriteError

REMEMBERED = 1_000
"""Entries appended by this process that it does not append again."""


class JournalChannel:
    """See `gateway.ports.Channel`; the payload is the control entry."""

    name = "journal"

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._appended: OrderedDict[str, None] = OrderedDict()

    async def send(self, delivery: Delivery) -> Outcome:
        """Append the entry, durable when this returns."""
        if delivery.id in self._appended:
            return Sent(detail="appended before")
        try:
            position = await self._journal.append_controls(
                [{**delivery.payload, "id": delivery.id}], self._clock.now()
            )
        except (JournalWriteError, JournalFullError) as error:
            return Retry(detail=str(error))
        self._appended[delivery.id] = None
        if len(self._appended) > REMEMBERED:
            self._appended.popitem(last=False)
        return Sent(detail=f"position {position}")

    async def close(self) -> None:
        """Nothing of its own to close."""
