"""The device's own display, over MQTT: a retained message while a matter is open, an empty one afterwards.

Topic and payload: docs/wire.md, `touchpoint/v1/{device}/touchpoint/{id}`. Retained, so that a display
that was off shows what is open when it comes on, and nothing that has been answered meanwhile.

Retry: the broker is away or did not acknowledge. Expiry: the gateway clears the message itself.
Topic replacement: the same topic for one touchpoint, so a newer message replaces the older one.
On failure the owner still has the page and the push.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from gateway.domain.delivery import Delivery, Outcome, Retry, Sent


class Publisher(Protocol):
    """What this channel needs of an MQTT client."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """QoS 1: returns when the broker has acknowledged; raises when it has not."""
        ...


class DisplayChannel:
    """See `gateway.ports.Channel`."""

    name = "display"

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def send(self, delivery: Delivery) -> Outcome:
        """Show the matter, or clear it when there is nothing to show."""
        show: Mapping[str, Any] | None = delivery.payload.get("show")
        topic = f"touchpoint/v1/{delivery.target}/touchpoint/{delivery.payload['touchpoint']}"
        payload = b"" if show is None else json.dumps(show, ensure_ascii=False).encode()
        try:
            await self._publisher.publish(topic, payload, retain=True)
        except Exception as error:  # the client's own errors; which library it is, is not known here
            return Retry(detail=f"broker: {type(error).__name__}: {error}")
        return Sent(detail="cleared" if show is None else "shown")

    async def close(self) -> None:
        """The publisher belongs to whoever made it."""
