"""How often an owner is contacted: one budget over all rules, products and channels.

There are two purses, for what keeps products well ("service") and for what sells ("marketing"). A survey
is paid from the service purse and counted as what it is. Critical matters, recalls, and what an owner waits
for (confirmations, reminders, replies) are paid from none.
"""

from __future__ import annotations

from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy
from gateway.flow import outgoing
from gateway.ports import Records

SERVICE, MARKETING, SURVEY = "service", "marketing", "survey"
WEEK_MS = 7 * DAY_MS
NEVER = 2**53 - 1
"""When there is room for who allows no messages at all, ms."""

_SHARED = {SERVICE: (SERVICE, SURVEY), SURVEY: (SERVICE, SURVEY), MARKETING: (MARKETING,)}
"""Whose contacts count in a purse."""


def purse_of(purpose: str) -> str:
    """The purse that pays for touchpoints of a purpose."""
    return MARKETING if purpose == "marketing" else SERVICE


def allowed(records: Records, owner_id: str, purse: str, policy: Policy) -> int:
    """How many contacts in seven days the owner allows."""
    wanted = outgoing.wishes(records, owner_id, policy)
    if purse != MARKETING:
        return wanted.weekly_budget
    return policy.marketing_budget if wanted.marketing_budget is None else wanted.marketing_budget


def spent(records: Records, owner_id: str, purse: str, now: int) -> int:
    """How many of the last seven days count in the purse."""
    return len(records.contacts.times(owner_id, _SHARED[purse], now - WEEK_MS))


def room(
    records: Records, owner_id: str, purse: str, now: int, policy: Policy, *, ahead: int = 0
) -> int | None:
    """None: one more contact may be made now; else when there is room, ms, NEVER for who allows none.

    `ahead` contacts that wait for room go first."""
    most = allowed(records, owner_id, purse, policy)
    if most <= 0:
        return NEVER
    times = records.contacts.times(owner_id, _SHARED[purse], now - WEEK_MS)
    for _ in range(ahead + 1):  # a contact frees its place a week later
        times.append(now if len(times) < most else times[-most] + WEEK_MS)
    return times[-1] if times[-1] > now else None


def spend(records: Records, owner_id: str, purse: str, now: int, about: str) -> None:
    """One contact was made; `about` is the touchpoint or question it was about."""
    records.contacts.add(owner_id, purse, now, about)
