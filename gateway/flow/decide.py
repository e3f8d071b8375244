"""decide: a finding becomes a touchpoint now, a touchpoint later, or a reasoned silence.

The steps stand in `STEPS`, in the order in which they are asked; each looks at one thing and says
`Defer`, `Merge` or `Suppress` with its reason, or nothing. Who passes them all is sent. Every
decision leaves a line in the owner's ledger. A deferred touchpoint goes through the same steps again
when its time comes, so what is sent is true, agreed to and at the right moment when it is sent.

Everything here is synchronous work over the records, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from gateway.domain.device import Device, Facts
from gateway.domain.errors import NotFoundError
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS
from gateway.domain.owner import Owner, Preferences
from gateway.domain.policy import Policy, RuleInfo
from gateway.domain.touchpoint import Finding, State, Touchpoint
from gateway.flow import book, consents, ladder, outgoing, people
from gateway.ports import Records
from rules import ClearReason

WEEK_MS = 7 * DAY_MS
UNANSWERED = (State.DEFERRED, State.OPEN)
WITHDRAWN_AS: Mapping[str, str] = {"refuted": "refuted", "rule": "rule_gone"}
"""What the ledger says of an episode that did not end by itself: readings that came late show that it never
was so; the rule was taken out."""

# --- decisions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Now."""


@dataclass(frozen=True, slots=True)
class Defer:
    """Not before `until` (ms), and decided again then."""

    until: int
    code: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Merge:
    """It is the same matter as one that is with the owner already."""

    into: Touchpoint


@dataclass(frozen=True, slots=True)
class Suppress:
    """Not at all; it stands in the ledger only."""

    reason: str


Decision = Send | Defer | Merge | Suppress


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the steps look at; what several of them need is read once."""

    records: Records
    finding: Finding
    owner_id: str | None
    """whose device it was when it was found"""
    device: Device | None
    rule: RuleInfo | None
    """None when the rule is no longer active"""
    now: int
    policy: Policy
    touchpoint: Touchpoint | None = None
    """the deferred one that is decided again"""

    @cached_property
    def owner(self) -> Owner | None:
        """Who is asked, None when that is nobody."""
        try:
            return self.records.owners.get(self.owner_id) if self.owner_id else None
        except NotFoundError:
            return None

    @cached_property
    def wishes(self) -> Preferences:
        """What the owner set, else the operator's defaults."""
        return outgoing.wishes(self.records, self.owner_id or "", self.policy)

    @property
    def product(self) -> str:
        """What people call the device."""
        return self.device.title if self.device else self.finding.device

    @cached_property
    def facts(self) -> Facts:
        """What is known of the device."""
        return self.records.devices.facts(self.finding.device)

    @property
    def critical(self) -> bool:
        """Dangerous now, or dangerous in use."""
        return self.finding.severity == "critical"

    @property
    def moving(self) -> bool:
        """Being driven, as far as is known."""
        return self.facts.moving and self.now - self.facts.last_seen < self.policy.moving_stale_ms

    @property
    def display_first(self) -> bool:
        """Shown on the display at once, at any hour and at the wheel; its push waits by itself."""
        return self.critical or (self.rule is not None and self.rule.while_driving and self.moving)


# --- the steps --------------------------------------------------------------------------------


def still_true(case: Case) -> Decision | None:
    """What has cleared is nothing to speak of, and neither is a rule that was taken out."""
    if case.finding.cleared_at is not None:
        return Suppress("untrue")
    return Suppress("rule_gone") if case.rule is None else None


def whose(case: Case) -> Decision | None:
    """Only who owns the device now is asked, and only about what was found in their own time."""
    if case.device is None or case.owner is None:
        return Suppress("no_owner")
    return Suppress("new_owner") if people.asked(case.records, case.device) != case.owner_id else None


def agreed(case: Case) -> Decision | None:
    """Consent is per purpose; without it nobody is contacted."""
    assert case.owner_id is not None  # the steps before have seen to it
    assert case.rule is not None
    granted = consents.allowed(case.records, case.owner_id, case.rule.purpose)
    return None if granted else Suppress("no_consent")


def muted(case: Case) -> Decision | None:
    """The owner does not want to hear of this rule."""
    return Suppress("muted") if case.finding.rule in case.wishes.muted else None


def already_open(case: Case) -> Decision | None:
    """One matter, one touchpoint: what is open or booked takes a second finding in."""
    live = case.records.touchpoints.live_for(case.finding.device, case.finding.rule)
    theirs = live is not None and live.owner == case.owner_id
    return Merge(live) if live is not None and theirs and case.touchpoint is None else None


def tried_out(case: Case) -> Decision | None:
    """A rule in shadow finds, and sends nothing."""
    shadow = case.finding.shadow or (case.rule is not None and case.rule.shadow)
    return Suppress("shadow") if shadow else None


def put_off(case: Case) -> Decision | None:
    """Who said "not now" is left alone with the same matter for a while."""
    if case.critical or case.touchpoint is not None:
        return None
    asked = case.records.touchpoints.page(
        device=case.finding.device, rule=case.finding.rule, states=(State.CLOSED,), limit=1
    )
    for last in asked:
        if last.answer is not None and last.answer.action == "not_now" and last.owner == case.owner_id:
            until = last.answer.at + case.policy.snooze_ms
            return Defer(until, "not_sent_put_off", {"until": until}) if until > case.now else None
    return None


def driving(case: Case) -> Decision | None:
    """Nobody is disturbed at the wheel, nor in the minutes after. A critical matter, or one whose rule says
    so, is shown on the display at once; its push waits by itself (see `push_moment`)."""
    return None if case.display_first else at_the_wheel(case)


def quiet(case: Case) -> Decision | None:
    """Not in the quiet hours of the owner's own clock; critical ones as in `driving`."""
    return None if case.display_first else at_night(case)


def budget(case: Case) -> Decision | None:
    """Not more service messages in seven days than the owner allows; critical ones cost nothing."""
    if case.critical or case.owner_id is None:
        return None
    allowed = case.wishes.weekly_budget
    if allowed <= 0:
        return Suppress("no_budget")
    if case.records.touchpoints.sent_since(case.owner_id, case.now - WEEK_MS + 1) < allowed:
        return None
    until = _budget_frees(case, allowed)
    return Defer(until, "not_sent_budget", {"until": until, "budget": allowed})


def _budget_frees(case: Case, allowed: int) -> int:
    """When so many of the week's messages lie a week back that one more is allowed."""
    recent = case.records.touchpoints.page(owner=case.owner_id, limit=500)
    counted = (t.sent_at for t in recent if t.sent_at is not None and t.severity != "critical")
    times = sorted(at for at in counted if at > case.now - WEEK_MS)
    return times[-allowed] + WEEK_MS if len(times) >= allowed else case.now + DAY_MS


STEPS: tuple[Callable[[Case], Decision | None], ...] = (
    still_true,
    whose,
    agreed,
    muted,
    already_open,
    tried_out,
    put_off,
    driving,
    quiet,
    budget,
)


def judge(case: Case) -> Decision:
    """The first step that objects decides."""
    return next((decision for step in STEPS if (decision := step(case)) is not None), Send())


# --- moments ----------------------------------------------------------------------------------


def at_the_wheel(case: Case) -> Defer | None:
    """Being driven, or parked only just now."""
    now, facts, policy, product = case.now, case.facts, case.policy, {"product": case.product}
    if case.moving:
        return Defer(now + policy.driving_check_ms, "not_sent_driving", product)
    settled = (facts.moving_since or 0) + policy.drive_settle_ms
    if not facts.moving and facts.moving_since is not None and now < settled:
        return Defer(settled, "not_sent_just_parked", product)
    return None


def at_night(case: Case) -> Defer | None:
    """In the owner's quiet hours."""
    if case.owner is None:
        return None
    until = outgoing.quiet_hours(case.wishes, case.owner.time_zone).until(case.now)
    return Defer(until, "not_sent_quiet_hours", {"until": until}) if until is not None else None


def push_moment(records: Records, touchpoint_id: str, now: int, policy: Policy) -> Defer | None:
    """Why a phone must not ring for this touchpoint now, and until when. Only what is dangerous at once
    may ring at any hour; a critical matter of a product in use waits, for its display says it meanwhile."""
    touchpoint = records.touchpoints.get(touchpoint_id)
    case = _case_of(records, touchpoint, now, policy)
    if case is None or (case.critical and _dangerous_at_once(case)):
        return None
    wait = at_the_wheel(case)
    if wait is not None:
        return replace(wait, until=min(wait.until, now + policy.late_push_ms))
    return at_night(case)


def _dangerous_at_once(case: Case) -> bool:
    return case.device is None or case.device.kind not in case.policy.in_use_kinds


# --- what follows from a decision -------------------------------------------------------------


def decide(records: Records, finding: Finding, owner_id: str | None, now: int, policy: Policy) -> str:
    """A finding that was just inserted; gives the outcome: send, defer, merge or suppress."""
    rule, device = policy.rules.get(finding.rule), records.devices.find(finding.device)
    if device is not None and owner_id is not None and device.owner == owner_id:
        owner_id = people.asked(records, device)  # the owner may have named somebody to be asked instead
    case = Case(
        records=records,
        finding=finding,
        owner_id=owner_id,
        device=device,
        rule=rule,
        now=now,
        policy=policy,
    )
    _line(
        case,
        "found",
        rule=finding.rule,
        version=finding.version,
        kind=rule.kind if rule else None,
        signals=list(rule.signals) if rule else [],
        evidence=dict(finding.evidence),
    )
    decision = judge(case)
    match decision:
        case Send():
            _send(case, _touchpoint(case, State.OPEN), new=True)
        case Defer():
            _defer(case, _touchpoint(case, State.DEFERRED), decision, new=True)
        case Merge(into):
            _line(case, "merged", touchpoint=into)
        case Suppress(reason):
            _line(case, f"suppressed_{reason}")
    return type(decision).__name__.lower()


def wake(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> str:
    """A deferred touchpoint whose time has come, decided again; gives the outcome."""
    case = _case_of(records, touchpoint, now, policy)
    decision = judge(case) if case else Suppress("untrue")
    match decision:
        case Send() if case:
            _send(case, touchpoint, new=False)
        case Defer() if case:
            _defer(case, touchpoint, decision, new=False)
        case Suppress(reason):
            withdraw(records, touchpoint, reason, now)
    return type(decision).__name__.lower()


def _case_of(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> Case | None:
    finding = records.touchpoints.finding(touchpoint.finding)
    if finding is None:
        return None
    return Case(
        records=records,
        finding=finding,
        owner_id=touchpoint.owner,
        device=records.devices.find(touchpoint.device),
        rule=policy.rules.get(touchpoint.rule),
        now=now,
        policy=policy,
        touchpoint=touchpoint,
    )


def _touchpoint(case: Case, state: State) -> Touchpoint:
    assert case.owner_id is not None  # the steps have seen to it
    assert case.rule is not None
    finding, rule = case.finding, case.rule
    return Touchpoint(
        id=new_id(case.now),
        finding=finding.id,
        device=finding.device,
        owner=case.owner_id,
        rule=finding.rule,
        rule_version=finding.version,
        kind=rule.touchpoint_kind,
        service=rule.service,
        severity=finding.severity,
        purpose=rule.purpose,
        state=state,
        created=case.now,
        expires_at=case.now + (rule.expires_ms or case.policy.deferral_max_ms),
        evidence=finding.evidence,
    )


def _defer(case: Case, touchpoint: Touchpoint, decision: Defer, *, new: bool) -> None:
    """Waits until its time; the same reason is not told twice in a row."""
    touchpoint = replace(touchpoint, wake_at=decision.until)
    if new:
        case.records.touchpoints.add(touchpoint)
    else:
        case.records.touchpoints.save(touchpoint)
    last = case.records.touchpoints.ledger(touchpoint=touchpoint.id, limit=1)
    if not last or (last[0].code, dict(last[0].params)) != (decision.code, dict(decision.params)):
        outgoing.write_line(
            case.records, decision.code, case.now, touchpoint=touchpoint, **dict(decision.params)
        )


def _send(case: Case, touchpoint: Touchpoint, *, new: bool) -> None:
    """With the owner from now on: slots, a row for every way to reach them, a line in the ledger."""
    records, now = case.records, case.now
    nth = records.touchpoints.sent_since(touchpoint.owner, now - WEEK_MS + 1) + 1
    slots = book.proposals(records, touchpoint, now, case.policy)
    touchpoint = replace(touchpoint, state=State.OPEN, wake_at=None, sent_at=now, slots=slots)
    if new:
        records.touchpoints.add(touchpoint)
    else:
        records.touchpoints.save(touchpoint)
    _tell(case, touchpoint, nth)


def _tell(case: Case, touchpoint: Touchpoint, nth: int) -> None:
    """Queue the channels that the owner wants, and say in the ledger which and which number it is."""
    found_at = case.finding.found_at
    told = ladder.begin(case.records, touchpoint, case.policy, case.now, found_at=found_at)
    _line_sent(case, touchpoint, told, nth)


def _line_sent(case: Case, touchpoint: Touchpoint, told: list[str], nth: int) -> None:
    later = None
    if case.display_first and set(told) & set(ladder.RINGING):
        later = push_moment(case.records, touchpoint.id, case.now, case.policy)
    count = {} if case.critical else {"nth": nth, "budget": case.wishes.weekly_budget}
    if later is not None:
        told = [channel for channel in told if channel not in ladder.RINGING]
        _line(case, "sent_display_first", touchpoint=touchpoint, channels=told, reason=later.code)
    else:
        _line(case, "sent" if told else "shown", touchpoint=touchpoint, channels=told, **count)


def _line(case: Case, code: str, *, touchpoint: Touchpoint | None = None, **params: Any) -> None:
    """A line on the case; for the owner it was found for, else for the device alone."""
    outgoing.write_line(
        case.records,
        code,
        case.now,
        owner=case.owner_id if case.owner else None,
        device=case.finding.device,
        finding=case.finding.id,
        touchpoint=touchpoint,
        product=case.product,
        **params,
    )


# --- later ------------------------------------------------------------------------------------


def settle_due(records: Records, now: int, policy: Policy) -> list[str]:
    """Touchpoints whose time has come: expired ones end, deferred ones are decided again."""
    outcomes = [_expire(records, touchpoint, now) for touchpoint in records.touchpoints.expired(now)]
    return outcomes + [wake(records, touchpoint, now, policy) for touchpoint in records.touchpoints.due(now)]


def _expire(records: Records, touchpoint: Touchpoint, now: int) -> str:
    _end(records, touchpoint, State.EXPIRED, "expired", now)
    return "expire"


def device_parked(records: Records, device: str, now: int, policy: Policy) -> None:
    """A trip ended: what waited for it comes when the owner has had time to arrive."""
    for touchpoint in records.touchpoints.deferred_for_device(device):
        last = records.touchpoints.ledger(touchpoint=touchpoint.id, limit=1)
        if last and last[0].code == "not_sent_driving":
            records.touchpoints.save(replace(touchpoint, wake_at=now + policy.drive_settle_ms))
            outgoing.write_line(records, "parked", now, touchpoint=touchpoint, **dict(last[0].params))


def cleared(
    records: Records, finding_id: str, now: int, policy: Policy, reason: ClearReason = "condition"
) -> None:
    """A finding is no longer true, or never was: what nobody answered yet is withdrawn, a call that was asked
    for is not needed any more. What is booked stays booked, and who booked it is told if it never was so."""
    why = WITHDRAWN_AS.get(reason, "untrue")
    for touchpoint in records.touchpoints.page(finding=finding_id, states=UNANSWERED):
        withdraw(records, touchpoint, why, now)
    for touchpoint in records.touchpoints.page(finding=finding_id, states=(State.ANSWERED,)):
        _end(records, touchpoint, State.CLOSED, f"withdrawn_{why}", now)
    if reason == "refuted":
        for touchpoint in records.touchpoints.page(finding=finding_id, states=(State.BOOKED,)):
            outgoing.write_line(records, "refuted_booked", now, touchpoint=touchpoint)


def changed_hands(records: Records, device: str, now: int, policy: Policy) -> None:
    """A product has another owner: what its former one has not answered ends, also on its display."""
    owner = records.devices.get(device).owner
    for touchpoint in records.touchpoints.page(device=device, states=UNANSWERED):
        if touchpoint.owner != owner:
            withdraw(records, touchpoint, "new_owner", now)


def consent_withdrawn(records: Records, owner: str, purpose: str, now: int, policy: Policy) -> None:
    """Everything of that purpose that is queued or unanswered ends at once."""
    after = None
    while page := records.touchpoints.page(owner=owner, after=after, limit=200):
        after = page[-1].id
        for touchpoint in page:
            if touchpoint.purpose == purpose:
                records.outbox.drop_pending(touchpoint.id, channel=outgoing.WEB_PUSH)
                if touchpoint.state in UNANSWERED:
                    withdraw(records, touchpoint, "no_consent", now)


def withdraw(records: Records, touchpoint: Touchpoint, reason: str, now: int) -> None:
    """It ends before it was answered; every channel is closed."""
    _end(records, touchpoint, State.WITHDRAWN, f"withdrawn_{reason}", now)


def _end(records: Records, touchpoint: Touchpoint, state: State, code: str, now: int) -> None:
    ended = replace(touchpoint, state=state, wake_at=None, closed_at=now)
    records.touchpoints.save(ended)
    records.workshops.release(touchpoint.id)
    outgoing.write_line(records, code, now, touchpoint=touchpoint)
    outgoing.close_channels(records, ended, now)
