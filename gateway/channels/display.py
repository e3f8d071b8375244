"""The device's own display, over MQTT: a retained message while a matter is open, an empty one afterwards.

Topic and payload: docs/wire.md, `touchpoint/v1/{device}/touchpoint/{id}`. Retained, so that a display
that was off shows what is open when it comes on, and nothing that has been answered meanwhile.

Retry: the broker is away or did not acknowledge. Expiry: the gateway clears the message itself when the
matter ends; where it is away then, the broker lets go of it (MQTT 5 message expiry). To the embedded broker's
MQTT 3.1.1, which knows no expiry, the time stands in the payload alone.
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

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool, expires_s: int | None = None
    ) -> None:
        """QoS 1: returns when the broker has acknowledged; raises when it has not. After `expires_s` seconds
        the broker keeps it no longer, where it can."""
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
            expires_s = None if show is None else delivery.payload.get("ttl_s")
            await self._publisher.publish(topic, payload, retain=True, expires_s=expires_s)
        except Exception as error:  # the client's own errors; which library it is, is not known here
            return Retry(detail=f"broker: {type(error).__name__}: {error}")
        return Sent(detail="cleared" if show is None else "shown")

    async def close(self) -> None:
        """The publisher belongs to whoever made it."""
