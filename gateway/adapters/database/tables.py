"""The tables of the domain's store, in the portable words of SQLAlchemy Core.

Columns are named as the fields of the domain's values, so that a row is a value's keyword arguments.
Times are UTC milliseconds. What changes here needs a migration in `migrations/versions`; a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from gateway.domain.access import Role
from gateway.domain.accounts import ProofKind, Rank
from gateway.domain.appointment import (
    AppointmentState,
    ExtraState,
    HomeVisits,
    OpeningException,
    Service,
)
from gateway.domain.calendars import Party, Reach
from gateway.domain.case import CaseKind, CaseState, Note
from gateway.domain.conversation import Part as ConversationPart
from gateway.domain.delivery import DeliveryState, Reached
from gateway.domain.feedback import AskState
from gateway.domain.heard import Outcome
from gateway.domain.household import Part
from gateway.domain.touchpoint import Answer, Slot, State
from gateway.domain.webhooks import EndpointState, SigningSecret
from rules.readings import Known

TIME = "time"
"""Under which a column knows whether it holds a time, and no span."""
FACTS_FORMAT = 1
"""Version of the form in which facts are kept; another one is refused."""

Latest = dict[str, tuple[int, Known | None]]


class Coded(TypeDecorator[StrEnum]):
    """A member of an enum, stored as its text."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, members: type[StrEnum]) -> None:
        super().__init__()
        self.members = members

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.members(value)


class Json(TypeDecorator[Any]):
    """A value of type `shape`, stored as JSON; None is SQL's NULL."""

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.shape = shape

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else msgspec.convert(value, self.shape)


def _id(*constraints: Any, key: bool = True) -> sa.Column[str]:
    return sa.Column("id", sa.Text, *constraints, primary_key=key, nullable=False)


def _sequence(name: str = "seq") -> sa.Column[int]:
    """Counts rows in the order they were committed."""
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _text(name: str, *constraints: Any, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, *constraints, nullable=null)


def _whole(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=null)


def _ms(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null, info={TIME: not name.endswith("_ms")})


def _flag(name: str, *, null: bool = False) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=null)


def _json(name: str, shape: Any, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, Json(shape), nullable=null)


metadata = sa.MetaData()

owners = sa.Table(
    "owners",
    metadata,
    _id(),
    _text("name"),
    _text("email", null=True),
    _text("phone", null=True),
    _text("address", null=True),
    _text("language"),
    _text("time_zone"),
    _json("wishes", Mapping[str, Any]),
    _ms("created"),
    _text("search"),  # name and id, case folded
    _text("email_key", null=True),  # the address, case folded
    sa.Index("owners_email", "email_key"),
)

consents = sa.Table(
    "consents",
    metadata,
    _sequence(),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("purpose"),
    _flag("granted"),
    _ms("at"),
    _text("source"),
    _text("text", null=True),
    _text("by", null=True),
    sa.Index("consents_owner", "owner", "purpose", "at"),
    sqlite_autoincrement=True,
)

preferences = sa.Table(
    "preferences",
    metadata,
    _text("owner", sa.ForeignKey("owners.id")),
    _text("quiet_from"),
    _text("quiet_to"),
    _json("channels", tuple[str, ...]),
    _json("muted", tuple[str, ...]),
    _json("muted_at", Mapping[str, str]),
    _whole("weekly_budget"),
    _whole("marketing_budget", null=True),
    sa.PrimaryKeyConstraint("owner"),
)

subscriptions = sa.Table(
    "push_subscriptions",
    metadata,
    _id(),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("endpoint"),
    _text("p256dh"),
    _text("auth"),
    _text("label"),
    _ms("created"),
    _ms("dropped", null=True),
    sa.Index("push_subscriptions_endpoint", "endpoint", unique=True),
    sa.Index("push_subscriptions_owner", "owner"),
)

devices = sa.Table(
    "devices",
    metadata,
    _id(),
    _text("kind"),
    _text("model", null=True),
    _text("owner", sa.ForeignKey("owners.id"), null=True),
    _text("name", null=True),
    _text("plate", null=True),
    _text("serial", null=True),
    _text("purchased", null=True),
    _text("warranty_until", null=True),
    _text("workshop", null=True),
    _text("firmware", null=True),
    _json("plan", Mapping[str, Any], null=True),
    _ms("created"),
    _text("search"),  # id, name, model, plate and serial, case folded
    sa.Index("devices_owner", "owner", "id"),
)

ownerships = sa.Table(
    "ownerships",
    metadata,
    _sequence(),
    _text("device", sa.ForeignKey("devices.id")),
    _text("owner", sa.ForeignKey("owners.id")),
    _ms("since"),
    _ms("until", null=True),
    sa.Index("ownerships_device", "device", "since"),
    sa.Index("ownerships_owner", "owner"),
    sqlite_autoincrement=True,
)

_NOW = sa.text("until IS NULL")
_ASKED = sa.text("until IS NULL AND asked")

device_people = sa.Table(
    "device_people",
    metadata,
    _sequence(),
    _text("device", sa.ForeignKey("devices.id")),
    _text("owner", sa.ForeignKey("owners.id")),
    sa.Column("role", Coded(Part), nullable=False),
    _flag("asked"),
    _flag("may_answer"),
    _flag("sees"),
    _ms("since"),
    _ms("until", null=True),
    _text("by"),
    sa.Index("device_people_device", "device", "until"),
    sa.Index("device_people_owner", "owner", "since"),
    sa.Index("device_people_once", "device", "owner", unique=True, sqlite_where=_NOW, postgresql_where=_NOW),
    sa.Index("device_people_asked", "device", unique=True, sqlite_where=_ASKED, postgresql_where=_ASKED),
    sqlite_autoincrement=True,
)

invitations = sa.Table(
    "invitations",
    metadata,
    _id(),
    _text("device", sa.ForeignKey("devices.id")),
    _text("by"),
    sa.Column("role", Coded(Part), nullable=False),
    _flag("asked"),
    _flag("may_answer"),
    _flag("sees"),
    _ms("created"),
    _ms("expires"),
    _text("name"),
    _text("taken_by", sa.ForeignKey("owners.id"), null=True),
    _ms("ended", null=True),
    sa.Index("invitations_device", "device", "ended"),
)

access_log = sa.Table(
    "access_log",
    metadata,
    _text("owner", sa.ForeignKey("owners.id")),
    _text("by"),
    _text("what"),
    _whole("day"),
    _text("role"),
    _text("why"),
    _ms("at"),
    sa.PrimaryKeyConstraint("owner", "by", "what", "day"),
    sa.Index("access_log_owner", "owner", "day", "at"),
    sa.Index("access_log_day", "day", "at"),
)

facts = sa.Table(
    "facts",
    metadata,
    _text("device"),  # no foreign key: it reports before anybody registers it
    _whole("format"),
    _ms("last_seen"),
    _flag("moving"),
    _ms("moving_since", null=True),
    _flag("online", null=True),
    _text("kind", null=True),
    _json("open", tuple[str, ...]),
    _json("latest", Latest),
    sa.PrimaryKeyConstraint("device"),
)

findings = sa.Table(
    "findings",
    metadata,
    _id(),
    _text("device"),
    _text("rule"),
    _whole("version"),
    _text("severity"),
    sa.Column("position", sa.BigInteger, nullable=False),
    _ms("began_ts"),
    _ms("found_at"),
    _flag("shadow"),
    _json("evidence", Mapping[str, Any]),
    _ms("cleared_at", null=True),
    sa.Index("findings_device", "device", "found_at", "id"),
    sa.Index("findings_found", "found_at", "id"),
    sa.Index("findings_rule", "rule", "found_at"),
)

touchpoints = sa.Table(
    "touchpoints",
    metadata,
    _id(),
    _text("finding", sa.ForeignKey("findings.id")),
    _text("device"),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("rule"),
    _whole("rule_version"),
    _text("kind"),
    _text("service", null=True),
    _text("severity"),
    _text("purpose"),
    sa.Column("state", Coded(State), nullable=False),
    _ms("created"),
    _ms("wake_at", null=True),
    _ms("sent_at", null=True),
    _ms("expires_at", null=True),
    _json("answer", Answer, null=True),
    _text("action", null=True),  # the answer's, to be counted
    _ms("closed_at", null=True),
    _json("slots", tuple[Slot, ...]),
    _json("evidence", Mapping[str, Any]),
    _text("workshop", null=True),
    sa.Index("touchpoints_owner", "owner", "id"),
    sa.Index("touchpoints_device", "device", "rule", "state"),
    sa.Index("touchpoints_rule", "rule", "id"),
    sa.Index("touchpoints_finding", "finding"),
    sa.Index("touchpoints_state", "state", "id"),
    sa.Index("touchpoints_wake", "state", "wake_at"),
    sa.Index("touchpoints_expires", "state", "expires_at"),
    sa.Index("touchpoints_created", "created"),
    _text("waits_for", null=True),
    _ms("answered_at", null=True),  # the answer's, to be looked up
    sa.Index("touchpoints_owner_state", "owner", "state", "wake_at"),
    sa.Index("touchpoints_answered", "rule", "answered_at"),
    sa.Index("touchpoints_rule_sent", "rule", "sent_at"),
)

touchpoint_findings = sa.Table(
    "touchpoint_findings",
    metadata,
    _text("touchpoint", sa.ForeignKey("touchpoints.id")),
    _text("finding", sa.ForeignKey("findings.id")),
    _text("service", null=True),
    _text("purpose"),
    _ms("added_at"),
    sa.PrimaryKeyConstraint("touchpoint", "finding"),
    sa.Index("touchpoint_findings_finding", "finding"),
)

contacts = sa.Table(
    "contacts",
    metadata,
    _sequence(),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("purse"),
    _ms("at"),
    _text("about"),
    sa.Index("contacts_owner", "owner", "at"),
    sa.Index("contacts_about", "about"),
    sqlite_autoincrement=True,
)

rule_paces = sa.Table(
    "rule_paces",
    metadata,
    _text("rule"),
    _whole("per_day"),
    _ms("since"),
    _whole("declined"),
    _whole("answered"),
    sa.PrimaryKeyConstraint("rule"),
)

pace_places = sa.Table(
    "pace_places",
    metadata,
    _text("touchpoint", sa.ForeignKey("touchpoints.id")),
    _text("rule"),
    _ms("at"),
    sa.PrimaryKeyConstraint("touchpoint"),
    sa.Index("pace_places_rule", "rule", "at"),
)

recalls = sa.Table(
    "recalls",
    metadata,
    _id(),
    _text("kind"),
    _text("reference", null=True),
    _json("title", Mapping[str, str]),
    _json("body", Mapping[str, str]),
    _text("service", null=True),
    _text("severity"),
    _ms("created"),
    _text("by"),
    sa.Index("recalls_created", "created", "id"),
)

recall_devices = sa.Table(
    "recall_devices",
    metadata,
    _sequence(),
    _text("recall", sa.ForeignKey("recalls.id")),
    _text("device"),
    _text("finding", null=True),  # None until it was raised
    sa.Index("recall_devices_once", "recall", "device", unique=True),
    sa.Index("recall_devices_device", "device"),
    sa.Index("recall_devices_finding", "finding", "seq"),
    sqlite_autoincrement=True,
)

ledger = sa.Table(
    "ledger",
    metadata,
    _sequence(),
    _id(key=False),
    _ms("at"),
    _text("code"),
    _json("params", Mapping[str, Any]),
    _text("owner", sa.ForeignKey("owners.id"), null=True),
    _text("device", null=True),
    _text("finding", null=True),
    _text("touchpoint", null=True),
    sa.Index("ledger_id", "id", unique=True),
    sa.Index("ledger_owner", "owner", "seq"),
    sa.Index("ledger_device", "device", "seq"),
    sa.Index("ledger_touchpoint", "touchpoint", "seq"),
    sa.Index("ledger_finding", "finding", "seq"),
    sqlite_autoincrement=True,
)

workshops = sa.Table(
    "workshops",
    metadata,
    _id(),
    _text("name"),
    _text("address", null=True),
    _text("phone", null=True),
    _text("time_zone"),
    _json("bays", tuple[str, ...]),
    _json("hours", Mapping[str, tuple[tuple[str, str], ...]]),
    _json("holidays", tuple[str, ...]),
    _json("services", tuple[Service, ...]),
    _text("books"),
    _ms("created"),
    _json("exceptions", tuple[OpeningException, ...]),
    _text("country", null=True),
    _text("region", null=True),
    _json("skills", Mapping[str, tuple[str, ...]]),
    _whole("answer_hours"),
    _whole("replacement_cars", null=True),
    _json("home", HomeVisits, null=True),
    _text("email", null=True),
)

_BUSY = sa.text("state IN ('requested', 'confirmed', 'checked_in', 'in_work', 'ready', 'done')")

appointments = sa.Table(
    "appointments",
    metadata,
    _id(),
    _text("workshop", sa.ForeignKey("workshops.id")),
    _text("service"),
    _text("bay"),
    _ms("start"),
    _ms("end"),
    sa.Column("state", Coded(AppointmentState), nullable=False),
    _ms("created"),
    _text("owner", sa.ForeignKey("owners.id"), null=True),
    _text("device", null=True),
    _text("touchpoint", sa.ForeignKey("touchpoints.id"), null=True),
    _text("label", null=True),
    _json("diagnosis", Mapping[str, Any]),
    _ms("done_at", null=True),
    _json("work", Mapping[str, Any]),
    _json("services", tuple[str, ...]),
    _ms("buffer_ms"),
    _ms("arrive_until", null=True),
    _text("address", null=True),
    _text("stay", null=True),
    _json("terms", Mapping[str, Any]),
    _ms("answer_by", null=True),
    _ms("remind_at", null=True),
    _json("wished", tuple[int, ...]),
    _json("offered", tuple[int, ...]),
    _text("reason", null=True),
    _json("progress", Mapping[str, int]),
    _whole("sequence"),
    sa.Index("appointments_end", "workshop", "end", "start"),  # what is still to come, or lies in a day
    sa.Index("appointments_owner", "owner", "start", "id"),
    sa.Index("appointments_device", "device", "start", "id"),
    sa.Index("appointments_touchpoint", "touchpoint"),
    sa.Index("appointments_answer", "state", "answer_by"),
    sa.Index("appointments_remind", "remind_at"),
    sa.Index("appointments_pending", "workshop", "state", "answer_by"),
    # The second line behind `Workshops.book`; on SQLite triggers guard whole overlaps as well.
    sa.Index(
        "appointments_slot",
        "workshop",
        "bay",
        "start",
        unique=True,
        sqlite_where=_BUSY,
        postgresql_where=_BUSY,
    ),
)

holds = sa.Table(
    "holds",
    metadata,
    _text("touchpoint", sa.ForeignKey("touchpoints.id")),
    _text("workshop", sa.ForeignKey("workshops.id")),
    _text("bay"),
    _ms("start"),
    _ms("end"),
    _ms("until"),
    _ms("buffer_ms"),
    sa.PrimaryKeyConstraint("touchpoint", "workshop", "bay", "start"),
    sa.Index("holds_workshop", "workshop", "end", "start"),
    sa.Index("holds_until", "until"),
)

busy_times = sa.Table(
    "busy_times",
    metadata,
    _sequence(),
    _text("workshop", sa.ForeignKey("workshops.id")),
    _text("bay", null=True),
    _ms("start"),
    _ms("end"),
    _text("source"),
    _text("uid", null=True),
    sa.Index("busy_times_end", "workshop", "end", "start"),
    sa.Index("busy_times_source", "workshop", "source"),
    sqlite_autoincrement=True,
)

extra_work = sa.Table(
    "extra_work",
    metadata,
    _id(),
    _text("appointment", sa.ForeignKey("appointments.id")),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("reason"),
    _whole("price"),
    _text("currency"),
    _text("photo", null=True),  # an attachment's id
    _whole("minutes"),
    sa.Column("state", Coded(ExtraState), nullable=False),
    _ms("asked_at"),
    _ms("answer_by"),
    _ms("answered_at", null=True),
    _text("by", null=True),
    _text("channel", null=True),
    sa.Index("extra_work_appointment", "appointment", "asked_at"),
    sa.Index("extra_work_owner", "owner", "state"),
    sa.Index("extra_work_answer", "state", "answer_by"),
)

outbox = sa.Table(
    "outbox",
    metadata,
    _sequence(),
    _id(key=False),
    _text("channel"),
    _text("target"),
    _text("key"),
    _json("payload", Mapping[str, Any]),
    _text("touchpoint", null=True),
    _text("owner", null=True),
    sa.Column("state", Coded(DeliveryState), nullable=False),
    _ms("due_at"),
    _whole("attempts"),
    _ms("lease_until", null=True),
    _ms("created"),
    _ms("expires_at", null=True),
    sa.Index("outbox_id", "id", unique=True),
    sa.Index("outbox_once", "channel", "target", "key", unique=True),
    sa.Index("outbox_due", "channel", "state", "due_at", "seq"),
    sa.Index("outbox_state", "state", "seq"),
    sa.Index("outbox_touchpoint", "touchpoint"),
    sa.Index("outbox_owner", "owner", "state"),
    sa.Index("outbox_target", "channel", "target", "seq"),
    sqlite_autoincrement=True,
)

attempts = sa.Table(
    "attempts",
    metadata,
    _sequence(),
    _text("delivery", sa.ForeignKey("outbox.id")),
    _whole("number"),
    _ms("at"),
    _text("result"),
    _text("detail"),
    sa.Index("attempts_delivery", "delivery", "seq"),
    sqlite_autoincrement=True,
)

delivery_outcomes = sa.Table(
    "delivery_outcomes",
    metadata,
    _text("delivery", sa.ForeignKey("outbox.id")),
    sa.Column("outcome", Coded(Reached), nullable=False),
    _ms("at"),
    sa.PrimaryKeyConstraint("delivery", "outcome"),
)

mail_addresses = sa.Table(
    "mail_addresses",
    metadata,
    _text("address"),  # lower case
    _text("state"),
    _text("reason"),
    _ms("at"),
    sa.PrimaryKeyConstraint("address"),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    _id(),
    _text("audience"),
    _text("url"),
    _json("types", tuple[str, ...]),
    _text("format"),
    _json("secrets", tuple[SigningSecret, ...]),  # in the clear: signing needs them
    sa.Column("state", Coded(EndpointState), nullable=False),
    _ms("created"),
    _ms("disabled_at", null=True),
    _text("reason", null=True),
    sa.Index("webhooks_audience", "audience", "state"),
)

feedback = sa.Table(
    "feedback",
    metadata,
    _id(),
    _text("touchpoint", sa.ForeignKey("touchpoints.id"), null=True),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("question"),
    _ms("asked_at"),
    _whole("score", null=True),
    _text("comment", null=True),
    _ms("answered_at", null=True),
    _text("device", null=True),
    sa.Column("state", Coded(AskState), nullable=False),
    _ms("give_up_at", null=True),
    _text("expected", null=True),
    sa.Index("feedback_due", "state", "asked_at"),
    sa.Index("feedback_scores", "question", "asked_at", "state", "score", "expected"),
    sa.Index("feedback_owner", "owner", "id"),
    sa.Index("feedback_touchpoint", "touchpoint", "id"),
)

links = sa.Table(
    "links",
    metadata,
    _id(),
    _text("hash"),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("purpose"),
    _text("about"),
    _ms("created"),
    _ms("expires_at"),
    _ms("used_at", null=True),
    sa.Index("links_hash", "hash", unique=True),
    sa.Index("links_owner", "owner"),
    sa.Index("links_expires", "expires_at"),
)

attachments = sa.Table(
    "attachments",
    metadata,
    _id(),
    _text("owner", sa.ForeignKey("owners.id"), null=True),
    _text("device", null=True),
    _text("kind"),
    _text("media_type"),
    sa.Column("body", sa.LargeBinary, nullable=False),
    _ms("created"),
    sa.Index("attachments_owner", "owner", "id"),
    sa.Index("attachments_device", "device", "id"),
)

owner_reports = sa.Table(
    "owner_reports",
    metadata,
    _id(),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("device"),
    _text("text"),
    _text("photo", sa.ForeignKey("attachments.id"), null=True),
    _text("touchpoint", sa.ForeignKey("touchpoints.id")),
    _json("around", Mapping[str, Any]),
    _ms("created"),
    sa.Index("owner_reports_owner", "owner", "id"),
    sa.Index("owner_reports_device", "device", "id"),
    sa.Index("owner_reports_photo", "photo"),
    sa.Index("owner_reports_touchpoint", "touchpoint"),
)

nps_due = sa.Table(
    "nps_due",
    metadata,
    _text("owner", sa.ForeignKey("owners.id")),
    _text("device"),
    _ms("at"),
    sa.PrimaryKeyConstraint("owner"),
    sa.Index("nps_due_at", "at"),
)

results = sa.Table(
    "results",
    metadata,
    _text("touchpoint", sa.ForeignKey("touchpoints.id")),
    _text("appointment"),
    _text("workshop"),
    _text("owner"),
    _text("device"),
    _text("kind"),
    _json("rules", tuple[str, ...]),
    _json("services", tuple[str, ...]),
    _ms("done_at"),
    _ms("look_at"),
    _flag("helped", null=True),
    _flag("in_time", null=True),
    _flag("in_price", null=True),
    _whole("messages", null=True),
    _whole("contacts", null=True),
    sa.PrimaryKeyConstraint("touchpoint"),
    sa.Index("results_device", "device", "done_at"),
    sa.Index("results_owner", "owner"),
    sa.Index("results_look", "helped", "look_at"),
    sa.Index("results_done", "done_at"),
)

measured_days = sa.Table(
    "measured_days",
    metadata,
    _text("by"),  # rule, kind, model, firmware; all for the sum
    sa.Column("day", sa.BigInteger, nullable=False),  # since 1970, UTC, of the finding
    _text("key"),
    _text("counts"),  # JSON as text: years of it are read at once
    _text("times"),
    sa.PrimaryKeyConstraint("by", "day", "key"),
)

stale_days = sa.Table(
    "stale_days",
    metadata,
    sa.Column("day", sa.BigInteger, nullable=False),
    _ms("due_at"),
    sa.PrimaryKeyConstraint("day"),
    sa.Index("stale_days_due", "due_at"),
)

cases = sa.Table(
    "cases",
    metadata,
    _id(),
    sa.Column("kind", Coded(CaseKind), nullable=False),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("device", null=True),
    _text("touchpoint", null=True),
    _text("appointment", null=True),
    _text("workshop", null=True),
    sa.Column("state", Coded(CaseState), nullable=False),
    _text("responsible"),
    _ms("opened_at"),
    _ms("due_at"),
    _ms("answered_at", null=True),
    _ms("closed_at", null=True),
    _text("text"),
    _json("data", Mapping[str, Any]),
    _text("outcome", null=True),
    _json("history", tuple[Note, ...]),
    sa.Index("cases_due", "state", "due_at", "id"),
    sa.Index("cases_owner", "owner", "id"),
    sa.Index("cases_touchpoint", "touchpoint"),
    sa.Index("cases_device", "device", "id"),
    sa.Index("cases_workshop", "workshop", "state", "due_at", "id"),
)

heard = sa.Table(
    "heard",
    metadata,
    _id(),
    _text("source"),
    _text("event"),
    _text("type"),
    _ms("at"),
    _ms("received"),
    _text("by"),
    _text("owner", sa.ForeignKey("owners.id"), null=True),
    _text("device", null=True),
    _text("touchpoint", null=True),
    _text("text"),
    _text("reason", null=True),
    _json("data", Mapping[str, Any]),
    sa.Column("outcome", Coded(Outcome), nullable=False),
    _text("case", null=True),
    sa.Index("heard_once", "source", "event", unique=True),
    sa.Index("heard_owner", "owner", "id"),
    sa.Index("heard_device", "device", "type", "at"),
    sa.Index("heard_type", "type", "at"),
    sa.Index("heard_case", "case"),
)

conversations = sa.Table(
    "conversations",
    metadata,
    _text("touchpoint", sa.ForeignKey("touchpoints.id")),
    _text("owner", sa.ForeignKey("owners.id")),
    _text("device"),
    _ms("opened_at"),
    _text("agent", null=True),
    _ms("verified_at", null=True),
    _text("verified_by", null=True),
    _text("code_hash", null=True),
    _ms("code_until", null=True),
    _whole("code_tries"),
    _ms("waiting_since", null=True),
    _ms("closed_at", null=True),
    sa.PrimaryKeyConstraint("touchpoint"),
    sa.Index("conversations_owner", "owner"),
    sa.Index("conversations_waiting", "waiting_since"),
)

conversation_lines = sa.Table(
    "conversation_lines",
    metadata,
    _id(),
    _text("touchpoint", sa.ForeignKey("touchpoints.id")),
    _ms("at"),
    sa.Column("part", Coded(ConversationPart), nullable=False),
    _text("by"),
    _text("channel"),
    _text("text"),
    _text("code", null=True),
    _json("params", Mapping[str, Any]),
    sa.Index("conversation_lines_touchpoint", "touchpoint", "id"),
)

agents_present = sa.Table(
    "agents_present",
    metadata,
    _text("name"),
    _ms("until"),
    _ms("since"),
    sa.PrimaryKeyConstraint("name"),
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column(
        "position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=False, nullable=False
    ),
    _ms("received"),
    _text("topic"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    _text("reason"),
    _text("detail"),
    _ms("replayed", null=True),
    sa.PrimaryKeyConstraint("position"),
    sa.Index("quarantine_reason", "reason", "position"),
    sa.Index("quarantine_waiting", "replayed", "reason"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    _id(),
    _text("hash"),
    sa.Column("role", Coded(Role), nullable=False),
    _text("subject", null=True),
    _ms("created"),
    _ms("expires"),
    _ms("revoked", null=True),
    _text("account", null=True),
    _text("way", null=True),
    _text("browser", null=True),
    sa.Index("tokens_hash", "hash", unique=True),
    sa.Index("tokens_account", "account"),
    sa.Index("tokens_subject", "role", "subject"),
    sa.Index("tokens_created", "created"),
)

accounts = sa.Table(
    "accounts",
    metadata,
    _id(),
    sa.Column("role", Coded(Role), nullable=False),
    _text("subject", null=True),
    _text("name"),
    _text("called"),
    sa.Column("rank", Coded(Rank), nullable=False),
    _ms("created"),
    _ms("ended", null=True),
    _text("password", null=True),
    _text("totp", null=True),
    _text("totp_new", null=True),
    _whole("totp_step"),
    _json("recovery", tuple[str, ...]),
    sa.Index("accounts_name", "name", unique=True),
    sa.Index("accounts_subject", "role", "subject"),
)

passkeys = sa.Table(
    "passkeys",
    metadata,
    _id(),
    _text("account", sa.ForeignKey("accounts.id")),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    _whole("sign_count"),
    _text("label"),
    _flag("synced"),
    _ms("created"),
    _ms("used", null=True),
    sa.Index("passkeys_account", "account"),
)

proofs = sa.Table(
    "proofs",
    metadata,
    _id(),
    _text("hash"),
    sa.Column("kind", Coded(ProofKind), nullable=False),
    _text("about"),
    _json("data", Mapping[str, Any]),
    _ms("created"),
    _ms("expires"),
    _ms("used", null=True),
    sa.Index("proofs_hash", "hash", unique=True),
    sa.Index("proofs_about", "kind", "about"),
    sa.Index("proofs_expires", "expires"),
)

sign_in_tries = sa.Table(
    "sign_in_tries",
    metadata,
    _text("key"),
    _ms("began"),
    _whole("count"),
    sa.PrimaryKeyConstraint("key"),
    sa.Index("sign_in_tries_began", "began"),
)

remembered = sa.Table(
    "remembered_posts",
    metadata,
    _text("key"),
    _text("fingerprint"),
    _whole("status"),
    _text("body"),
    _ms("at"),
    sa.PrimaryKeyConstraint("key"),
    sa.Index("remembered_posts_at", "at"),
)

rule_sets = sa.Table(
    "rule_sets",
    metadata,
    _id(),  # hash of the texts
    sa.Column("sources", sa.LargeBinary, nullable=False),  # zlib over JSON: two hundred kilobytes are ten
)

rule_activations = sa.Table(
    "rule_activations",
    metadata,
    _sequence(),
    _id(key=False),
    _text("rule_set"),
    _ms("at"),
    _text("by"),
    _whole("rules"),
    sa.Column("position", sa.BigInteger, nullable=True),
    _json("faults", tuple[str, ...]),
    sa.Index("rule_activations_id", "id", unique=True),
    sa.Index("rule_activations_position", "position"),
    sqlite_autoincrement=True,
)

rule_errors = sa.Table(
    "rule_errors",
    metadata,
    _text("rule"),
    sa.Column("count", sa.BigInteger, nullable=False),
    _ms("last_at"),
    sa.PrimaryKeyConstraint("rule"),
)

calendar_settings = sa.Table(
    "calendar_settings",
    metadata,
    _text("workshop", sa.ForeignKey("workshops.id")),
    _text("email", null=True),
    sa.Column("reach", Coded(Reach), nullable=False),
    _text("language"),
    _text("busy_url", null=True),
    _text("busy_etag", null=True),
    _text("busy_modified", null=True),
    _ms("busy_due_at", null=True),
    _ms("busy_taken_at", null=True),
    _whole("busy_count"),
    _text("busy_problem", null=True),
    _text("busy_detail", null=True),
    sa.PrimaryKeyConstraint("workshop"),
    sa.Index("calendar_settings_due", "busy_due_at"),
)

calendar_events = sa.Table(
    "calendar_events",
    metadata,
    _text("appointment", sa.ForeignKey("appointments.id")),
    _text("uid"),
    _whole("sequence"),
    _ms("start"),
    _ms("end"),
    _text("status"),
    _ms("changed"),
    sa.PrimaryKeyConstraint("appointment"),
)

calendar_invitations = sa.Table(
    "calendar_invitations",
    metadata,
    _text("token_hash"),
    _text("appointment", sa.ForeignKey("appointments.id")),
    sa.Column("party", Coded(Party), nullable=False),
    _text("address"),
    _ms("created"),
    sa.Column("reply_sequence", sa.Integer, nullable=True),
    _ms("reply_stamp", null=True),
    _text("partstat", null=True),
    sa.PrimaryKeyConstraint("token_hash"),
    sa.Index("calendar_invitations_appointment", "appointment", "party"),
)

calendar_feeds = sa.Table(
    "calendar_feeds",
    metadata,
    sa.Column("party", Coded(Party), nullable=False),
    _text("subject"),
    _whole("turn"),
    _text("token_hash"),
    _ms("created"),
    sa.PrimaryKeyConstraint("party", "subject"),
    sa.Index("calendar_feeds_token", "token_hash", unique=True),
)

inbound_mail = sa.Table(
    "inbound_mail",
    metadata,
    _id(),
    _ms("at"),
    _text("message_id"),
    _text("sender"),
    _text("recipient"),
    _text("subject"),
    _text("outcome"),
    _text("reason"),
    _json("params", Mapping[str, Any]),
    _text("appointment", null=True),
    _text("owner", null=True),
    sa.Column("raw", sa.LargeBinary, nullable=True),
    _whole("size"),
    _ms("seen_at", null=True),
    sa.Index("inbound_mail_message", "message_id", "recipient", unique=True),
    sa.Index("inbound_mail_open", "outcome", "seen_at", "id", "size"),
    sa.Index("inbound_mail_owner", "owner"),
)

positions = sa.Table(
    "positions",
    metadata,
    _text("reader"),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("reader"),
)

changes = sa.Table(
    "changes",
    metadata,
    _sequence("id"),
    _ms("at"),
    _text("subject"),
    _text("key"),
    sqlite_autoincrement=True,
)
