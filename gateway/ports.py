"""The Protocols that the path needs from the world.

One implementation per file in `gateway/adapters` and `gateway/channels`; every port has contract
tests in `tests/contract` that each implementation passes. Times are UTC milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, runtime_checkable

from gateway.domain.access import Role, Token
from gateway.domain.accounts import Account, Passkey, Proof, ProofKind
from gateway.domain.appointment import Appointment, AppointmentState, BusyTime, ExtraWork, Hold, Workshop
from gateway.domain.calendars import (
    CalendarEvent,
    CalendarInvitation,
    CalendarSettings,
    Feed,
    InboundMail,
    Party,
)
from gateway.domain.case import Case, CaseKind, CaseState
from gateway.domain.conversation import Conversation, Present, Said
from gateway.domain.delivery import (
    Attempt,
    Delivery,
    DeliveryOutcome,
    DeliveryState,
    MailAddress,
    Outcome,
    Reached,
)
from gateway.domain.device import Device, Facts, Ownership
from gateway.domain.feedback import Feedback
from gateway.domain.heard import Heard
from gateway.domain.household import Invitation, Look, Person
from gateway.domain.links import Link
from gateway.domain.measures import Cell, Followed, Hit, Product, Tally, Voice
from gateway.domain.messages import Batch, Message, PacketIds, QuarantineRow
from gateway.domain.owner import Consent, Owner, Preferences, PushSubscription
from gateway.domain.pace import Pace
from gateway.domain.plotting import Courses, Wanted
from gateway.domain.recall import Affected, Progress, Recall
from gateway.domain.report import Attachment, Report
from gateway.domain.result import Result
from gateway.domain.rule_sets import Activation, Sources
from gateway.domain.touchpoint import Finding, LedgerLine, Matter, State, Touchpoint
from gateway.domain.webhooks import Webhook
from rules.readings import Value

T = TypeVar("T")


# --- time -------------------------------------------------------------------------------------


class Clock(Protocol):
    """The one clock. Everything that waits, waits through it, so that time can be played."""

    def now(self) -> int:
        """UTC milliseconds."""
        ...

    async def wait(self, event: asyncio.Event, until: int | None = None) -> bool:
        """Return True when `event` is set, False when `until` (ms) has come. Never clears the event.

        A task that stands in here with nothing to do counts as idle: a played clock advances
        only when all its waiters stand here.
        """
        ...


# --- journal ----------------------------------------------------------------------------------


class JournalFullError(Exception):
    """The journal has reached its size limit: nothing was appended; try again after trimming."""


class JournalWriteError(Exception):
    """The journal could not be written (disk full, I/O error): nothing was appended."""


class Journal(Protocol):
    """The spine: everything that arrived, in order, on disk before it is acknowledged.

    Positions are consecutive integers from 1. Readers keep their own committed position.
    """

    async def append(
        self, messages: Sequence[Message], received: int, packet_ids: PacketIds | None = None
    ) -> int:
        """Append one batch, durable when this returns; gives the position of its first entry.

        `packet_ids` are kept with it for `by_packet_id`.
        Raises JournalFullError, JournalWriteError; then nothing of the batch is stored.
        """
        ...

    async def by_packet_id(self, session: int, ids: Collection[int]) -> Mapping[int, Message]:
        """The newest message under each of these packet ids, of the last messages of a session: so many that
        what a broker sends again is either among them or was never appended. Known after a crash, too.

        Raises JournalWriteError.
        """
        ...

    async def append_controls(self, controls: Sequence[Mapping[str, Any]], received: int) -> int:
        """The same for control entries. Never refused for the size limit."""
        ...

    async def read(self, after: int, *, limit: int) -> list[Batch]:
        """Batches that follow position `after`, oldest first, about `limit` entries at most (one batch
        at least when there is one); the first batch may begin before `after + 1` when a reader
        stopped inside it. Batches appended by this process are handed over from memory while
        they are recent. Empty when there is nothing new."""
        ...

    async def erase(self, devices: Mapping[str, Sequence[tuple[int, int]]], upto: int) -> int:
        """What these devices sent and was received at these times (ms, half open) is overwritten, up to
        position `upto`: its entries stay, and are empty. Gives how many there were.

        Raises JournalWriteError."""
        ...

    async def commit(self, reader: str, position: int) -> None:
        """Copy a reader's position here (its effects are committed elsewhere), for trimming and lag."""
        ...

    def head(self) -> int:
        """Position of the newest entry known here, 0 when empty."""
        ...

    def appended(self) -> asyncio.Event:
        """Set whenever something was appended; a reader clears it before it reads."""
        ...

    def status(self) -> Mapping[str, Any]:
        """{"head", "first", "bytes", "max_bytes", "readers": {name: {"position", "lag"}}}."""
        ...


# --- time series ------------------------------------------------------------------------------


class StoreUnavailableError(Exception):
    """The time-series store cannot take writes now; the same batch is tried again later."""


class Gathering(Protocol):
    """Telemetry on its way into a store, in the form that the store takes it in: the batches that brought it
    may go."""

    @property
    def messages(self) -> int:
        """How many telemetry messages were taken in."""
        ...

    def add(self, batch: Batch) -> None:
        """Take in the telemetry of one more batch."""
        ...

    async def write(self, position: int) -> Sequence[tuple[str, str]]:
        """Write all of it, once; after an error the same call goes on with what is missing.

        Returns refused points as (device, reason); they cost themselves, never the others.
        Raises StoreUnavailableError when nothing (or not everything) could be written.
        `position` is committed with the data where the store can hold it.
        """
        ...


class TimeSeries(Protocol):
    """Readings by device, signal and time. Writing the same reading twice changes nothing."""

    async def prepare(self, retention_days: int = 0) -> str:
        """Create what the store needs; gives a line for people. Readings end after so many days, 0 keeps
        them for ever.

        Raises StoreUnavailableError.
        """
        ...

    def gather(self, kinds: Callable[[str], tuple[str, str]]) -> Gathering:
        """Begin to gather what is to be written together; `kinds(device)` gives (kind, model)."""
        ...

    async def position(self) -> int | None:
        """The position committed with the data, None where the store cannot hold one."""
        ...

    async def readings(
        self, device: str, signal: str, *, start: int | None, end: int | None, after: int | None, limit: int
    ) -> list[tuple[int, Value]]:
        """(ts, value) ordered by ts, start <= ts < end, ts > after; one row per ts."""
        ...

    async def aggregates(
        self, device: str, signal: str, *, start: int, end: int, every: int
    ) -> list[tuple[int, float, float, float, int]]:
        """(ts of the interval's start, min, mean, max, count) for intervals that hold numbers."""
        ...

    async def plotted(self, wanted: Sequence[Wanted], *, back: int, now: int) -> Sequence[Courses]:
        """The courses of numbers as charts draw them (domain/plotting.py), of each that is wanted: what lies
        in its intervals, no further back than `back` ms."""
        ...

    async def latest(self, device: str) -> Mapping[str, tuple[int, Value]]:
        """The newest value of every signal of one device."""
        ...

    async def erase(self, device: str, start: int, end: int) -> None:
        """End a device's readings of start <= ts < end (ms), for good.

        Raises StoreUnavailableError."""
        ...

    async def check(self) -> str:
        """One line for doctor; raises StoreUnavailableError with what to do."""
        ...

    async def close(self) -> None: ...


# --- database ---------------------------------------------------------------------------------
#
# The domain's records. Everything here is synchronous: it runs in a thread, inside one
# transaction that `Database.write` or `Database.read` opened.


class DatabaseUnavailableError(Exception):
    """The domain's store cannot be read or written now; the message says what to do. Nothing was stored."""


TROUBLES = (DatabaseUnavailableError, JournalWriteError, StoreUnavailableError)
"""What befalls stores, and passes when somebody mends it; the message says what that is."""


class Owners(Protocol):
    """Owners, what they agreed to, when they may be reached."""

    def add(self, owner: Owner) -> None:
        """Raises ConflictError when the id exists."""
        ...

    def get(self, owner_id: str) -> Owner:
        """Raises NotFoundError."""
        ...

    def by_email(self, address: str) -> list[Owner]:
        """Everybody with this address, whatever its case."""
        ...

    def update(self, owner: Owner) -> None:
        """Everything but id and `created`. Raises NotFoundError."""
        ...

    def page(self, *, after: str | None = None, limit: int = 100, find: str | None = None) -> list[Owner]:
        """By id; `find` matches part of name or id, case-insensitive."""
        ...

    def consent(self, entry: Consent) -> None: ...
    def consents(self, owner_id: str) -> list[Consent]:
        """Newest first, with history."""
        ...

    def granted(self, owner_id: str, purpose: str) -> bool: ...
    def preferences(self, owner_id: str) -> Preferences:
        """The defaults when the owner never set any."""
        ...

    def prefer(self, owner_id: str, preferences: Preferences) -> None: ...
    def subscribe(self, subscription: PushSubscription) -> None:
        """Insert, or renew the owner's one with the same endpoint, which keeps its id."""
        ...

    def subscriptions(self, owner_id: str) -> list[PushSubscription]:
        """Those not dropped."""
        ...

    def subscription(self, subscription_id: str) -> PushSubscription | None: ...
    def drop_subscription(self, subscription_id: str, at: int) -> None: ...


class Devices(Protocol):
    """Devices, who owned them when, and facts."""

    def add(self, device: Device) -> None:
        """Registers it, with its ownership from `device.created` on. Raises ConflictError when it exists."""
        ...

    def get(self, device_id: str) -> Device:
        """Raises NotFoundError."""
        ...

    def find(self, device_id: str) -> Device | None: ...
    def page(
        self, *, after: str | None = None, limit: int = 100, owner: str | None = None, find: str | None = None
    ) -> list[Device]: ...
    def update(self, device: Device) -> None:
        """Everything but id and owner."""
        ...

    def transfer(self, device_id: str, owner: str | None, at: int) -> None:
        """Ends the running ownership at `at` and begins the next."""
        ...

    def ownerships(self, device_id: str) -> list[Ownership]: ...
    def owner_at(self, device_id: str, ts: int) -> str | None: ...
    def people(self, device_id: str) -> list[Person]:
        """Everybody who belongs to it now, its owner first; exactly one of them is asked. Empty for a
        device that nobody owns."""
        ...

    def facts(self, device_id: str) -> Facts:
        """Empty facts for a device that never reported."""
        ...

    def trips(self, owner_id: str, since: int) -> list[Facts]:
        """Of what somebody owns or is asked about, and what moves, or has begun or ended moving since."""
        ...

    def all_facts(self) -> list[Facts]:
        """Of every device that ever reported: assess takes them up at its start."""
        ...

    def put_facts(self, facts: Sequence[Facts]) -> None: ...
    def unclaimed(self, *, after: str | None = None, limit: int = 100) -> list[Facts]:
        """Facts of devices that reported but that nobody registered."""
        ...

    def connected(self, since: int) -> tuple[int, int]:
        """(devices seen since, devices known)."""
        ...


class Touchpoints(Protocol):
    """Findings, touchpoints and the ledger."""

    def add_finding(self, finding: Finding) -> bool:
        """Insert once; False when it is already there (then it is not decided again)."""
        ...

    def finding(self, finding_id: str) -> Finding | None: ...
    def clear_finding(self, finding_id: str, at: int) -> None: ...
    def findings(
        self, *, device: str | None = None, rule: str | None = None, limit: int = 100
    ) -> list[Finding]:
        """Newest first."""
        ...

    def found_by_rule(self, since: int) -> Mapping[str, tuple[int, int]]:
        """{rule: (findings, devices)}, of rules in shadow too."""
        ...

    def tried_out(self, since: int) -> Mapping[str, tuple[int, int]]:
        """{rule: (findings, owners)} of what rules in shadow would have told: agreed to, not muted, not with
        the owner already. Quiet hours and budgets would have moved some of it."""
        ...

    def add(self, touchpoint: Touchpoint) -> None: ...
    def get(self, touchpoint_id: str) -> Touchpoint:
        """Raises NotFoundError."""
        ...

    def save(self, touchpoint: Touchpoint) -> None:
        """Replace the row; checks TRANSITIONS against the stored state, ConflictError otherwise."""
        ...

    def page(
        self,
        *,
        owner: str | None = None,
        device: str | None = None,
        states: Sequence[State] = (),
        rule: str | None = None,
        finding: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Touchpoint]:
        """Newest first by id; `after` is the last id of the page before."""
        ...

    def live_for(self, device: str, rule: str) -> Touchpoint | None:
        """The one that still needs something, for this device and rule."""
        ...

    def due(self, now: int, limit: int = 100) -> list[Touchpoint]:
        """Deferred ones whose wake_at has come, oldest first."""
        ...

    def expired(self, now: int, limit: int = 100) -> list[Touchpoint]:
        """Open or deferred ones whose expires_at has come."""
        ...

    def returning(self, now: int, limit: int = 100) -> list[Touchpoint]:
        """Closed ones that were put off until now, oldest first."""
        ...

    def next_wake(self) -> int | None:
        """The earliest wake_at or expires_at of anything live and unanswered, or put off."""
        ...

    def deferred_for_device(self, device: str) -> list[Touchpoint]: ...
    def matters(self, touchpoint_id: str) -> list[Matter]:
        """The findings that the touchpoint is about: its own first, then those taken in, in their order.

        Raises NotFoundError."""
        ...

    def take_in(
        self, touchpoint_id: str, finding: Finding, service: str | None, purpose: str, at: int
    ) -> None:
        """One more finding that the touchpoint is about; a second time changes nothing."""
        ...

    def take_out(self, touchpoint_id: str, finding_id: str) -> None:
        """A finding taken in earlier is no longer part of it."""
        ...

    def holding(self, finding_id: str) -> list[Touchpoint]:
        """Those that took the finding in, newest first; not those whose own it is (`page` gives them)."""
        ...

    def deferred_for_owner(self, owner: str) -> list[Touchpoint]:
        """By wake_at."""
        ...

    def write_line(self, line: LedgerLine) -> None: ...
    def ledger(
        self,
        *,
        owner: str | None = None,
        touchpoint: str | None = None,
        finding: str | None = None,
        shared: Sequence[tuple[str, int, int | None]] = (),
        after: str | None = None,
        limit: int = 100,
    ) -> list[LedgerLine]:
        """Newest first; for a touchpoint the lines of its finding too; for an owner those of the devices
        in `shared` too, from when until when (ms, half open)."""
        ...

    def counts(self, states: Sequence[State] = ()) -> Mapping[str, int]:
        """{state: how many touchpoints}, of these states or of all. Live states are few; what has ended grows
        for ever and takes as long to count."""
        ...

    def funnel(self, since: int) -> list[Mapping[str, Any]]:
        """Per rule: {"rule", "found", "sent", "answered", "booked", "fulfilled", "declined", "silent"}."""
        ...


class Workshops(Protocol):
    """Workshops, appointments, holds."""

    def add(self, workshop: Workshop) -> None: ...
    def put(self, workshop: Workshop) -> None: ...
    def get(self, workshop_id: str) -> Workshop: ...
    def page(self, *, after: str | None = None, limit: int = 100) -> list[Workshop]: ...
    def busy(
        self, workshop_id: str, start: int, end: int, now: int
    ) -> list[tuple[str, int, int, str | None]]:
        """(bay, start, when it is free again, touchpoint id of a hold or None) of appointments in BUSY
        states, of what the workshop's own calendars have taken, and of holds running at `now` that
        overlap start … end."""
        ...

    def put_busy(self, workshop_id: str, source: str, times: Sequence[BusyTime]) -> None:
        """What a feed or a system says is taken, in place of all it said before."""
        ...

    def busy_times(self, workshop_id: str, start: int, end: int) -> list[BusyTime]:
        """By start; overlapping start … end."""
        ...

    def hold(self, holds: Sequence[Hold]) -> None:
        """Replaces the holds of the touchpoints named."""
        ...

    def holds(self, workshop_id: str, start: int, end: int, now: int) -> list[Hold]: ...
    def release(self, touchpoint_id: str) -> None: ...
    def book(self, appointment: Appointment) -> None:
        """Raises SlotTakenError when the bay is taken in that time: decided by the database."""
        ...

    def appointment(self, appointment_id: str) -> Appointment: ...
    def save_appointment(self, appointment: Appointment) -> None: ...
    def appointments(
        self,
        *,
        workshop: str | None = None,
        owner: str | None = None,
        touchpoint: str | None = None,
        device: str | None = None,
        start: int | None = None,
        end: int | None = None,
        states: Sequence[AppointmentState] = (),
        after: str | None = None,
        limit: int = 500,
    ) -> list[Appointment]:
        """By start; overlapping start … end."""
        ...

    def due_appointments(self, now: int, limit: int = 100) -> list[Appointment]:
        """Those whose `answer_by` has come while one side waits, and those to be reminded of."""
        ...

    def next_appointment_due(self) -> int | None:
        """When the next of those, or of extra work without an answer, is due."""
        ...

    def cars_given(self, workshop_id: str, start: int, end: int, *, but: str | None = None) -> list[int]:
        """Starts (ms) of the visits in start … end for which a replacement car is given out."""
        ...

    def pending(self, workshop_id: str) -> list[Appointment]:
        """Where one side waits for the other's word, the most urgent first."""
        ...

    def ask_extra(self, extra: ExtraWork) -> None: ...
    def extra(self, extra_id: str) -> ExtraWork:
        """Raises NotFoundError."""
        ...

    def save_extra(self, extra: ExtraWork) -> None: ...
    def extras(self, *, appointment: str | None = None, owner: str | None = None) -> list[ExtraWork]:
        """In the order they were asked: all of an appointment, or an owner's unanswered ones."""
        ...

    def due_extras(self, now: int, limit: int = 100) -> list[ExtraWork]:
        """Unanswered ones whose `answer_by` has come."""
        ...


class Outbox(Protocol):
    """Effects that leave the house, queued with the state they follow from."""

    def add(self, delivery: Delivery) -> bool:
        """Queue once per (channel, target, key); False when it is there already."""
        ...

    def claim(self, now: int, *, lease_ms: int, limit: int, channels: Sequence[str]) -> list[Delivery]:
        """Lease what is due (or whose lease ran out), oldest first."""
        ...

    def finish(self, delivery: Delivery, attempt: Attempt) -> None:
        """Store the delivery's new state with the attempt that led to it."""
        ...

    def get(self, delivery_id: str) -> Delivery: ...
    def attempts(self, delivery_id: str) -> list[Attempt]: ...
    def drop_pending(
        self, touchpoint_id: str, *, channel: str | None = None, about: str | None = None
    ) -> int:
        """Pending rows of a touchpoint that are not needed any more, those being sent included (a late
        failure does not bring them back, a late success still counts as sent); gives how many."""
        ...

    def page(
        self,
        *,
        states: Sequence[DeliveryState] = (),
        touchpoint: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Delivery]: ...
    def retry(self, delivery_id: str, now: int) -> None:
        """A dead letter becomes pending again, its attempts counted on; ConflictError for any other."""
        ...

    def reached(self, delivery_id: str, outcome: Reached, at: int) -> bool:
        """Note how far it has come, once; False when that was known, or there is no such delivery."""
        ...

    def outcomes(self, delivery_ids: Sequence[str]) -> Mapping[str, list[DeliveryOutcome]]:
        """{delivery: what is known of it, oldest first}."""
        ...

    def waiting_for(self, owner: str) -> list[Delivery]:
        """Everything that waits to be sent to an owner or about them, those being sent included."""
        ...

    def drop(self, delivery_ids: Sequence[str]) -> None:
        """These are not needed any more, even if they are being sent, as `drop_pending`."""
        ...

    def drop_target(self, channel: str, target: str) -> int:
        """Pending rows to one target, those being sent included, are not needed any more; gives how many."""
        ...

    def to_target(self, channel: str, target: str, limit: int = 20) -> list[Delivery]:
        """The newest rows to one target."""
        ...

    def ahead_of(self, delivery: Delivery, soon: int = -1) -> Delivery | None:
        """An older row to the same target that was tried and waits for its next try, or that was put back and
        falls due by `soon` (ms)."""
        ...

    def move(self, delivery_id: str, due_at: int) -> None:
        """A pending row falls due at another time; nothing happens to any other."""
        ...

    def put_back(self, delivery_id: str, due_at: int) -> None:
        """A leased row was not tried and is pending again."""
        ...

    def next_due(self, channels: Sequence[str]) -> int | None: ...
    def earliest(self, channels: Sequence[str]) -> Mapping[str, int]:
        """{channel: when its next row falls due, or its next lease ends}, where there is any."""
        ...

    def counts(self, states: Sequence[DeliveryState] = ()) -> Mapping[str, int]:
        """{state: how many}, of these states or of all; see `Touchpoints.counts`."""
        ...


class Webhooks(Protocol):
    """Endpoints of other systems."""

    def put(self, webhook: Webhook) -> None:
        """Insert, or replace the one with the same id."""
        ...

    def get(self, webhook_id: str) -> Webhook:
        """Raises NotFoundError."""
        ...

    def find(self, webhook_id: str) -> Webhook | None: ...
    def remove(self, webhook_id: str) -> None: ...
    def hearing(self, audience: str, event_type: str) -> list[Webhook]:
        """Active ones of the audience that subscribed to the type."""
        ...

    def page(
        self, *, audience: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[Webhook]:
        """Newest first by id."""
        ...


class MailAddresses(Protocol):
    """What is known of e-mail addresses; the spelling's case does not matter."""

    def find(self, address: str) -> MailAddress | None: ...
    def mark(self, entry: MailAddress) -> None: ...
    def undeliverable(self, address: str) -> bool: ...


class Feedbacks(Protocol):
    """The questions afterwards."""

    def ask(self, feedback: Feedback) -> None: ...
    def get(self, feedback_id: str) -> Feedback: ...
    def answer(self, feedback: Feedback) -> None:
        """Its answer, and where it stands."""
        ...

    def ratings(self, question: str, since: int) -> Mapping[str, tuple[int, float]]:
        """{workshop: (finished jobs that were rated, mean score)} of a question put since."""
        ...

    def due(self, now: int, limit: int = 100) -> list[Feedback]:
        """Waiting ones whose time has come, oldest first."""
        ...

    def next_due(self) -> int | None:
        """When the next waiting question or the next NPS question is due."""
        ...

    def claims(self, after: int, limit: int = 1_000) -> list[tuple[int, str, str, int]]:
        """(number, owner, device, since) of ownerships in the order in which they began to be known."""
        ...

    def plan_nps(self, owner: str, device: str, at: int) -> bool:
        """An owner will be asked; False when that is planned already."""
        ...

    def move_nps(self, owner: str, at: int | None) -> None:
        """To another time; None for never again."""
        ...

    def nps(self, owner: str) -> tuple[str, int] | None:
        """(device, ms) of what is planned."""
        ...

    def due_nps(self, now: int, limit: int = 100) -> list[tuple[str, str]]:
        """(owner, device) of those who are to be asked."""
        ...

    def page(
        self,
        *,
        owner: str | None = None,
        touchpoint: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Feedback]: ...


class Results(Protocol):
    """What became of finished jobs."""

    def add(self, result: Result) -> None:
        """Insert once by touchpoint."""
        ...

    def get(self, touchpoint_id: str) -> Result | None: ...
    def save(self, result: Result) -> None: ...
    def of_device(self, device: str, since: int) -> list[Result]:
        """Newest first."""
        ...

    def number(self, owner: str) -> int:
        """How many jobs were finished for an owner."""
        ...

    def due(self, now: int, limit: int = 100) -> list[Result]:
        """Those of which it can be said now whether they helped."""
        ...

    def next_look(self) -> int | None: ...
    def messages(self, touchpoint_id: str) -> int:
        """How many messages about it were sent to its owner, whoever paid for them."""
        ...

    def contacts(self, about: Sequence[str]) -> int:
        """How many contacts about these touchpoints or questions the budget paid."""
        ...

    def promises(self, since: int, until: int) -> Mapping[str, tuple[int, int]]:
        """{"time", "price", "fixed": (kept, known)} of jobs done in since … until."""
        ...

    def promises_by_workshop(
        self, since: int, until: int, limit: int = 500
    ) -> Sequence[tuple[str, int, Mapping[str, tuple[int, int]]]]:
        """(workshop, jobs, the same) of the workshops with jobs done in since … until, most jobs first."""
        ...

    def efforts(self, since: int, until: int) -> tuple[int, int, int]:
        """(matters, messages, contacts) of jobs done in since … until, as far as they are counted."""
        ...


class Analytics(Protocol):
    """What is measured of matters, by the day (since 1970, UTC) on which they were found."""

    def stale(self, due_by: int, limit: int = 10) -> list[tuple[int, int]]:
        """(day, since when due) of days to be measured again, the newest first."""
        ...

    def next_stale(self) -> int | None: ...
    def lease(self, day: int, until: int) -> None:
        """Whoever measures a day now has it until then; if something changes meanwhile, it is due again."""
        ...

    def keep(
        self, day: int, lease: int, groups: Mapping[tuple[str, str], Tally], again_at: int | None
    ) -> None:
        """Replace what was measured of a day: {(by, key): tally}; it is due again at `again_at`."""
        ...

    def day(self, day: int) -> Iterator[Followed]:
        """Every finding of a day, those of rules in shadow apart."""
        ...

    def worse(self, day: int, watched_ms: int) -> list[tuple[str, str, str, int]]:
        """(finding of the day, rule, severity, ms) of what was found later on the same device, and worse."""
        ...

    def measured(
        self, by: str, first: int, last: int, *, timed: bool = True
    ) -> Iterator[tuple[int, str, Mapping[str, int], Mapping[str, Mapping[str, int]]]]:
        """(day, key, counts, times) of the days first … last; without times where they are not asked for."""
        ...

    def cells(self, since: int, middle: int) -> list[Cell]:
        """What was found since then, by rule, kind, model and firmware; rules in shadow and products that
        nobody registered apart. `middle` is when the later half begins."""
        ...

    def cells_by_day(self, since: int) -> list[tuple[tuple[str, str, str, str], int, int]]:
        """((rule, kind, model, firmware), day since 1970 (UTC), products) of the same cells."""
        ...

    def hits(self, cell: tuple[str, str, str, str], since: int, limit: int = 200) -> list[Hit]:
        """The products of one of these cells, the one that was found last first."""
        ...

    def affected(self, by: str, since: int) -> list[tuple[str, int, int]]:
        """(rule, kind, model, firmware, or weeks since the Monday before 1970; products; their owners) on
        which something was found."""
        ...

    def fleet(self) -> Mapping[tuple[str, str, str], int]:
        """{(kind, model, firmware): how many registered products}."""
        ...

    def scores_by(
        self, by: str, since: int, until: int
    ) -> list[tuple[str, str, int | None, str | None, int]]:
        """The same by rule, kind, model, firmware, or weeks since the Monday before 1970; the key first."""
        ...

    def scores(self, since: int, until: int) -> list[tuple[str, int | None, str | None, int]]:
        """(question, score, expected, how many) of questions put in since … until."""
        ...


class Cases(Protocol):
    """What somebody has to look after until the customer has heard what came of it."""

    def add(self, case: Case) -> None: ...
    def get(self, case_id: str) -> Case:
        """Raises NotFoundError."""
        ...

    def save(self, case: Case) -> None:
        """Replace the row; checks CASE_MOVES against the stored state, ConflictError otherwise."""
        ...

    def page(
        self,
        *,
        owner: str | None = None,
        workshop: str | None = None,
        device: str | None = None,
        touchpoint: str | None = None,
        kind: CaseKind | None = None,
        states: Sequence[CaseState] = (),
        after: str | None = None,
        limit: int = 100,
    ) -> list[Case]:
        """Newest first by id; `after` is the last id of the page before."""
        ...

    def pending(
        self, limit: int = 100, *, workshop: str | None = None, kind: CaseKind | None = None
    ) -> list[Case]:
        """Those that somebody still has to do something for: whose customer waits first, then those whose
        customer has heard; the earliest deadline first, so overdue ones lead."""
        ...

    def counts(self, now: int) -> Mapping[str, tuple[int, int]]:
        """{kind: (pending, overdue)}."""
        ...


class Quarantine(Protocol):
    """Messages that could not be decoded; unique by journal position, written by assess alone."""

    def add(self, rows: Sequence[QuarantineRow]) -> None:
        """Insert once by position."""
        ...

    def get(self, position: int) -> QuarantineRow: ...
    def page(
        self, *, after: int | None = None, limit: int = 100, reason: str | None = None
    ) -> list[QuarantineRow]:
        """Newest first; `after` is the last position of the page before."""
        ...

    def replayed(self, positions: Sequence[int], at: int) -> None: ...
    def counts(self) -> Mapping[str, int]:
        """{reason: how many not yet replayed}."""
        ...


class Tokens(Protocol):
    """Bearer tokens and remembered POSTs."""

    def add(self, token: Token) -> None: ...
    def by_hash(self, token_hash: str) -> Token | None: ...
    def page(self) -> list[Token]: ...
    def sessions(self, role: Role, *, account: str | None = None, subject: str | None = None) -> list[Token]:
        """Sessions that were not revoked, newest first: an account's, or all of a subject."""
        ...

    def signed_in(self, since: int, until: int, *, limit: int = 100) -> list[Token]:
        """Sessions that people at work have opened from `since` until before `until` (ms), also those that
        have ended, newest first."""
        ...

    def revoke(self, token_id: str, at: int) -> bool: ...
    def remembered(self, key: str) -> tuple[str, int, str] | None:
        """(fingerprint of the request, status, body) kept under an Idempotency-Key."""
        ...

    def remember(self, key: str, fingerprint: str, status: int, body: str, at: int) -> None: ...


class Accounts(Protocol):
    """Who signs in: accounts, passkeys, what was handed out and has to come back, and tries."""

    def add(self, account: Account) -> None:
        """Raises ConflictError when the name is taken."""
        ...

    def get(self, account_id: str) -> Account:
        """Raises NotFoundError."""
        ...

    def find(self, account_id: str) -> Account | None: ...
    def by_name(self, name: str) -> Account | None: ...
    def page(self, role: Role | None = None, subject: str | None = None) -> list[Account]:
        """By name; owners' accounts only when `role` says so."""
        ...

    def save(self, account: Account) -> None:
        """All its fields but id, role, created."""
        ...

    def count_step(self, account_id: str, step: int) -> bool:
        """Note the step of a one-time code; False when this one or a later one was used before."""
        ...

    def spend_recovery(self, account_id: str, code_hash: str) -> bool:
        """Use up a recovery code; False when it is none of those that are left."""
        ...

    def add_passkey(self, passkey: Passkey) -> None:
        """Raises ConflictError for one that is known."""
        ...

    def passkey(self, passkey_id: str) -> Passkey | None: ...
    def passkeys(self, account_id: str) -> list[Passkey]: ...
    def used_passkey(self, passkey_id: str, sign_count: int, at: int) -> None: ...
    def drop_passkey(self, account_id: str, passkey_id: str) -> bool: ...
    def add_proof(self, proof: Proof) -> None:
        """Stored, and what ended long ago is forgotten. One of the same hash is replaced."""
        ...

    def proof(self, proof_hash: str) -> Proof | None: ...
    def use_proof(self, proof_id: str, at: int) -> bool:
        """Used up: of two at the same instant one gets it."""
        ...

    def standing(self, kind: ProofKind, about: str) -> Proof | None:
        """The newest that was not used, expired or not."""
        ...

    def drop_proofs(self, kind: ProofKind, about: str) -> None: ...
    def count_try(self, key: str, window_ms: int, at: int) -> int:
        """Count one more try under `key`, in a window that begins with the first; gives how many it has."""
        ...

    def tries(self, key: str, window_ms: int, at: int) -> int:
        """How many were counted in the running window."""
        ...

    def forgive_try(self, key: str, *, every: bool = False) -> None:
        """Take one try back, or every one."""
        ...


class RuleSets(Protocol):
    """The texts of rule sets by their hash, from when on each holds, and how often rules broke."""

    def keep(self, sources: Sources) -> None:
        """Store once by id."""
        ...

    def sources(self, rule_set: str) -> Sources | None: ...
    def ask(self, activation: Activation) -> None:
        """Note that a set is to hold, or that it was refused."""
        ...

    def holds(self, activation: str, position: int) -> None:
        """It holds from this journal position on. Said again after a crash, it changes nothing."""
        ...

    def refuse(self, activation: str, faults: tuple[str, ...]) -> None:
        """It cannot be used; what held before holds on."""
        ...

    def asked(self) -> Activation | None:
        """The one that was asked for last and was not refused."""
        ...

    def at(self, position: int | None = None) -> Activation | None:
        """The one that holds at a journal position, or now; None while none ever did."""
        ...

    def history(self, limit: int = 20) -> list[Activation]:
        """Newest first, refused ones included."""
        ...

    def broke(self, errors: Mapping[str, int], at: int) -> None:
        """Rules broke at run time so many times more."""
        ...

    def errors(self) -> Mapping[str, tuple[int, int]]:
        """{rule: (how often it broke, when last, ms)}."""
        ...


class Personal(Protocol):
    """Everything that is held on an owner, as it lies in the store."""

    def tables(self) -> tuple[str, ...]:
        """The names of all that holds something personal."""
        ...

    def rows(self, table: str, owner_id: str) -> Iterator[Mapping[str, Any]]:
        """An owner's rows of a table, without secrets: values as JSON has them, times in RFC 3339, bytes as
        they are. KeyError for a table that is none of `tables`."""
        ...

    def erase(self, owner_id: str, names: Collection[str], others: Collection[str]) -> Mapping[str, int]:
        """Delete an owner's rows of every table; what has to stay, stays without its person. Where the
        ledgers of `others` have one of `names` (of the owner's), it is taken out.

        Gives {table: rows deleted}. The owner may have no device any more."""
        ...

    def erase_undecoded(self, device: str, start: int, end: int) -> int:
        """Delete what a device sent that could not be decoded, received in start <= ms < end."""
        ...


class HeardEvents(Protocol):
    """What other systems told."""

    def add(self, heard: Heard) -> bool:
        """False when this event of this source is there already."""
        ...

    def of(self, source: str, event: str) -> Heard | None: ...
    def page(
        self,
        *,
        owner: str | None = None,
        device: str | None = None,
        type: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Heard]:
        """Newest first."""
        ...

    def voices(self, since: int, limit: int) -> list[Voice]:
        """Everything that customers said since then, wherever, newest first."""
        ...

    def products(self, since: int, until: int, limit: int, owner: str | None = None) -> list[Product]:
        """Products that came to an owner in that time, newest first."""
        ...


class Conversations(Protocol):
    """One conversation a touchpoint, and who of after-sales is there."""

    def find(self, touchpoint: str) -> Conversation | None: ...
    def get(self, touchpoint: str) -> Conversation:
        """Raises NotFoundError where nothing was said."""
        ...

    def put(self, conversation: Conversation) -> None: ...
    def say(self, said: Said) -> None: ...
    def line(self, line_id: str) -> Said | None: ...
    def newest(self, touchpoint: str) -> Said | None: ...
    def lines(self, touchpoint: str, *, after: str | None = None, limit: int = 100) -> list[Said]:
        """Oldest first."""
        ...

    def waiting(self, limit: int = 100) -> list[Conversation]:
        """Whose owner said something that nobody has answered, the longest wait first."""
        ...

    def here(self, present: Present) -> None: ...
    def leave(self, name: str) -> None: ...
    def present(self, now: int) -> Sequence[Present]:
        """Who is there, the longest first."""
        ...


class People(Protocol):
    """Who shares a device with its owner, who was invited to, and who looked at an owner's data."""

    def of(self, device: str) -> list[Person]:
        """Who shares it now, in the order they came; its owner is none of them (see `Devices.people`)."""
        ...

    def history(self, device: str) -> list[Person]:
        """Everybody who ever shared it."""
        ...

    def parts(self, owner: str) -> list[Person]:
        """Everything somebody shares or ever shared."""
        ...

    def spans(self, owner: str) -> list[tuple[str, int, int | None]]:
        """(device, since, until) of what somebody sees together with others: what they share now, and what
        they own or owned and shared with somebody."""
        ...

    def join(self, person: Person) -> None:
        """ConflictError for somebody who belongs to it already."""
        ...

    def change(self, person: Person) -> None:
        """Role and rights of somebody who belongs to it now. Raises NotFoundError."""
        ...

    def leave(self, device: str, owner: str | None, at: int) -> int:
        """Ends one person's part, or everybody's and all invitations; gives how many parts."""
        ...

    def invite(self, invitation: Invitation) -> None: ...
    def invitation(self, invitation_id: str) -> Invitation:
        """Raises NotFoundError."""
        ...

    def invitations(self, device: str) -> list[Invitation]:
        """Those that were neither taken up nor called back."""
        ...

    def end_invitation(self, invitation_id: str, at: int, taken_by: str | None = None) -> bool:
        """Taken up or called back; False when it had ended."""
        ...

    def looked(self, look: Look) -> bool:
        """Note once per owner, who, what and day; whether it is new."""
        ...

    def known(self, looks: list[Look]) -> list[Look]:
        """What is noted under the same owner, who, what and day."""
        ...

    def looks(self, owner: str, *, limit: int = 100) -> list[Look]:
        """Newest first."""
        ...

    def looks_of_day(self, day: int, *, limit: int = 100) -> list[Look]:
        """Of a day (since 1970, UTC), at anybody's data, newest first."""
        ...


class Links(Protocol):
    """One-time links, by the hash of their secret."""

    def add(self, link: Link) -> None: ...
    def find(self, secret_hash: str) -> Link | None: ...
    def use(self, link_id: str, at: int) -> bool:
        """Used up now; False when it was already."""
        ...

    def forget(self, before: int) -> int:
        """Delete those that expired before; gives how many."""
        ...


class Attachments(Protocol):
    """Pictures that belong to matters."""

    def add(self, attachment: Attachment) -> None: ...
    def get(self, attachment_id: str) -> Attachment:
        """Raises NotFoundError."""
        ...


class Reports(Protocol):
    """What owners reported themselves."""

    def add(self, report: Report) -> None: ...
    def of_touchpoint(self, touchpoint_id: str) -> Report | None: ...
    def with_photo(self, attachment_id: str) -> Report | None: ...
    def page(
        self,
        *,
        owner: str | None = None,
        device: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Report]:
        """Newest first by id."""
        ...


class Calendars(Protocol):
    """How workshops are reached, what stands in others' calendars, feeds, and mail that came in."""

    def settings(self, workshop: str) -> CalendarSettings:
        """The defaults for a workshop that chose nothing."""
        ...

    def put_settings(self, settings: CalendarSettings) -> None: ...
    def due_feeds(self, now: int, limit: int = 10) -> list[CalendarSettings]:
        """Workshops whose own calendar is to be read now, longest due first."""
        ...

    def next_feed(self) -> int | None:
        """When the next one is due."""
        ...

    def broken_feeds(self, limit: int = 100) -> list[CalendarSettings]:
        """Workshops whose own calendar cannot be read."""
        ...

    def unreached(self, limit: int = 100) -> list[tuple[CalendarSettings, str]]:
        """Workshops that chose mail and whose mail comes back, with what the mail server said."""
        ...

    def event(self, appointment: str) -> CalendarEvent | None: ...
    def events(self, appointments: Sequence[str]) -> Mapping[str, CalendarEvent]:
        """{appointment: its event}, of those that have one."""
        ...

    def put_event(self, event: CalendarEvent) -> None: ...
    def invitation(self, appointment: str, party: Party) -> CalendarInvitation | None:
        """The newest one of that party."""
        ...

    def invitation_by_token(self, token_hash: str) -> CalendarInvitation | None: ...
    def put_invitation(self, invitation: CalendarInvitation) -> None: ...
    def feed(self, party: Party, subject: str) -> Feed | None: ...
    def feed_by_token(self, token_hash: str) -> Feed | None: ...
    def put_feed(self, feed: Feed) -> None: ...
    def add_mail(self, mail: InboundMail) -> bool:
        """Insert once by Message-ID and recipient; False for a duplicate."""
        ...

    def has_mail(self, message_id: str, recipient: str) -> bool: ...
    def mail(self, mail_id: str) -> InboundMail:
        """Raises NotFoundError."""
        ...

    def mails(
        self, *, waiting: bool = False, after: str | None = None, limit: int = 100
    ) -> list[InboundMail]:
        """Newest first; `waiting`: only those that somebody has to look at."""
        ...

    def waiting_mails(self, most: int) -> tuple[int, int]:
        """(how many wait for somebody to look at them, their bytes), counted up to `most`."""
        ...

    def see_mail(self, mail_id: str, at: int) -> None:
        """It was dealt with; the message itself is kept no longer. Raises NotFoundError."""
        ...


class Contacts(Protocol):
    """What owners were contacted for, by purse."""

    def add(self, owner: str, purse: str, at: int, about: str) -> None:
        """One contact was made; `about` is the touchpoint or question it was about."""
        ...

    def times(self, owner: str, purses: Sequence[str], since: int) -> list[int]:
        """When contacts of these purses were made after `since`, ms, oldest first."""
        ...

    def reached(self, about: str, decided: int, at: int) -> None:
        """What was decided at `decided` or since has reached its owner now: the week counts from here."""
        ...


class Paces(Protocol):
    """Rules that have slowed themselves down, and the days on which their touchpoints go."""

    def get(self, rule: str) -> Pace | None: ...
    def all(self) -> list[Pace]: ...
    def put(self, pace: Pace) -> None: ...
    def remove(self, rule: str, now: int) -> None:
        """Full pace again: what waited for a place wakes at `now`."""
        ...

    def place_of(self, touchpoint_id: str) -> int | None:
        """The day (its first instant, UTC) on which the touchpoint goes, None while it has none."""
        ...

    def last_place(self, rule: str) -> tuple[int, int] | None:
        """(the last day on which anything of the rule goes, how much)."""
        ...

    def take_place(self, touchpoint_id: str, rule: str, at: int) -> None: ...
    def answers(self, rule: str, since: int, limit: int) -> list[str]:
        """The actions of the rule's newest answers after `since`, newest first."""
        ...

    def sent(self, rule: str, since: int) -> int:
        """How many of the rule's touchpoints were sent since."""
        ...


class Recalls(Protocol):
    """Recall campaigns, the products that they concern, and how far they have come."""

    def add(self, recall: Recall, affected: Affected) -> int:
        """Gives how many products it concerns. Raises ConflictError when the id exists."""
        ...

    def get(self, recall_id: str) -> Recall:
        """Raises NotFoundError."""
        ...

    def page(self, *, after: str | None = None, limit: int = 100) -> list[Recall]:
        """Newest first."""
        ...

    def waiting(self, limit: int) -> list[tuple[str, str]]:
        """(recall, device) that were not raised yet, oldest first."""
        ...

    def raised(self, recall_id: str, device: str, finding: str) -> None:
        """There is a finding for the product now."""
        ...

    def of_device(self, device: str) -> list[str]:
        """Findings of recalls that still hold for a product."""
        ...

    def devices(self, recall_id: str, *, after: str | None = None, limit: int = 100) -> list[str]:
        """Ids of the products that it concerns."""
        ...

    def progress(self, recall_id: str) -> Progress: ...


class Records(Protocol):
    """All records, inside one transaction."""

    owners: Owners
    devices: Devices
    touchpoints: Touchpoints
    workshops: Workshops
    outbox: Outbox
    feedback: Feedbacks
    cases: Cases
    results: Results
    analytics: Analytics
    quarantine: Quarantine
    tokens: Tokens
    accounts: Accounts
    rule_sets: RuleSets
    webhooks: Webhooks
    mail_addresses: MailAddresses
    contacts: Contacts
    paces: Paces
    recalls: Recalls
    calendars: Calendars
    links: Links
    attachments: Attachments
    reports: Reports
    people: People
    heard: HeardEvents
    conversations: Conversations
    personal: Personal

    def position(self, reader: str) -> int:
        """A reader's committed position, 0 when it never committed."""
        ...

    def set_position(self, reader: str, position: int) -> None: ...
    def savepoint(self) -> AbstractContextManager[None]:
        """What is done inside is taken back when it raises, and only that; the error goes on."""
        ...

    def changed(self, subject: str, key: str) -> None:
        """Note a change for everybody who watches: subject "touchpoint", "appointment", "outbox",
        "device", "facts", "ledger", "feedback", "case", "quarantine", "rules"; key: the id (of a ledger line
        its owner's), "" for several facts or messages at once. The repositories note their own. Visible when
        committed."""
        ...


class Database(Protocol):
    """The domain's store."""

    async def write(self, work: Callable[[Records], T]) -> T:
        """Run `work` in a thread inside one BEGIN IMMEDIATE transaction; commit, or roll back when it raises.

        Feeds of this process have been told by the time it returns. Raises DatabaseUnavailableError."""
        ...

    async def read(self, work: Callable[[Records], T]) -> T:
        """Run `work` in a thread on a consistent snapshot. Raises DatabaseUnavailableError."""
        ...

    def watch(self, *subjects: str) -> ChangeFeed:
        """A new subscription to the changes that are committed from now on, by any process: those of
        `subjects`, or all when none is named."""
        ...

    async def close(self) -> None: ...


class ChangeFeed(Protocol):
    """Changes in commit order; a slow reader gets them late, never twice."""

    def event(self) -> asyncio.Event:
        """Set while something waits to be taken."""
        ...

    def take(self) -> list[tuple[str, str]]:
        """(subject, key) of what was committed since the last call, each once; clears the event.

        ("*", "") says that more was missed than is kept: anything may have changed."""
        ...

    def close(self) -> None: ...


class RuleState(Protocol):
    """What the rules remember, per device, with the journal position it stands for."""

    async def load(self) -> tuple[int, list[tuple[str, bytes]]]:
        """(position, [(device, state)])."""
        ...

    async def position(self) -> int:
        """The position that was saved last, 0 when nothing ever was."""
        ...

    async def load_one(self, device: str) -> tuple[int, list[tuple[str, bytes]]]:
        """As `load`, of one device and of what belongs to no device, whose names begin with a slash; also
        while another process saves."""
        ...

    async def save(self, position: int, states: Sequence[tuple[str, bytes]]) -> None:
        """Store these devices' states and the position, in one transaction."""
        ...

    async def close(self) -> None: ...


# --- channels ---------------------------------------------------------------------------------


class Channel(Protocol):
    """A way to reach somebody."""

    name: str

    async def send(self, delivery: Delivery) -> Outcome:
        """Send once. Returns what became of it; never raises for what the network does."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Hosted(Protocol):
    """A channel whose receivers share hosts: a host that hangs is given so many deliveries and no more."""

    def host(self, delivery: Delivery) -> str:
        """Which one a rendered delivery goes to."""
        ...
