"""Owners: who they are, what they agreed to, when they may be disturbed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

SEVERITIES = ("advice", "warning", "critical")
"""From the least to the gravest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """A person who owns products."""

    id: str
    name: str
    email: str | None = None
    phone: str | None = None
    address: str | None = None
    language: str = "en"
    """"en" or "de"; what is not spoken falls back to English"""
    time_zone: str = "Europe/Berlin"
    """IANA name; quiet hours and all times shown are in it"""
    wishes: Mapping[str, Any] = field(default_factory=dict)
    """what workshops may rely on, e.g. {"waits": True}"""
    created: int = 0
    """ms"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """One entry of the history of a consent; the newest one holds (GDPR Art. 7)."""

    owner: str
    purpose: str
    """maintenance, usage, marketing, …: what a rule's `purpose` asks for"""
    granted: bool
    at: int
    """ms"""
    source: str
    """who recorded it: owner, operator, import, demo"""
    text: str | None = None
    """version of the text that stood beside the choice"""
    by: str | None = None
    """owner id, or the name of who took it down for them"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preferences:
    """When and how an owner wants to be reached."""

    quiet_from: str = "21:00"
    """local time HH:MM at which quiet hours begin"""
    quiet_to: str = "07:00"
    """local time HH:MM at which they end; equal to quiet_from means none"""
    channels: tuple[str, ...] = ("web_push", "display", "email", "letter", "webhook")
    """webhook: the manufacturer's own app"""
    muted: tuple[str, ...] = ()
    """rule ids that the owner does not want to hear of"""
    muted_at: Mapping[str, str] = field(default_factory=dict)
    """{rule: severity it had when it was muted}: what is graver gets through again"""
    weekly_budget: int = 2
    """service messages an owner allows a week (stated to the owner, enforced by the budget step)"""
    marketing_budget: int | None = None
    """offers an owner allows a week, from a purse of their own; None: as many as the operator set"""

    def mutes(self, rule: str, severity: str) -> bool:
        """Whether a finding of this rule stays silent. Muting ends when severity rises; where it is not known
        at which severity a rule was muted, what is critical gets through."""
        if rule not in self.muted or severity == "critical":
            return False
        return SEVERITIES.index(severity) <= SEVERITIES.index(self.muted_at.get(rule, "warning"))

    def muting(self, rule: str, severity: str) -> Preferences:
        """The same, with a rule muted at this severity."""
        muted = tuple(dict.fromkeys((*self.muted, rule)))
        return replace(self, muted=muted, muted_at={**self.muted_at, rule: severity})

    def unmuting(self, rule: str) -> Preferences:
        """The same, with a rule heard again."""
        muted = tuple(one for one in self.muted if one != rule)
        return replace(self, muted=muted, muted_at={r: s for r, s in self.muted_at.items() if r != rule})


@dataclass(frozen=True, kw_only=True, slots=True)
class PushSubscription:
    """A browser that an owner allowed to receive Web Push (RFC 8030, RFC 8291)."""

    id: str
    owner: str
    endpoint: str
    p256dh: str
    """base64url, uncompressed P-256 point of the user agent"""
    auth: str
    """base64url, 16 bytes of authentication secret"""
    label: str
    """what the owner sees: "Chrome on Android", "loopback push (demo)\""""
    created: int
    dropped: int | None = None
    """ms when the push service said it is gone (404, 410)"""
