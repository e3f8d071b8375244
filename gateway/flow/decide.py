"""decide: a finding becomes a touchpoint now, a touchpoint later, part of another one, or a reasoned silence.

The steps stand in `STEPS`, in the order in which they are asked; each looks at one thing. `Suppress` and
`Merge` end it; a `Defer` may still be joined to another matter of the same visit, or overtake a lesser one.
Who passes them all is sent. Every decision leaves a line in the owner's ledger. A deferred touchpoint goes
through the same steps again when its time comes, so what is sent is true, agreed to and at the right moment
when it is sent.

Everything here is synchronous work over the records, inside the caller's transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from gateway.domain.appointment import AppointmentState, Workshop
from gateway.domain.device import Device, Facts
from gateway.domain.errors import NotFoundError
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS
from gateway.domain.owner import Owner, Preferences
from gateway.domain.policy import OWNER_REPORT, RECALL_PURPOSE, Policy, RuleInfo, rule_of
from gateway.domain.touchpoint import Finding, Matter, State, Touchpoint, graver
from gateway.domain.webhooks import MANUFACTURER
from gateway.flow import book, budget, bundles, cases, consents, ladder, outgoing, pace, parting, people
from gateway.ports import Records
from rules import ClearReason

UNANSWERED = (State.DEFERRED, State.OPEN)
WITHDRAWN_AS: Mapping[str, str] = {"refuted": "refuted", "rule": "rule_gone", "reset": "done"}
"""What the ledger says of an episode that did not end by itself: readings that came late show that it never
was so; the rule was taken out."""

BUDGET, BUDGET_FIRST, BUDGET_AFTER = "not_sent_budget", "not_sent_budget_first", "not_sent_budget_after"
FOR_ROOM = (BUDGET, BUDGET_FIRST, BUDGET_AFTER)
"""Why a touchpoint waits that waits for room in the budget."""

OF_ONE_FINDING = (
    "untrue",
    "rule_gone",
    "muted",
    "shadow",
    "too_old",
    "already_done",
    "no_consent",
    "held_out",
)
"""Reasons that concern one finding, not what it was bundled with."""

ALONE = ("not_sent_old", "not_sent_put_off")
"""What waits for this is nobody's company: it may not be true, or the owner does not want to hear of it."""

REPAIRED_LATELY = "repaired_lately"

LONGEST_TRIP_MS = DAY_MS
"""A device that says for so long that it moves has not told of the end of its trip."""

# --- decisions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Now, on these channels alone, or on all that the owner wants; on none it stands on the owner's page and
    disturbs nobody."""

    only: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Defer:
    """Not before `until` (ms), and decided again then."""

    until: int
    code: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Merge:
    """It is taken care of with one that is with the owner already."""

    into: Touchpoint
    code: str = "merged"


@dataclass(frozen=True, slots=True)
class Suppress:
    """Not at all; it stands in the ledger only."""

    reason: str

    @property
    def code(self) -> str:
        """The line that says so."""
        return "held_out" if self.reason == "held_out" else f"suppressed_{self.reason}"


Decision = Send | Defer | Merge | Suppress


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the steps look at; what several of them need is read once."""

    records: Records
    finding: Finding
    owner_id: str | None
    """who is asked: whose device it was when it was found, or whom that owner named"""
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
    def dangerous_now(self) -> bool:
        """Water or fire: wherever the owner is, whatever they do. A product that is dangerous in use is so
        only when it is used."""
        in_use = self.device is not None and self.device.kind in self.policy.in_use_kinds
        return self.critical and not in_use

    @property
    def recall(self) -> bool:
        """It rests on a legal duty."""
        return self.rule is not None and self.rule.purpose == RECALL_PURPOSE

    @property
    def purse(self) -> str:
        """Which budget it is paid from."""
        return budget.purse_of(self.rule.purpose if self.rule else "")

    @cached_property
    def pays(self) -> bool:
        """Whether it is paid from a budget: not what is critical, a duty, or asked for by the owner."""
        asked = self.touchpoint is not None and bundles.returns(self.touchpoint)
        reported = self.rule is not None and self.rule.id == OWNER_REPORT.id
        return not (self.critical or self.recall or asked or reported)

    @property
    def moving(self) -> bool:
        """Being driven, as far as is known."""
        return is_moving(self.facts, self.now, self.policy)

    @cached_property
    def trips(self) -> list[Facts]:
        """What is known of this device, and of what else who is asked may be driving now or just parked."""
        if self.owner_id is None:
            return [self.facts]
        found = trips_of(self.records, self.owner_id, self.now, self.policy)
        return [self.facts] + [facts for facts in found if facts.device != self.finding.device]

    @property
    def measured(self) -> int:
        """Device time of the newest reading behind the finding, ms."""
        ts = self.finding.evidence.get("ts")
        return ts if isinstance(ts, int) else self.finding.began_ts

    @cached_property
    def last_closed(self) -> Touchpoint | None:
        """What the owner answered last about the same matter."""
        asked = self.records.touchpoints.page(
            device=self.finding.device, rule=self.finding.rule, states=(State.CLOSED,), limit=5
        )
        return next((t for t in asked if t.answer is not None and t.owner == self.owner_id), None)

    @cached_property
    def workshop(self) -> Workshop | None:
        """The one that its owner chose for the device."""
        return outgoing.workshop_of(self.records, self.device) if self.device else None

    @cached_property
    def ways(self) -> tuple[str, ...]:
        """The operator's channels that the owner wants and that reach them. What is dangerous now goes
        everywhere."""
        if self.owner is None:
            return ()
        wanted = self.wishes
        if self.dangerous_now:
            wanted = replace(wanted, channels=self.policy.channels)
        elif self.critical:  # a product that is dangerous in use says so itself
            wanted = replace(wanted, channels=(*wanted.channels, outgoing.DISPLAY))
        found = ladder.usable(self.records, self.owner, wanted, self.policy)
        return tuple(channel for channel in found if channel != outgoing.WEBHOOK or self._heard)

    @cached_property
    def _heard(self) -> bool:
        """Whether the manufacturer's own app takes touchpoints."""
        return bool(self.records.webhooks.hearing(MANUFACTURER, "touchpoint.sent"))


# --- the steps --------------------------------------------------------------------------------

SoFar = Send | Defer | None
"""What the steps before have come to; None: nothing keeps it from being sent."""


def still_true(case: Case, so_far: SoFar) -> Decision | None:
    """What has cleared is nothing to speak of, and neither is a rule that was taken out."""
    if case.finding.cleared_at is not None:
        return Suppress("untrue")
    return Suppress("rule_gone") if case.rule is None else None


def recent(case: Case, so_far: SoFar) -> Decision | None:
    """What was measured long before it reached us, by a replay or after a long gap, is true only if the
    newest reading says so. That one may follow at once, so it is waited for a little."""
    assert case.rule is not None  # the step before has seen to it
    oldest = case.rule.max_age_ms or case.policy.max_age_ms
    if case.finding.found_at - case.measured <= oldest:
        return None
    times = [case.facts.latest[name][0] for name in case.rule.signals if name in case.facts.latest]
    if times and case.now - max(times) <= oldest:
        return None
    if case.touchpoint is not None and case.touchpoint.waits_for == "not_sent_old":
        return Suppress("too_old")
    return Defer(case.now + case.policy.catch_up_ms, "not_sent_old", {"measured": case.measured})


def whose(case: Case, so_far: SoFar) -> Decision | None:
    """Only who owns the device now is asked, and only about what was found in their own time."""
    if case.device is None or case.owner is None:
        return Suppress("no_owner")
    return Suppress("new_owner") if people.asked(case.records, case.device) != case.owner_id else None


def agreed(case: Case, so_far: SoFar) -> Decision | None:
    """Consent is per purpose; without it nobody is contacted. A recall rests on a legal duty; what the owner
    reported, on the owner."""
    assert case.owner_id is not None  # the steps before have seen to it
    assert case.rule is not None
    if case.rule.id == OWNER_REPORT.id:
        return None
    granted = consents.allowed(case.records, case.owner_id, case.rule.purpose)
    return None if granted else Suppress("no_consent")


def muted(case: Case, so_far: SoFar) -> Decision | None:
    """The owner does not want to hear of this rule, unless it has become graver since. A recall cannot be
    muted."""
    silent = not case.recall and case.wishes.mutes(case.finding.rule, case.finding.severity)
    return Suppress("muted") if silent else None


def already(case: Case, so_far: SoFar) -> Decision | None:
    """One matter, one touchpoint: what is open, or booked for the same job, takes a second finding in. What
    was done after it was measured needs nothing more."""
    if case.touchpoint is None:
        live = case.records.touchpoints.live_for(case.finding.device, case.finding.rule)
        if live is not None and live.owner == case.owner_id:
            return Merge(live)
    return _visit(case) or _said_done(case)


def _visit(case: Case) -> Decision | None:
    """A standing or finished visit for the same job."""
    service = case.rule.service if case.rule else None
    if service is None:
        return None
    for visit in bundles.visits(case.records, case.finding.device, service, case.measured):
        if visit.state is AppointmentState.DONE:
            if visit.done_at is not None and visit.done_at >= case.measured:
                return Suppress("already_done")
        elif visit.touchpoint is not None and visit.owner == case.owner_id:
            into = case.records.touchpoints.get(visit.touchpoint)
            if into.state is State.BOOKED and (case.touchpoint is None or into.id != case.touchpoint.id):
                return Merge(into, "already_booked")
    return None


def _said_done(case: Case) -> Decision | None:
    last = case.last_closed
    if last is None or last.answer is None or last.answer.action != "already_done":
        return None
    done = last.answer.done_at or last.answer.at
    return Suppress("already_done") if done >= case.measured else None


def tried_out(case: Case, so_far: SoFar) -> Decision | None:
    """A rule in shadow finds, and sends nothing."""
    shadow = case.finding.shadow or (case.rule is not None and case.rule.shadow)
    return Suppress("shadow") if shadow else None


def put_off(case: Case, so_far: SoFar) -> Decision | None:
    """Who said "not now" is left alone with the same matter until the time that was named."""
    last = case.last_closed
    if case.critical or case.touchpoint is not None or last is None or last.answer is None:
        return None
    if last.answer.action not in ("not_now", "snooze"):
        return None
    until = last.answer.until or last.answer.at + case.policy.snooze_ms
    return Defer(until, "not_sent_put_off", {"until": until}) if until > case.now else None


def slowed(case: Case, so_far: SoFar) -> Decision | None:
    """A rule whose touchpoints are mostly declined sends fewer of them a day."""
    if so_far is not None or case.rule is None or not pace.applies(case.rule, case.finding.severity):
        return None
    place = pace.place(case.records, case.rule.id, case.touchpoint, case.now)
    return None if place is None else Defer(place, pace.CODE, {"until": place})


def reachable(case: Case, so_far: SoFar) -> Decision | None:
    """Without a channel that the owner wants and allows it is shown on their page, and disturbs nobody. It
    reads in the owner's language, or in English where that is not spoken."""
    return Send(only=()) if so_far is None and not case.ways else None


def driving(case: Case, so_far: SoFar) -> Decision | None:
    """Nobody is disturbed at the wheel, nor in the minutes after; a rule may say that it is shown on the
    product's own display meanwhile. A critical matter is on the display at once; its push waits by itself
    (see `push_moment`)."""
    if so_far is not None or case.critical:
        return None
    if case.moving and case.rule is not None and case.rule.while_driving and outgoing.DISPLAY in case.ways:
        return Send(only=(outgoing.DISPLAY,))
    return at_the_wheel(case)


def quiet(case: Case, so_far: SoFar) -> Decision | None:
    """Not in the quiet hours of the owner's own clock; critical ones as in `driving`."""
    if isinstance(so_far, Defer) or case.critical or _unseen(so_far):
        return None
    return at_night(case)


def held_out(case: Case, so_far: SoFar) -> Decision | None:
    """A few are told nothing, by lot, so that it can be seen what telling does. Never where safety is at
    stake."""
    percent = case.policy.hold_out_percent
    if not percent or isinstance(so_far, Defer) or not case.pays or case.finding.severity != "advice":
        return None
    lot = hashlib.sha256(f"{case.finding.rule}\0{case.finding.device}".encode()).digest()
    return Suppress("held_out") if int.from_bytes(lot[:4]) % 10_000 < percent * 100 else None


def affordable(case: Case, so_far: SoFar) -> Decision | None:
    """Not more messages in seven days than the owner allows, over all rules, products and channels."""
    if isinstance(so_far, Defer) or _unseen(so_far) or not case.pays or case.owner_id is None:
        return None
    room = budget.room(case.records, case.owner_id, case.purse, case.now, case.policy)
    if room == budget.NEVER:
        return Suppress("no_budget" if case.purse == budget.SERVICE else "no_marketing")
    return None if room is None else Defer(room, BUDGET, _room_params(case, room))


def _room_params(case: Case, room: int) -> dict[str, Any]:
    most = budget.allowed(case.records, case.owner_id or "", case.purse, case.policy)
    return {"until": room, "budget": most}


def bundled(case: Case, so_far: SoFar) -> Decision | None:
    """What one visit can answer is one touchpoint: this joins one that waits, is open or is booked. That
    costs no contact, so it is asked also of what would have to wait."""
    joins = so_far is None or isinstance(so_far, Send) or so_far.code not in ALONE
    if not joins or case.critical or case.recall or case.rule is None or case.owner_id is None:
        return None
    into = bundles.company(case.records, case.finding, case.rule, case.owner_id, case.touchpoint, case.now)
    return Merge(into, "bundled") if into is not None else None


def priority(case: Case, so_far: SoFar) -> Decision | None:
    """The more important matter goes first: what is more important and waits, too, takes the room before
    this one, and this one takes it before what is less important."""
    waits = isinstance(so_far, Defer)
    if not case.pays or _unseen(so_far) or case.owner_id is None or (waits and so_far.code != BUDGET):  # type: ignore[union-attr]
        return None
    rivals = _rivals(case)
    before = [t for t in rivals if _importance(t) < _rank_of(case)]
    after = [t for t in rivals if t not in before and t.waits_for in FOR_ROOM]
    room = budget.room(case.records, case.owner_id, case.purse, case.now, case.policy, ahead=len(before))
    if room is None:
        return None
    if before:
        return Defer(room, BUDGET_AFTER, _room_params(case, room) | {"other": before[0].rule})
    if after and waits:
        return Defer(room, BUDGET_FIRST, _room_params(case, room) | {"other": after[0].rule})
    return None


def _rivals(case: Case) -> list[Touchpoint]:
    """Who stands in line beside this one."""
    assert case.owner_id is not None
    own = case.touchpoint.id if case.touchpoint else None
    return [t for t in _in_line(case.records, case.owner_id, case.purse, case.now) if t.id != own]


def _in_line(records: Records, owner: str, purse: str, now: int) -> list[Touchpoint]:
    """What of a purse waits for room, or for another reason that ends within a day; the most important
    first."""
    return sorted(
        (
            t
            for t in records.touchpoints.deferred_for_owner(owner)
            if _pays(t)
            and budget.purse_of(t.purpose) == purse
            and (t.waits_for in FOR_ROOM or (t.wake_at or 0) <= now + DAY_MS)
        ),
        key=_importance,
    )


def _pays(touchpoint: Touchpoint) -> bool:
    free = (RECALL_PURPOSE, OWNER_REPORT.purpose)
    critical = touchpoint.severity == "critical"
    return not (critical or touchpoint.purpose in free or bundles.returns(touchpoint))


def _importance(touchpoint: Touchpoint) -> tuple[int, int, str]:
    """What is graver comes first; of equals, what has waited longer."""
    return -graver(touchpoint.severity), touchpoint.created, touchpoint.id


def _rank_of(case: Case) -> tuple[int, int, str]:
    return (
        _importance(case.touchpoint) if case.touchpoint else (-graver(case.finding.severity), case.now, "~")
    )


def _unseen(so_far: SoFar) -> bool:
    """Whether it goes to the page alone."""
    return isinstance(so_far, Send) and so_far.only == ()


def repaired_lately(case: Case, so_far: SoFar) -> Decision | None:
    """What a job was to end a short time ago is a complaint and not a new offer. What is dangerous is said
    all the same, and what may be old is looked at again first."""
    old = isinstance(so_far, Defer) and so_far.code == "not_sent_old"
    if case.critical or old or case.owner_id is None:
        return None
    done = cases.repaired_lately(case.records, case.finding, case.owner_id, case.policy)
    return Suppress(REPAIRED_LATELY) if done is not None else None


STEPS: tuple[Callable[[Case, SoFar], Decision | None], ...] = (
    still_true,
    recent,
    whose,
    agreed,
    muted,
    already,
    tried_out,
    repaired_lately,
    put_off,
    slowed,
    reachable,
    driving,
    quiet,
    held_out,
    affordable,
    bundled,
    priority,
)


def judge(case: Case) -> Decision:
    """What the steps come to."""
    so_far: SoFar = None
    for step in STEPS:
        decision = step(case, so_far)
        if isinstance(decision, Suppress | Merge):
            return decision
        so_far = decision or so_far
    return Send(only=()) if _in_vain(case, so_far) else so_far or Send()


def _in_vain(case: Case, decision: SoFar) -> bool:
    """Whether there is no room in the budget before the matter ends: then it stands on the owner's page,
    which costs nothing, instead of ending unseen."""
    waits = isinstance(decision, Defer) and decision.code in FOR_ROOM
    return waits and decision.until >= _ends(case)  # type: ignore[union-attr]


def _ends(case: Case) -> int:
    """When the matter ends if nobody answers, ms."""
    known = case.touchpoint.expires_at if case.touchpoint else None
    span = (case.rule.expires_ms if case.rule else None) or case.policy.deferral_max_ms
    return case.now + span if known is None else known


# --- moments ----------------------------------------------------------------------------------


def is_moving(facts: Facts, now: int, policy: Policy) -> bool:
    """Whether a device is being driven, as far as is known. Nobody drives for a day without a stop: then
    the end of the trip was missed, however much is heard of the device since."""
    since = facts.moving_since if facts.moving_since is not None else facts.last_seen
    heard = now - facts.last_seen < policy.moving_stale_ms
    return facts.moving and heard and now - since < LONGEST_TRIP_MS


def trips_of(records: Records, owner_id: str, now: int, policy: Policy) -> list[Facts]:
    """What is known of products that somebody may be driving now, or has just parked."""
    found = records.devices.trips(owner_id, now - policy.drive_settle_ms)
    return [facts for facts in found if people.asked(records, facts.device) == owner_id]


def at_the_wheel(case: Case) -> Defer | None:
    """Whoever is asked drives, this product or another of theirs, or has parked only just now."""
    return _on_a_trip(case.records, case.trips, case.now, case.policy)


def _on_a_trip(records: Records, trips: Sequence[Facts], now: int, policy: Policy) -> Defer | None:
    for facts in trips:
        device = records.devices.find(facts.device)
        product = {"product": device.title if device else facts.device}
        if is_moving(facts, now, policy):
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


def push_moment(
    records: Records, touchpoint_id: str, now: int, policy: Policy, *, news: bool = False
) -> Defer | None:
    """Why a phone must not ring for this touchpoint now, and until when. Only what is dangerous at once
    may ring at any hour, and not for `news` of it (a visit, a question); a critical matter of a product in
    use waits, for its display says it meanwhile."""
    touchpoint = records.touchpoints.get(touchpoint_id)
    case = _case_of(records, touchpoint, now, policy)
    if case is None or (case.dangerous_now and not news):
        return None
    return _looked_at_soon(at_the_wheel(case), now, policy) or at_night(case)


def _looked_at_soon(wait: Defer | None, now: int, policy: Policy) -> Defer | None:
    """What is decided and waits for a trip to end goes out soon after it has."""
    if wait is None or wait.code != "not_sent_driving":
        return wait
    return replace(wait, until=min(wait.until, now + policy.late_push_ms))


def quiet_moment(records: Records, owner_id: str, now: int, policy: Policy) -> Defer | None:
    """Why somebody must not be asked anything now, and until when: they drive, or it is night."""
    wait = _on_a_trip(records, trips_of(records, owner_id, now, policy), now, policy)
    if wait is not None:
        return _looked_at_soon(wait, now, policy)
    zone = records.owners.get(owner_id).time_zone
    until = outgoing.quiet_hours(outgoing.wishes(records, owner_id, policy), zone).until(now)
    return Defer(until, "not_sent_quiet_hours", {"until": until}) if until is not None else None


def display_moment(records: Records, touchpoint_id: str, now: int, policy: Policy) -> Defer | None:
    """Why a display must not show this touchpoint now: its product has begun to move since it was decided."""
    touchpoint = records.touchpoints.get(touchpoint_id)
    case = _case_of(records, touchpoint, now, policy)
    if touchpoint.state is not State.OPEN or case is None or case.critical or not case.moving:
        return None
    if case.rule is not None and case.rule.while_driving:
        return None
    until = now + policy.late_push_ms
    return Defer(until, "not_sent_driving", {"product": case.product})


# --- what follows from a decision -------------------------------------------------------------


def decide(records: Records, finding: Finding, owner_id: str | None, now: int, policy: Policy) -> str:
    """A finding that was just inserted; gives the outcome: send, defer, merge or suppress."""
    rule, device = rule_of(policy.rules, finding), records.devices.find(finding.device)
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
    _found(case)
    outgoing.tell_found(records, finding, owner_id, now)
    decision = judge(case)
    _complain(case, decision)
    match decision:
        case Send(only):
            _send(case, _touchpoint(case, State.OPEN), only, new=True)
        case Defer():
            _defer(case, _touchpoint(case, State.DEFERRED), decision, new=True)
        case Merge():
            _merge(case, decision)
        case Suppress():
            _line(case, decision.code)
    return type(decision).__name__.lower()


def _complain(case: Case, decision: Decision) -> None:
    """A repair that did not help is looked into, also when what came back is too dangerous to wait."""
    again = isinstance(decision, Suppress) and decision.reason == REPAIRED_LATELY
    if case.owner is not None and (again or (case.critical and isinstance(decision, Send | Defer))):
        cases.complain(case.records, case.finding, case.owner.id, case.now, case.policy)


def _found(case: Case) -> None:
    """The first line: the owner knows of a finding before anybody else reads of it."""
    rule = case.rule
    _line(
        case,
        "found",
        rule=case.finding.rule,
        version=case.finding.version,
        kind=rule.kind if rule else None,
        signals=list(rule.signals) if rule else [],
        evidence=dict(case.finding.evidence),
    )


def wake(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> str:
    """A deferred touchpoint whose time has come, decided again; gives the outcome."""
    touchpoint = _company_left(records, touchpoint, now, policy)
    case = _case_of(records, touchpoint, now, policy)
    decision = judge(case) if case else Suppress("untrue")
    match decision:
        case Send(only) if case:
            _send(case, touchpoint, only, new=False)
        case Defer() if case:
            _defer(case, touchpoint, decision, new=False)
        case Merge(into) if case:
            bundles.move_over(records, touchpoint, into, now, policy)
            withdraw(records, touchpoint, "bundled", now)
        case Suppress(reason):
            if case and reason == REPAIRED_LATELY:
                _complain(case, decision)
            _suppressed_late(records, touchpoint, reason, now, policy)
    return type(decision).__name__.lower()


def _company_left(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> Touchpoint:
    """The touchpoint without what came along with its own finding and is not to be told to who is asked now;
    the own one is decided step by step."""
    for finding, why in parting.gone(records, touchpoint).items():
        left = bundles.rest(records, touchpoint, finding)
        if finding != touchpoint.finding and left:
            touchpoint = _without(records, touchpoint, finding, left, why, now, policy)
    return touchpoint


def _without(
    records: Records,
    touchpoint: Touchpoint,
    finding_id: str,
    left: Sequence[Matter],
    why: str,
    now: int,
    policy: Policy,
) -> Touchpoint:
    """The touchpoint goes on with what is `left`, and the ledger says why without the rest."""
    gone = records.touchpoints.finding(finding_id)
    fewer = bundles.without(records, touchpoint, finding_id, left, now, policy)
    line = {"finding": finding_id, "other": gone.rule if gone else ""}
    outgoing.write_line(records, f"partly_{why}", now, touchpoint=fewer, **line)
    return fewer


def _suppressed_late(records: Records, touchpoint: Touchpoint, reason: str, now: int, policy: Policy) -> None:
    """It ends before it was sent; of a bundle, what is still so goes on by itself."""
    left = bundles.rest(records, touchpoint, touchpoint.finding) if reason in OF_ONE_FINDING else []
    if left:
        fewer = _without(records, touchpoint, touchpoint.finding, left, reason, now, policy)
        wake(records, fewer, now, policy)
    else:
        withdraw(records, touchpoint, reason, now)


def _case_of(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> Case | None:
    finding = records.touchpoints.finding(touchpoint.finding)
    if finding is None:
        return None
    graver_by_company = max(finding.severity, touchpoint.severity, key=graver)
    return Case(
        records=records,
        finding=replace(finding, severity=graver_by_company),
        owner_id=touchpoint.owner,
        device=records.devices.find(touchpoint.device),
        rule=rule_of(policy.rules, finding),
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
    records = case.records
    touchpoint = replace(touchpoint, wake_at=decision.until, waits_for=decision.code)
    if new:
        records.touchpoints.add(touchpoint)
    else:
        records.touchpoints.save(touchpoint)
    if decision.code == pace.CODE:
        records.paces.take_place(touchpoint.id, touchpoint.rule, decision.until)
    if new or not _last_said(records, touchpoint, decision):
        outgoing.write_line(records, decision.code, case.now, touchpoint=touchpoint, **dict(decision.params))
    if decision.code in FOR_ROOM:
        line_up(records, touchpoint.owner, case.purse, case.now, case.policy, newest=touchpoint)


def _last_said(records: Records, touchpoint: Touchpoint, decision: Defer) -> bool:
    last = records.touchpoints.ledger(touchpoint=touchpoint.id, limit=1)
    return bool(last) and (last[0].code, dict(last[0].params)) == (decision.code, dict(decision.params))


def line_up(
    records: Records, owner: str, purse: str, now: int, policy: Policy, *, newest: Touchpoint | None = None
) -> None:
    """What waits for room in an owner's budget, in the order of importance: each gets the time at which there
    is room for it, and a line where that is another one than before."""
    for ahead, touchpoint in enumerate(_in_line(records, owner, purse, now)):
        if touchpoint.waits_for not in FOR_ROOM:
            continue  # takes a place, but not yet
        room = budget.room(records, owner, purse, now, policy, ahead=ahead)
        at = now if room is None else room
        if touchpoint.expires_at is not None and touchpoint.expires_at <= at != budget.NEVER:
            # There will be no room for it: it is decided again now, and stands on the page.
            records.touchpoints.save(replace(touchpoint, wake_at=now))
            continue
        if at in (touchpoint.wake_at, budget.NEVER):
            continue
        records.touchpoints.save(replace(touchpoint, wake_at=at))
        if newest is None or touchpoint.id != newest.id:
            code = "moved_back" if at > (touchpoint.wake_at or 0) else "moved_up"
            other = {"other": newest.rule} if newest is not None else {}
            outgoing.write_line(records, code, now, touchpoint=touchpoint, until=at, **other)


def _merge(case: Case, merge: Merge) -> None:
    """Told as part of another matter; a line says of which."""
    assert case.rule is not None  # the steps have seen to it
    joining = bundles.Joining(finding=case.finding, service=case.rule.service, purpose=case.rule.purpose)
    bundles.take_in(case.records, merge.into, joining, case.now, case.policy)
    code = "bundled_booked" if merge.code == "bundled" and merge.into.state is State.BOOKED else merge.code
    _line(case, code, touchpoint=merge.into, other=merge.into.rule)


def _send(case: Case, touchpoint: Touchpoint, only: tuple[str, ...] | None, *, new: bool) -> None:
    """With the owner from now on: slots, a row for every way to reach them, a line in the ledger."""
    records, now = case.records, case.now
    slots = book.proposals(records, touchpoint, now, case.policy)
    touchpoint = replace(
        touchpoint, state=State.OPEN, wake_at=None, waits_for=None, answer=None, sent_at=now, slots=slots
    )
    if new:
        records.touchpoints.add(touchpoint)
    else:
        records.touchpoints.save(touchpoint)
    pace.sent(records, touchpoint.rule, touchpoint.id, now)
    _tell(case, touchpoint, only)


def _tell(case: Case, touchpoint: Touchpoint, only: tuple[str, ...] | None) -> None:
    """Queue the channels that the owner wants, and say in the ledger which they are."""
    told = ladder.begin(
        case.records,
        touchpoint,
        case.policy,
        case.now,
        found_at=case.finding.found_at,
        possible=case.ways if only is None else only,
    )
    _line_sent(case, touchpoint, told, only)


def _line_sent(case: Case, touchpoint: Touchpoint, told: list[str], only: tuple[str, ...] | None) -> None:
    """Which channels it went to, and which of the week's messages it is; it is paid for here."""
    if not told:
        alone = "shown_no_room" if case.ways else "shown_only"
        _line(case, alone if only == () else "shown", touchpoint=touchpoint, channels=told)
        return
    count = _pay(case, touchpoint)
    later = None
    if case.critical and outgoing.WEB_PUSH in told:
        later = push_moment(case.records, touchpoint.id, case.now, case.policy)
    if later is not None:
        told = [channel for channel in told if channel != outgoing.WEB_PUSH]
        _line(case, "sent_display_first", touchpoint=touchpoint, channels=told, reason=later.code)
    elif only:
        _line(case, "sent_display_only", touchpoint=touchpoint, channels=told, **count)
    else:
        _line(case, "sent", touchpoint=touchpoint, channels=told, **count)


def _pay(case: Case, touchpoint: Touchpoint) -> dict[str, int]:
    """One contact from the purse it belongs to; gives its number, for the service purse."""
    if not case.pays:
        return {}
    budget.spend(case.records, touchpoint.owner, case.purse, case.now, touchpoint.id)
    if case.purse != budget.SERVICE:
        return {}
    nth = budget.spent(case.records, touchpoint.owner, case.purse, case.now)
    return {"nth": nth, "budget": case.wishes.weekly_budget}


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
    """Touchpoints whose time has come: expired ones end, deferred ones are decided again, an owner's in the
    order of their importance."""
    pace.try_anew(records, now)
    outcomes = [_expire(records, touchpoint, now, policy) for touchpoint in records.touchpoints.expired(now)]
    for owner in dict.fromkeys(touchpoint.owner for touchpoint in records.touchpoints.due(now)):
        outcomes += _wake_all(records, owner, now, policy)
    return outcomes


def _wake_all(records: Records, owner: str, now: int, policy: Policy) -> list[str]:
    """Everything of an owner that is due. What goes before something else that would have had the same room
    is told so, and so is that."""
    deferred = records.touchpoints.deferred_for_owner(owner)
    due = sorted((t for t in deferred if t.wake_at is not None and t.wake_at <= now), key=_importance)
    outcomes: list[str] = []
    winner: Touchpoint | None = None
    for touchpoint in due:
        stored = records.touchpoints.get(touchpoint.id)
        if stored.state is not State.DEFERRED:
            continue  # it went with one before it
        outcomes.append(wake(records, stored, now, policy))
        after = records.touchpoints.get(touchpoint.id)
        if after.state is State.OPEN and _pays(after):
            winner = after
        elif winner is not None and after.waits_for == BUDGET and after.state is State.DEFERRED:
            outgoing.write_line(records, "gave_way", now, touchpoint=after, other=winner.rule)
            outgoing.write_line(records, "went_first", now, touchpoint=winner, other=after.rule)
    return outcomes


def _expire(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> str:
    code = "expired" if touchpoint.sent_at is not None else "expired_unsent"
    _end(records, touchpoint, State.EXPIRED, code, now)
    _next_in_line(records, touchpoint, now, policy)
    return "expire"


def _next_in_line(records: Records, ended: Touchpoint, now: int, policy: Policy) -> None:
    """Its place is another one's, if it had one."""
    if ended.waits_for is not None:
        line_up(records, ended.owner, budget.purse_of(ended.purpose), now, policy)


def device_parked(records: Records, device: str, now: int, policy: Policy) -> None:
    """A trip ended: what waited for it comes when the owner has had time to arrive."""
    driver, found = people.asked(records, device), records.devices.find(device)
    for touchpoint in records.touchpoints.deferred_for_owner(driver) if driver else ():
        if touchpoint.waits_for == "not_sent_driving":
            records.touchpoints.save(replace(touchpoint, wake_at=now + policy.drive_settle_ms))
            product = found.title if found else device
            outgoing.write_line(records, "parked", now, touchpoint=touchpoint, product=product)


def cleared(
    records: Records, finding_id: str, now: int, policy: Policy, reason: ClearReason = "condition"
) -> None:
    """A finding is no longer true, or never was: what nobody answered yet is withdrawn, a call that was asked
    for is not needed any more; of a bundle the rest goes on. What is booked stays booked, and who booked it
    is told if it never was so."""
    why = WITHDRAWN_AS.get(reason, "untrue")
    for touchpoint in records.touchpoints.page(finding=finding_id, states=(*UNANSWERED, State.ANSWERED)):
        _over(records, touchpoint, finding_id, why, now, policy)
    for touchpoint in records.touchpoints.holding(finding_id):
        if touchpoint.state in (*UNANSWERED, State.ANSWERED):
            _over(records, touchpoint, finding_id, why, now, policy)
    if reason == "refuted":
        for touchpoint in records.touchpoints.page(finding=finding_id, states=(State.BOOKED,)):
            outgoing.write_line(records, "refuted_booked", now, touchpoint=touchpoint)


def _over(
    records: Records, touchpoint: Touchpoint, finding_id: str, why: str, now: int, policy: Policy
) -> None:
    """One of the findings of a touchpoint is over, and with it the touchpoint unless there are others."""
    left = bundles.rest(records, touchpoint, finding_id)
    if left:
        _without(records, touchpoint, finding_id, left, why, now, policy)
    elif touchpoint.state is State.ANSWERED:
        _end(records, touchpoint, State.CLOSED, f"withdrawn_{why}", now)
    else:
        withdraw(records, touchpoint, why, now)
        _next_in_line(records, touchpoint, now, policy)


def take_back(
    records: Records,
    touchpoint: Touchpoint,
    gone: Callable[[Matter], bool],
    why: str,
    now: int,
    policy: Policy,
) -> bool:
    """What of an unanswered touchpoint is `gone` is told no more (a consent ended, a rule was muted); what
    else it is about goes on. True when nothing was left and it ended."""
    matters = records.touchpoints.matters(touchpoint.id)
    ending = [matter for matter in matters if gone(matter)]
    if not any(matter.cleared_at is None and matter not in ending for matter in matters):
        withdraw(records, touchpoint, why, now)
        _next_in_line(records, touchpoint, now, policy)
        return True
    for matter in ending:
        left = [other for other in bundles.rest(records, touchpoint, matter.finding) if not gone(other)]
        touchpoint = _without(records, touchpoint, matter.finding, left, why, now, policy)
    return False


def changed_hands(records: Records, device: str, now: int, policy: Policy) -> None:
    """A product has another owner: what its former one has not answered ends, also on its display."""
    owner = records.devices.get(device).owner
    for touchpoint in records.touchpoints.page(device=device, states=UNANSWERED):
        if touchpoint.owner != owner:
            withdraw(records, touchpoint, "new_owner", now)
            _next_in_line(records, touchpoint, now, policy)


def withdraw(records: Records, touchpoint: Touchpoint, reason: str, now: int) -> None:
    """It ends before it was answered; every channel is closed."""
    code = reason if reason == "held_out" else f"withdrawn_{reason}"
    _end(records, touchpoint, State.WITHDRAWN, code, now)


def _end(records: Records, touchpoint: Touchpoint, state: State, code: str, now: int) -> None:
    ended = replace(touchpoint, state=state, wake_at=None, waits_for=None, closed_at=now)
    records.touchpoints.save(ended)
    records.workshops.release(touchpoint.id)
    outgoing.write_line(records, code, now, touchpoint=touchpoint)
    outgoing.close_channels(records, ended, now)
