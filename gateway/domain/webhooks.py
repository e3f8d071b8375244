"""Endpoints of other systems that are told what happens (Standard Webhooks)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from gateway.domain.moments import DAY_MS

MANUFACTURER = "manufacturer"
"""The audience of the manufacturer's own systems."""

STANDARD, CLOUDEVENTS = "standard", "cloudevents"
FORMATS = (STANDARD, CLOUDEVENTS)
"""As Standard Webhooks has its body, or as a CloudEvent in structured mode; both are signed the same way."""

CLOUD_EVENT = "application/cloudevents+json"
SUBJECTS = ("appointment", "touchpoint", "finding", "device")
"""What an event may be about, the closest first."""

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32
"""Standard Webhooks asks for 24 to 64."""

ROTATION_MS = DAY_MS
"""How long the former secret still signs after a new one was made."""

TYPES = (
    "finding.found",
    "touchpoint.sent",
    "touchpoint.answered",
    "touchpoint.closed",
    "appointment.requested",
    "appointment.confirmed",
    "appointment.declined",
    "appointment.countered",
    "appointment.owner_countered",
    "appointment.rescheduled",
    "appointment.cancelled",
    "appointment.lapsed",
    "appointment.released",
    "appointment.checked_in",
    "appointment.in_work",
    "appointment.ready",
    "appointment.done",
    "appointment.no_show",
    "appointment.extra_work_asked",
    "appointment.extra_work_answered",
    "appointment.reminder",
    "owner.erased",
    "rollout.stopped",
    "rollout.finished",
)
"""What can be subscribed to, besides `appointment.*` and the like."""

TEST = "webhook.test"
"""Sent when somebody asks whether an endpoint works; nobody subscribes to it."""


def workshop_audience(workshop_id: str) -> str:
    """The audience that the systems of one workshop are."""
    return f"workshop:{workshop_id}"


class EndpointState(StrEnum):
    """Whether an endpoint is sent to."""

    ACTIVE = "active"  # it is
    DISABLED = "disabled"  # not any more: it said 410, or somebody turned it off


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningSecret:
    """A key that an endpoint and we share."""

    text: str
    """whsec_ and base64"""
    until: int | None = None
    """ms until which it still signs; None: the newest one"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """An endpoint, and what it wants to hear."""

    id: str
    audience: str
    """manufacturer, or workshop:<id>"""
    url: str
    types: tuple[str, ...] = ()
    """event types; "appointment.*" for all of a kind; empty for everything the audience may hear"""
    format: str = STANDARD
    """how an event is written: one of FORMATS"""
    secrets: tuple[SigningSecret, ...] = ()
    """newest first"""
    state: EndpointState = EndpointState.ACTIVE
    created: int = 0
    disabled_at: int | None = None
    reason: str | None = None
    """why it is disabled, for people"""

    def wants(self, event_type: str) -> bool:
        """Whether it subscribed to this type."""
        if not self.types:
            return True
        return event_type in self.types or f"{event_type.partition('.')[0]}.*" in self.types

    def signing(self, now: int) -> tuple[str, ...]:
        """The secrets that sign now, newest first."""
        return tuple(secret.text for secret in self.secrets if secret.until is None or secret.until > now)

    def rotated(self, now: int, random: Callable[[int], bytes]) -> Webhook:
        """With a new secret; the one before signs for a day more, older ones no longer."""
        former = tuple(replace(s, until=now + ROTATION_MS) for s in self.secrets if s.until is None)
        return replace(self, secrets=(new_secret(random), *former))


def cloud_event(delivery_id: str, event: Mapping[str, Any], source: str) -> dict[str, Any]:
    """An event as a CloudEvent (1.0, JSON format, structured mode); its id is the delivery's, the same on
    every try, and its subject is what it is about."""
    data = event["data"]
    about = next((f"{name}/{data[name]}" for name in SUBJECTS if data.get(name)), None)
    return {
        "specversion": "1.0",
        "id": delivery_id,
        "source": source or "urn:touchpoint",
        "type": event["type"],
        "time": event["timestamp"],
        **({"subject": about} if about else {}),
        "datacontenttype": "application/json",
        "data": data,
    }


def new_secret(random: Callable[[int], bytes]) -> SigningSecret:
    """A secret nobody knows yet; `random` gives so many unguessable bytes."""
    return SigningSecret(text=SECRET_PREFIX + base64.b64encode(random(SECRET_BYTES)).decode())
