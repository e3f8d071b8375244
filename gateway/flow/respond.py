"""respond: an owner's answer, from whichever channel, moves the touchpoint and closes it on the others.

The first answer holds: the same choice again gives the touchpoint as it is, another one raises
ConflictError with what holds. What an owner may ask for without answering (another time, another
workshop) leaves the matter open; what was put off returns (returning.py). Answers from displays come
through the journal; their reader is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import structlog

from gateway.domain import snooze
from gateway.domain.delivery import DeliveryState
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError, SlotTakenError, TouchpointError
from gateway.domain.messages import Batch, DisplayAnswer
from gateway.domain.moments import DAY_MS, instants
from gateway.domain.policy import OWNER_REPORT, Policy
from gateway.domain.touchpoint import ACTIONS, EXTRA_WORK, REQUESTS, Answer, State, Touchpoint
from gateway.flow import agree, asking, book, cases, outgoing, pace, returning
from gateway.ports import Clock, Database, Journal, Records

READER = "respond"
READ_LIMIT = 5_000

ANSWERABLE = (State.DEFERRED, State.OPEN)

MOVES: Mapping[str, State] = {
    "book": State.BOOKED,
    "not_now": State.CLOSED,
    "snooze": State.DEFERRED,
    "never": State.CLOSED,
    "already_done": State.CLOSED,
    "noted": State.CLOSED,
    "call_me": State.ANSWERED,
}
"""What an answer makes of the touchpoint."""

AFTER_A_CALL = ("book", "not_now", "already_done", "noted", "never")
"""What the call centre may take down when the owner has asked to be called."""

NEVER_MUTED = ("recall", OWNER_REPORT.purpose)
"""Purposes that nobody can mute: a legal duty, and what owners say themselves."""

NOT_ON_A_PHONE = ("display", "email", "api", "call_centre")
"""Channels on which the owner's phone has no part."""

ON_A_PHONE = (DeliveryState.SENT, DeliveryState.LEASED, DeliveryState.PENDING)
"""A push in these states may stand on a phone: the last of them after a try of which nobody heard."""

TEXT_MOST = 200
"""Characters of a place in the owner's words."""

log = structlog.get_logger()


def answer(
    records: Records,
    touchpoint_id: str,
    answer: Answer,
    now: int,
    policy: Policy,
    *,
    for_product: bool = False,
) -> Touchpoint:
    """Take an answer; gives the touchpoint as it stands afterwards.

    The action may carry its one parameter: `book:<slot id>`, `snooze:tomorrow` (or weekend, next_week, a
    day, a time), `not_now:<the same>`, `already_done:<day>`, `other_workshop:<workshop id>`. With
    `for_product` another workshop is the product's own from now on.

    Raises NotFoundError, InvalidError for what cannot be chosen here, ConflictError (`holds` is the
    touchpoint) when something else holds already, SlotTakenError with the next slots; nothing is
    written then. After a SlotTakenError call `book.refresh` in a write of its own.
    """
    touchpoint = records.touchpoints.get(touchpoint_id)
    chosen = _meant(records, touchpoint, answer, now)
    if touchpoint.answer is not None and touchpoint.answer.same_choice(chosen):
        return _said_again(records, touchpoint, chosen, now, policy)
    _check(touchpoint, chosen)
    if chosen.action == "other_workshop":
        return asking.other_workshop(records, touchpoint, chosen, now, policy, for_product=for_product)
    if chosen.action == "other_time":
        return asking.other_time(records, touchpoint, chosen, now, policy)
    appointment = None
    if chosen.action == "book":
        appointment = book.book(records, touchpoint, chosen.slot or "", now, policy, stay=chosen.stay)
    after = _moved(touchpoint, _with_return(records, touchpoint, chosen, now, policy), now, policy)
    records.touchpoints.save(after)
    if appointment is None:
        book.let_go(records, touchpoint, now, policy)
    _follow(records, after, chosen, now, policy)
    return after


def _moved(touchpoint: Touchpoint, chosen: Answer, now: int, policy: Policy) -> Touchpoint:
    """The touchpoint with its answer. What is put off keeps its time, and lives at least until it was
    answerable once more."""
    state = MOVES[chosen.action]
    after = replace(
        touchpoint,
        state=state,
        answer=chosen,
        wake_at=chosen.until,
        closed_at=now if state is State.CLOSED else None,
    )
    if chosen.action != "snooze" or chosen.until is None:
        return after
    return replace(after, slots=(), expires_at=returning.lives_until(touchpoint, chosen.until, policy))


def _with_return(
    records: Records, touchpoint: Touchpoint, chosen: Answer, now: int, policy: Policy
) -> Answer:
    """Who says "not now" hears of it again; so does of the rest who mutes one matter of several. Later
    without a day is tomorrow."""
    soon = replace(chosen, until=now + policy.snooze_ms)
    if chosen.action == "snooze" and chosen.until is None:
        zone = records.owners.get(touchpoint.owner).time_zone
        return replace(chosen, until=snooze.instant("tomorrow", now, zone))
    if chosen.action == "not_now" and chosen.until is None:
        return soon
    several = chosen.action == "never" and len(records.touchpoints.matters(touchpoint.id)) > 1
    return soon if several else chosen


# --- what was meant ---------------------------------------------------------------------------


def normal(answer: Answer) -> tuple[Answer, str]:
    """The answer with `<action>:<parameter>` taken apart, and the parameter. Raises InvalidError."""
    action, _, parameter = answer.action.partition(":")
    if action in EXTRA_WORK:
        raise InvalidError(f"action: {action} answers a workshop's question for extra work, not this matter.")
    if action not in (*ACTIONS, *REQUESTS):
        raise InvalidError(f"action: {action!r} is none of {', '.join((*ACTIONS, *REQUESTS))}.")
    return replace(answer, action=action), parameter


def _meant(records: Records, touchpoint: Touchpoint, answer: Answer, now: int) -> Answer:
    """The answer with what its action needs, and nothing else. Raises InvalidError."""
    chosen, said = normal(answer)
    action = chosen.action
    slot = (said or chosen.slot) if action == "book" else None
    if action == "book" and not slot:
        raise InvalidError("slot: name the slot to book, by its id.")
    workshop = (said or chosen.workshop) if action == "other_workshop" else None
    if action == "other_workshop" and not workshop:
        raise InvalidError("workshop: name the workshop, by its id.")
    plain = replace(chosen, slot=slot, workshop=workshop, until=None, done_at=None, place=None)
    if action in ("snooze", "not_now"):
        return replace(plain, until=_until(records, touchpoint, chosen, said, now))
    return _done(records, touchpoint, plain, chosen, said, now) if action == "already_done" else plain


def _until(records: Records, touchpoint: Touchpoint, chosen: Answer, said: str, now: int) -> int | None:
    """When it returns; None where that is not said."""
    zone = records.owners.get(touchpoint.owner).time_zone
    if not said and chosen.until is not None:
        return snooze.checked(chosen.until, now)
    if not said:
        return None
    return snooze.instant(said, now, zone)


def _done(
    records: Records, touchpoint: Touchpoint, plain: Answer, chosen: Answer, said: str, now: int
) -> Answer:
    """When and where it was done, as far as the owner says."""
    done_at = chosen.done_at
    if said:
        done_at = snooze.done_day(said, now, records.owners.get(touchpoint.owner).time_zone)
    device = records.devices.find(touchpoint.device)
    if done_at is not None and device is not None and device.purchased:
        _check_not_before(done_at, device.purchased)
    workshop = chosen.workshop or None
    if workshop is not None:
        try:
            records.workshops.get(workshop)
        except NotFoundError as error:
            raise InvalidError(f"workshop: there is no workshop {workshop!r}; say it in `place`.") from error
    place = (chosen.place or "").strip()[:TEXT_MOST] or None
    return replace(plain, done_at=done_at, workshop=workshop, place=place)


def _check_not_before(done_at: int, purchased: str) -> None:
    try:
        bought = date.fromisoformat(purchased)
    except ValueError:
        return  # whoever wrote the day of purchase wrote something else
    if done_at < instants(bought, 0, "UTC")[0] - DAY_MS:
        raise InvalidError("done_on: that was before the product was bought.")


def _check(touchpoint: Touchpoint, chosen: Answer) -> None:
    if not _after_a_call(touchpoint, chosen):
        if touchpoint.answer is not None:
            raise ConflictError("This matter has been answered already.", touchpoint)
        if touchpoint.state not in ANSWERABLE:
            raise ConflictError(f"This matter is {touchpoint.state}.", touchpoint)
    if chosen.action in ("book", *REQUESTS) and touchpoint.kind != "appointment":
        raise InvalidError("action: there is nothing to book for this matter.")
    if chosen.action == "never" and not may_mute(touchpoint):
        raise InvalidError("action: what is dangerous, a recall, and what you said yourself cannot be muted.")


def may_mute(touchpoint: Touchpoint) -> bool:
    """Whether its owner may choose to hear no more of this kind."""
    return touchpoint.severity != "critical" and touchpoint.purpose not in NEVER_MUTED


def _after_a_call(touchpoint: Touchpoint, chosen: Answer) -> bool:
    """The owner asked to be called; what is agreed on the telephone is taken down."""
    asked = touchpoint.state is State.ANSWERED and touchpoint.answer is not None
    called = asked and touchpoint.answer is not None and touchpoint.answer.action == "call_me"
    return called and chosen.channel == "call_centre" and chosen.action in AFTER_A_CALL


# --- what follows -----------------------------------------------------------------------------


def _follow(records: Records, touchpoint: Touchpoint, chosen: Answer, now: int, policy: Policy) -> None:
    """What an answer brings with it: a case, a mute, the ledger, counters, and the other channels."""
    match chosen.action:
        case "call_me":
            _ask_for_a_call(records, touchpoint, chosen, now, policy)
        case "never":
            wanted = outgoing.wishes(records, touchpoint.owner, policy)
            silent = wanted.muting(touchpoint.rule, touchpoint.severity)
            records.owners.prefer(touchpoint.owner, silent)
            agree.silence(records, touchpoint.owner, silent, touchpoint.rule, now, policy)
        case "already_done":
            _set_back(records, touchpoint, chosen, now, policy)
    _write(records, touchpoint, chosen, now)
    pace.answered(records, touchpoint.rule, now, policy)
    stands = _stands_on_a_phone(records, touchpoint, chosen)
    outgoing.close_channels(records, touchpoint, now)
    if stands:
        outgoing.queue_push(records, touchpoint, "answered", now, replaces=True)
    elif touchpoint.sent_at is not None and _elsewhere(touchpoint, chosen):
        outgoing.queue_push(records, touchpoint, "answered", now)


def _stands_on_a_phone(records: Records, touchpoint: Touchpoint, chosen: Answer) -> bool:
    """Whether a notification still offers what is answered: on every browser that it was sent to, may have
    been or is being sent to now, but the one whose notification was answered."""
    rows = records.outbox.page(touchpoint=touchpoint.id, states=ON_A_PHONE, limit=1_000)
    shown = [row for row in rows if row.state is not DeliveryState.PENDING or row.attempts]
    browsers = {row.target for row in shown if row.channel == outgoing.WEB_PUSH}
    own = chosen.channel == outgoing.WEB_PUSH and chosen.by == touchpoint.owner
    return len(browsers) > (1 if own else 0)


def _elsewhere(touchpoint: Touchpoint, chosen: Answer) -> bool:
    """Whether the owner's phone does not know of the answer; then it is told at a moment that suits."""
    return chosen.channel in NOT_ON_A_PHONE or chosen.by != touchpoint.owner


def _ask_for_a_call(
    records: Records, touchpoint: Touchpoint, chosen: Answer, now: int, policy: Policy
) -> None:
    """Somebody is responsible for calling, by a time that the owner reads."""
    device = records.devices.find(touchpoint.device)
    cases.open_case(
        records,
        kind="call_me",
        owner=touchpoint.owner,
        device=touchpoint.device,
        touchpoint=touchpoint.id,
        workshop=touchpoint.workshop or (device.workshop if device else None),
        text=chosen.comment or "",
        now=now,
        policy=policy,
        by=chosen.by,
    )


def _set_back(records: Records, touchpoint: Touchpoint, chosen: Answer, now: int, policy: Policy) -> None:
    """The counters of every matter of the touchpoint begin anew, from the day of the job on."""
    rules = [policy.rules.get(matter.rule) for matter in records.touchpoints.matters(touchpoint.id)]
    signals = dict.fromkeys(name for rule in rules if rule is not None for name in rule.resets)
    since = None if chosen.done_at is None or chosen.done_at >= now else chosen.done_at
    outgoing.queue_reset(records, touchpoint, tuple(signals), now, since=since)


def _write(records: Records, touchpoint: Touchpoint, chosen: Answer, now: int) -> None:
    """The ledger's line, and before it who answered where that was not the owner."""
    person = None
    if chosen.by != touchpoint.owner and chosen.channel == "call_centre":
        outgoing.write_line(records, "answered_for_you", now, touchpoint=touchpoint, by=chosen.by)
    elif chosen.by != touchpoint.owner:
        person = _name(records, chosen.by)
    told = touchpoint.answer or chosen
    params: dict[str, Any] = {
        "person": person,
        "until": told.until,
        "done_on": told.done_at,
        "place": _place_name(records, told),
    }
    outgoing.write_line(
        records,
        f"answered_{chosen.action}",
        now,
        touchpoint=touchpoint,
        channel=chosen.channel,
        by=chosen.by,
        comment=chosen.comment,
        **{name: value for name, value in params.items() if value is not None},
    )


def _name(records: Records, who: str) -> str:
    """What somebody of the household is called."""
    try:
        return records.owners.get(who).name
    except NotFoundError:
        return who


def _place_name(records: Records, told: Answer) -> str | None:
    if told.action != "already_done" or told.workshop is None:
        return told.place
    return records.workshops.get(told.workshop).name


def _said_again(
    records: Records, touchpoint: Touchpoint, chosen: Answer, now: int, policy: Policy
) -> Touchpoint:
    """The same choice once more changes nothing, unless it says what was left open: when and where it was
    done, or another day on which it is to return."""
    held = touchpoint.answer
    assert held is not None  # who calls has compared them
    if chosen.action == "already_done" and _says_more(held, chosen):
        return _details(records, touchpoint, chosen, now, policy)
    if chosen.until is not None and chosen.until != held.until and returning.returns(touchpoint):
        return returning.put_off_until(records, touchpoint.id, chosen.until, now, policy)
    return touchpoint


def _says_more(held: Answer, chosen: Answer) -> bool:
    said = (chosen.done_at, chosen.workshop, chosen.place)
    return any(said) and said != (held.done_at, held.workshop, held.place)


def _details(
    records: Records, touchpoint: Touchpoint, chosen: Answer, now: int, policy: Policy
) -> Touchpoint:
    assert touchpoint.answer is not None
    told = replace(
        touchpoint.answer,
        done_at=chosen.done_at or touchpoint.answer.done_at,
        workshop=chosen.workshop,
        place=chosen.place,
    )
    after = replace(touchpoint, answer=told)
    records.touchpoints.save(after)
    if told.done_at != touchpoint.answer.done_at:
        _set_back(records, after, told, now, policy)
    params: dict[str, Any] = {"done_on": told.done_at, "place": _place_name(records, told)}
    known = {name: value for name, value in params.items() if value is not None}
    outgoing.write_line(records, "done_details", now, touchpoint=after, by=chosen.by, **known)
    return after


# --- answers from displays --------------------------------------------------------------------


class Responder:
    """Reads the displays' answers from the journal, at its own position."""

    def __init__(
        self,
        journal: Journal,
        database: Database,
        clock: Clock,
        policy: Policy,
        *,
        answers_in: Callable[[Batch], bool] | None = None,
    ) -> None:
        """`answers_in` says cheaply whether a batch may hold answers, so that others are not decoded here."""
        self._journal = journal
        self._database = database
        self._clock = clock
        self._policy = policy
        self._answers_in = answers_in or may_hold_answers
        self._position = 0

    @property
    def position(self) -> int:
        """The last entry taken."""
        return self._position

    async def run(self) -> None:
        """Until cancelled. Begins behind what is known to be taken: the journal is told of every entry, the
        database only of answers, and a day's telemetry need not be looked through for none."""
        stored = await self._database.read(lambda records: records.position(READER))
        told = self._journal.status()["readers"].get(READER, {}).get("position", 0)
        self._position = max(stored, told)
        appended = self._journal.appended()
        while True:
            appended.clear()
            if not await self.step():
                await self._clock.wait(appended)

    async def step(self) -> bool:
        """Take what is there; False when there was nothing.

        The position is stored with the answers it stands for. Entries without answers have no effect to be
        stored with; reading them again after a crash changes nothing.
        """
        batches = await self._journal.read(self._position, limit=READ_LIMIT)
        for batch in batches:
            answers = self._answers(batch)
            if answers:
                await self._take(answers, batch.last)
            self._position = max(self._position, batch.last)
        if batches:
            await self._journal.commit(READER, self._position)
        return bool(batches)

    def _answers(self, batch: Batch) -> list[DisplayAnswer]:
        if batch.kind != "messages" or not self._answers_in(batch):
            return []
        return [given for given in batch.decoded.answers if given.position > self._position]

    async def _take(self, answers: list[DisplayAnswer], position: int) -> None:
        now = self._clock.now()

        def work(records: Records) -> None:
            for given in answers:
                from_display(records, given, now, self._policy)
            records.set_position(READER, position)

        await self._database.write(work)


def may_hold_answers(batch: Batch) -> bool:
    """Whether a message of the batch is on an answer topic, or may be."""
    if batch.is_decoded:
        return bool(batch.decoded.answers)
    return "/answer" in "\n".join([topic for topic, _ in batch.messages])


def from_display(records: Records, given: DisplayAnswer, now: int, policy: Policy) -> None:
    """An answer tapped on a device's display. What cannot be taken is logged, and the display is brought
    up to date, so that it shows what holds; it never stalls the reader."""
    try:
        touchpoint = records.touchpoints.get(given.touchpoint)
        if touchpoint.device != given.device:
            raise InvalidError(f"device: {given.device} was never shown touchpoint {given.touchpoint}.")
        chosen = Answer(action=given.action, channel="display", at=now, by=touchpoint.owner)
        answer(records, touchpoint.id, chosen, now, policy)
    except SlotTakenError:
        book.refresh(records, given.touchpoint, now, policy)
    except ConflictError:
        outgoing.queue_display(records, touchpoint, now)
    except TouchpointError as error:
        log.warning("display_answer_refused", device=given.device, action=given.action, why=str(error))
