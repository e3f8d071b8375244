"""How a rule slows itself down: one whose touchpoints are mostly declined sends fewer of them a day.

When so many of its last answers say "not now", "never" or "already done", it may send only half as many a
day as it did in the last four weeks; the others wait for a day with room. After as many new answers it is
looked at again: halved once more, or back at its full pace. After four weeks it is given another chance in
any case. Warnings, critical matters and recalls are never slowed.
"""

from __future__ import annotations

import structlog

from gateway.domain.moments import DAY_MS
from gateway.domain.pace import LOOKED_AT_MS, Pace
from gateway.domain.policy import RECALL_PURPOSE, Policy, RuleInfo
from gateway.domain.touchpoint import Touchpoint
from gateway.ports import Records

CODE = "not_sent_pace"
DECLINED = ("not_now", "never", "already_done")
BETTER_BY = 20
"""So many percentage points below the limit a slowed rule is back at its full pace."""

log = structlog.get_logger()


def applies(rule: RuleInfo, severity: str) -> bool:
    """Whether a rule's touchpoints may be slowed at all."""
    return severity == "advice" and rule.purpose != RECALL_PURPOSE


def place(records: Records, rule_id: str, touchpoint: Touchpoint | None, now: int) -> int | None:
    """When a touchpoint of the rule may be sent: a day with room, ms; None for now."""
    pace = records.paces.get(rule_id)
    if pace is None or now >= pace.ends:
        return None
    taken = records.paces.place_of(touchpoint.id) if touchpoint else None
    at = taken if taken is not None else _next_place(records, pace, now)
    return at if at > now else None


def _next_place(records: Records, pace: Pace, now: int) -> int:
    today = now - now % DAY_MS
    last = records.paces.last_place(pace.rule)
    if last is None or last[0] < today:
        return today
    day, used = last
    return day if used < pace.per_day else day + DAY_MS


def sent(records: Records, rule_id: str, touchpoint_id: str, now: int) -> None:
    """One was sent: it takes one of today's places, unless it had waited for one."""
    if records.paces.get(rule_id) is not None and records.paces.place_of(touchpoint_id) is None:
        records.paces.take_place(touchpoint_id, rule_id, now - now % DAY_MS)


def answered(records: Records, rule_id: str, now: int, policy: Policy) -> None:
    """A touchpoint of the rule was answered: it slows down, recovers, or goes on as it does."""
    rule = policy.rules.get(rule_id)
    if rule is None or not applies(rule, rule.severity):
        return
    pace = records.paces.get(rule.id)
    since = pace.since if pace else now - 3 * LOOKED_AT_MS
    actions = records.paces.answers(rule.id, since, policy.pace_answers)
    if len(actions) < policy.pace_answers:
        return
    declined = sum(action in DECLINED for action in actions)
    share = 100 * declined / len(actions)
    if share >= policy.pace_declined_percent:
        _slow(records, rule.id, pace, declined, len(actions), now)
    elif pace is not None and share <= policy.pace_declined_percent - BETTER_BY:
        recover(records, rule.id, now)


def _slow(records: Records, rule_id: str, pace: Pace | None, declined: int, n: int, now: int) -> None:
    usual = pace.per_day if pace else records.paces.sent(rule_id, now - LOOKED_AT_MS) * DAY_MS // LOOKED_AT_MS
    slower = Pace(rule=rule_id, per_day=max(1, usual // 2), since=now, declined=declined, answered=n)
    records.paces.put(slower)
    records.changed("rules", rule_id)
    log.warning("rule_slowed", rule=rule_id, per_day=slower.per_day, declined=declined, answered=n)


def recover(records: Records, rule_id: str, now: int) -> None:
    """Full pace again; what waited for a place is decided again at once."""
    records.paces.remove(rule_id, now)
    records.changed("rules", rule_id)
    log.info("rule_recovered", rule=rule_id)


def try_anew(records: Records, now: int) -> None:
    """Rules that have been slow for long enough get another chance."""
    for pace in records.paces.all():
        if now >= pace.ends:
            recover(records, pace.rule, now)
