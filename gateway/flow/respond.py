"""respond: an owner's answer, from whichever channel, moves the touchpoint and closes it on the others.

The first answer holds: the same choice again gives the touchpoint as it is, another one raises
ConflictError with what holds. Answers from displays come through the journal; their reader is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from gateway.domain.errors import ConflictError, InvalidError, SlotTakenError, TouchpointError
from gateway.domain.messages import Batch, DisplayAnswer
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import Answer, State, Touchpoint
from gateway.flow import book, outgoing
from gateway.ports import Clock, Database, Journal, Records

READER = "respond"
READ_LIMIT = 5_000

ANSWERABLE = (State.DEFERRED, State.OPEN)

MOVES: Mapping[str, State] = {
    "book": State.BOOKED,
    "not_now": State.CLOSED,
    "already_done": State.CLOSED,
    "noted": State.CLOSED,
    "call_me": State.ANSWERED,
}
"""What an answer makes of the touchpoint."""

STAYS_ON_SCREEN = ("display", "api", "call_centre")
"""Answers from here leave a notification standing on a phone; a quiet one takes its place."""

log = structlog.get_logger()


def answer(records: Records, touchpoint_id: str, answer: Answer, now: int, policy: Policy) -> Touchpoint:
    """Take an answer; gives the touchpoint as it stands afterwards.

    Raises NotFoundError, InvalidError for what cannot be chosen here, ConflictError (`holds` is the
    touchpoint) when something else holds already, SlotTakenError with the next slots; nothing is
    written then. After a SlotTakenError call `book.refresh` in a write of its own.
    """
    touchpoint = records.touchpoints.get(touchpoint_id)
    chosen = normal(answer)
    if touchpoint.answer is not None and touchpoint.answer.same_choice(chosen):
        return touchpoint
    _check(touchpoint, chosen)
    appointment = None
    if chosen.action == "book":
        appointment = book.book(records, touchpoint, chosen.slot or "", now, policy)
    state = MOVES[chosen.action]
    after = replace(
        touchpoint,
        state=state,
        answer=chosen,
        wake_at=None,
        closed_at=now if state is State.CLOSED else None,
    )
    records.touchpoints.save(after)
    if appointment is None:
        records.workshops.release(touchpoint.id)
    _follow(records, after, chosen, now, policy)
    return after


def normal(answer: Answer) -> Answer:
    """The answer with `book:<slot id>` taken apart. Raises InvalidError."""
    action, _, slot = answer.action.partition(":")
    if action not in MOVES:
        raise InvalidError(f"action: {action!r} is none of {', '.join(MOVES)}.")
    if action != "book":
        return replace(answer, action=action, slot=None)
    chosen = slot or answer.slot
    if not chosen:
        raise InvalidError("slot: name the slot to book, by its id.")
    return replace(answer, action="book", slot=chosen)


def _check(touchpoint: Touchpoint, chosen: Answer) -> None:
    if touchpoint.answer is not None:
        raise ConflictError("This matter has been answered already.", touchpoint)
    if touchpoint.state not in ANSWERABLE:
        raise ConflictError(f"This matter is {touchpoint.state}.", touchpoint)
    if chosen.action == "book" and touchpoint.kind != "appointment":
        raise InvalidError("action: there is nothing to book for this matter.")


def _follow(records: Records, touchpoint: Touchpoint, chosen: Answer, now: int, policy: Policy) -> None:
    """What an answer brings with it: the ledger, counters, and the other channels."""
    outgoing.write_line(
        records,
        f"answered_{chosen.action}",
        now,
        touchpoint=touchpoint,
        channel=chosen.channel,
        by=chosen.by,
        comment=chosen.comment,
    )
    rule = policy.rules.get(touchpoint.rule)
    if chosen.action == "already_done" and rule is not None:
        outgoing.queue_reset(records, touchpoint, rule.resets, now)
    outgoing.close_channels(records, touchpoint, now)
    if touchpoint.sent_at is not None and chosen.channel in STAYS_ON_SCREEN:
        outgoing.queue_push(records, touchpoint, "answered", now)


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
    """Whether a message of the batch is on an answer topic."""
    return any(topic.endswith("/answer") for topic, _ in batch.messages)


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
