"""Workshops in full, extra work, several offers

Revision: 0006, after 0005
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_BEFORE = "('requested', 'confirmed', 'done')"
_BUSY = "('requested', 'confirmed', 'checked_in', 'in_work', 'ready', 'done')"

_OVERLAP = """
    SELECT RAISE(ABORT, 'appointments_slot')
    WHERE NEW.state IN {busy} AND EXISTS (
        SELECT 1 FROM appointments a
        WHERE a.workshop = NEW.workshop AND a.bay = NEW.bay AND a.id <> NEW.id AND a.state IN {busy}
        AND a."end" > NEW."start" - 86400000
        AND a."start" < NEW."end" + {new_buffer} AND a."end" + {buffer} > NEW."start"
    );
"""
"""No buffer is longer than a day, so that the index on `end` serves."""


def upgrade() -> None:
    _guard_off()
    _workshops()
    _appointments()
    _guard_on(_BUSY, "a.buffer_ms", "NEW.buffer_ms")
    _busy_times()
    _extra_work()
    op.add_column("devices", sa.Column("plan", _json(), nullable=True))


def _json() -> sa.JSON:
    return sa.JSON(none_as_null=True)


def _add(table: str, name: str, kind: Any, default: str | None = None) -> None:
    """A column; with a default for the rows that are there it holds something in every row."""
    column = sa.Column(name, kind, nullable=default is None, server_default=default)
    op.add_column(table, column)


def _workshops() -> None:
    _add("workshops", "exceptions", _json(), "[]")
    _add("workshops", "country", sa.Text())
    _add("workshops", "region", sa.Text())
    _add("workshops", "skills", _json(), "{}")
    _add("workshops", "answer_hours", sa.Integer(), "24")
    _add("workshops", "replacement_cars", sa.Integer())
    _add("workshops", "home", _json())
    _add("workshops", "email", sa.Text())


def _appointments() -> None:
    _add("appointments", "services", _json(), "[]")
    _add("appointments", "buffer_ms", sa.BigInteger(), "0")
    _add("appointments", "arrive_until", sa.BigInteger())
    _add("appointments", "address", sa.Text())
    _add("appointments", "stay", sa.Text())
    _add("appointments", "terms", _json(), "{}")
    _add("appointments", "answer_by", sa.BigInteger())
    _add("appointments", "remind_at", sa.BigInteger())
    _add("appointments", "wished", _json(), "[]")
    _add("appointments", "offered", _json(), "[]")
    _add("appointments", "reason", sa.Text())
    _add("appointments", "progress", _json(), "{}")
    _add("appointments", "sequence", sa.Integer(), "0")
    op.create_index("appointments_answer", "appointments", ["state", "answer_by"], unique=False)
    op.create_index("appointments_remind", "appointments", ["remind_at"], unique=False)
    op.create_index("appointments_pending", "appointments", ["workshop", "state", "answer_by"], unique=False)
    _add("holds", "buffer_ms", sa.BigInteger(), "0")


def _busy_times() -> None:
    op.create_table(
        "busy_times",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("workshop", sa.Text(), nullable=False),
        sa.Column("bay", sa.Text(), nullable=True),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["workshop"], ["workshops.id"]),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("busy_times_end", "busy_times", ["workshop", "end", "start"], unique=False)
    op.create_index("busy_times_source", "busy_times", ["workshop", "source"], unique=False)


def _extra_work() -> None:
    op.create_table(
        "extra_work",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("appointment", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("price", sa.Integer(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("photo", sa.Text(), nullable=True),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("answer_by", sa.BigInteger(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["appointment"], ["appointments.id"]),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("extra_work_appointment", "extra_work", ["appointment", "asked_at"], unique=False)
    op.create_index("extra_work_owner", "extra_work", ["owner", "state"], unique=False)
    op.create_index("extra_work_answer", "extra_work", ["state", "answer_by"], unique=False)


def _guard_off() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in ("insert", "update"):
            op.execute(f"DROP TRIGGER appointments_slot_{name}")
    op.drop_index("appointments_slot", "appointments")


def _guard_on(busy: str, buffer: str, new_buffer: str) -> None:
    """The second line against double booking: no two appointments that take up a bay may overlap, the time
    that a bay needs afterwards included."""
    where = sa.text(f"state IN {busy}")
    op.create_index(
        "appointments_slot",
        "appointments",
        ["workshop", "bay", "start"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )
    if op.get_bind().dialect.name != "sqlite":
        return
    columns = ["workshop", "bay", '"start"', '"end"', "state"]
    columns += ["buffer_ms"] if new_buffer != "0" else []
    body = _OVERLAP.format(busy=busy, buffer=buffer, new_buffer=new_buffer)
    for name, event in {"insert": "INSERT", "update": f"UPDATE OF {', '.join(columns)}"}.items():
        op.execute(f"CREATE TRIGGER appointments_slot_{name} BEFORE {event} ON appointments BEGIN {body} END")


def downgrade() -> None:
    op.drop_column("devices", "plan")
    op.drop_table("extra_work")
    op.drop_table("busy_times")
    _guard_off()
    for name in ("answer", "remind", "pending"):
        op.drop_index(f"appointments_{name}", "appointments")
    for table, names in _ADDED.items():
        for name in names:
            op.drop_column(table, name)
    _guard_on(_BEFORE, "0", "0")


_ADDED = {
    "holds": ("buffer_ms",),
    "appointments": (
        "services",
        "buffer_ms",
        "arrive_until",
        "address",
        "stay",
        "terms",
        "answer_by",
        "remind_at",
        "wished",
        "offered",
        "reason",
        "progress",
        "sequence",
    ),
    "workshops": (
        "exceptions",
        "country",
        "region",
        "skills",
        "answer_hours",
        "replacement_cars",
        "home",
        "email",
    ),
}
