"""The first tables.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_OVERLAP = """
    SELECT RAISE(ABORT, 'appointments_slot')
    WHERE NEW.state IN ('requested', 'confirmed', 'done') AND EXISTS (
        SELECT 1 FROM appointments a
        WHERE a.workshop = NEW.workshop AND a.bay = NEW.bay AND a.id <> NEW.id
        AND a.state IN ('requested', 'confirmed', 'done') AND a."start" < NEW."end" AND a."end" > NEW."start"
    );
"""


def upgrade() -> None:
    _owners()
    _devices()
    _touchpoints()
    _ledger()
    _workshops()
    _outbox()
    _feedback()
    _quarantine()
    _access()
    _progress()
    if op.get_bind().dialect.name == "sqlite":
        _guard_slots()


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)


_TABLES = (
    "changes",
    "positions",
    "remembered_posts",
    "tokens",
    "quarantine",
    "feedback",
    "attempts",
    "outbox",
    "holds",
    "appointments",
    "workshops",
    "ledger",
    "touchpoints",
    "findings",
    "facts",
    "ownerships",
    "devices",
    "push_subscriptions",
    "preferences",
    "consents",
    "owners",
)


def _owners() -> None:
    """Owners, what they agreed to, when and where they may be reached."""
    op.create_table(
        "owners",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("wishes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("search", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "consents",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owners.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("consents_owner", "consents", ["owner", "purpose", "at"], unique=False)
    op.create_table(
        "preferences",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("quiet_from", sa.Text(), nullable=False),
        sa.Column("quiet_to", sa.Text(), nullable=False),
        sa.Column("channels", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("muted", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("weekly_budget", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owners.id"],
        ),
        sa.PrimaryKeyConstraint("owner"),
    )
    op.create_table(
        "push_subscriptions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("p256dh", sa.Text(), nullable=False),
        sa.Column("auth", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owners.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("push_subscriptions_endpoint", "push_subscriptions", ["endpoint"], unique=True)
    op.create_index("push_subscriptions_owner", "push_subscriptions", ["owner"], unique=False)


def _devices() -> None:
    """Devices, whose they were when, what is known of them."""
    op.create_table(
        "devices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("plate", sa.Text(), nullable=True),
        sa.Column("serial", sa.Text(), nullable=True),
        sa.Column("purchased", sa.Text(), nullable=True),
        sa.Column("warranty_until", sa.Text(), nullable=True),
        sa.Column("workshop", sa.Text(), nullable=True),
        sa.Column("firmware", sa.Text(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("search", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owners.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("devices_owner", "devices", ["owner", "id"], unique=False)
    op.create_table(
        "ownerships",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["device"],
            ["devices.id"],
        ),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owners.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("ownerships_device", "ownerships", ["device", "since"], unique=False)
    op.create_index("ownerships_owner", "ownerships", ["owner"], unique=False)
    op.create_table(
        "facts",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("format", sa.Integer(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("moving", sa.Boolean(), nullable=False),
        sa.Column("moving_since", sa.BigInteger(), nullable=True),
        sa.Column("online", sa.Boolean(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("open", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("latest", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("device"),
    )


def _touchpoints() -> None:
    """Findings, touchpoints."""
    op.create_table(
        "findings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("began_ts", sa.BigInteger(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.Column("shadow", sa.Boolean(), nullable=False),
        sa.Column("evidence", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("cleared_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("findings_device", "findings", ["device", "found_at", "id"], unique=False)
    op.create_index("findings_found", "findings", ["found_at", "id"], unique=False)
    op.create_table(
        "touchpoints",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("finding", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("rule_version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=True),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("slots", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("evidence", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["finding"],
            ["findings.id"],
        ),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owners.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("touchpoints_created", "touchpoints", ["created"], unique=False)
    op.create_index("touchpoints_device", "touchpoints", ["device", "rule", "state"], unique=False)
    op.create_index("touchpoints_expires", "touchpoints", ["state", "expires_at"], unique=False)
    op.create_index("touchpoints_finding", "touchpoints", ["finding"], unique=False)
    op.create_index("touchpoints_owner", "touchpoints", ["owner", "id"], unique=False)
    op.create_index("touchpoints_owner_sent", "touchpoints", ["owner", "sent_at"], unique=False)
    op.create_index("touchpoints_rule", "touchpoints", ["rule", "id"], unique=False)
    op.create_index("touchpoints_state", "touchpoints", ["state", "id"], unique=False)
    op.create_index("touchpoints_wake", "touchpoints", ["state", "wake_at"], unique=False)


def _ledger() -> None:
    """What every owner can read."""
    op.create_table(
        "ledger",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("params", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("finding", sa.Text(), nullable=True),
        sa.Column("touchpoint", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owners.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("ledger_finding", "ledger", ["finding", "seq"], unique=False)
    op.create_index("ledger_id", "ledger", ["id"], unique=True)
    op.create_index("ledger_owner", "ledger", ["owner", "seq"], unique=False)
    op.create_index("ledger_touchpoint", "ledger", ["touchpoint", "seq"], unique=False)


def _workshops() -> None:
    """Workshops, appointments, holds."""
    op.create_table(
        "workshops",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("bays", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("hours", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("holidays", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("services", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("books", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "appointments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workshop", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("bay", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("touchpoint", sa.Text(), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("diagnosis", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("work", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owners.id"],
        ),
        sa.ForeignKeyConstraint(
            ["touchpoint"],
            ["touchpoints.id"],
        ),
        sa.ForeignKeyConstraint(
            ["workshop"],
            ["workshops.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("appointments_device", "appointments", ["device", "start", "id"], unique=False)
    op.create_index("appointments_end", "appointments", ["workshop", "end", "start"], unique=False)
    op.create_index("appointments_owner", "appointments", ["owner", "start", "id"], unique=False)
    op.create_index(
        "appointments_slot",
        "appointments",
        ["workshop", "bay", "start"],
        unique=True,
        sqlite_where=sa.text("state IN ('requested', 'confirmed', 'done')"),
        postgresql_where=sa.text("state IN ('requested', 'confirmed', 'done')"),
    )
    op.create_index("appointments_touchpoint", "appointments", ["touchpoint"], unique=False)
    op.create_table(
        "holds",
        sa.Column("touchpoint", sa.Text(), nullable=False),
        sa.Column("workshop", sa.Text(), nullable=False),
        sa.Column("bay", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["touchpoint"],
            ["touchpoints.id"],
        ),
        sa.ForeignKeyConstraint(
            ["workshop"],
            ["workshops.id"],
        ),
        sa.PrimaryKeyConstraint("touchpoint", "workshop", "bay", "start"),
    )
    op.create_index("holds_until", "holds", ["until"], unique=False)
    op.create_index("holds_workshop", "holds", ["workshop", "end", "start"], unique=False)


def _outbox() -> None:
    """What leaves the house, and every try of it."""
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("touchpoint", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_due", "outbox", ["channel", "state", "due_at", "seq"], unique=False)
    op.create_index("outbox_id", "outbox", ["id"], unique=True)
    op.create_index("outbox_once", "outbox", ["channel", "target", "key"], unique=True)
    op.create_index("outbox_state", "outbox", ["state", "seq"], unique=False)
    op.create_index("outbox_touchpoint", "outbox", ["touchpoint"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery"],
            ["outbox.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("attempts_delivery", "attempts", ["delivery", "seq"], unique=False)


def _feedback() -> None:
    """The questions afterwards."""
    op.create_table(
        "feedback",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("touchpoint", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["owners.id"],
        ),
        sa.ForeignKeyConstraint(
            ["touchpoint"],
            ["touchpoints.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("feedback_owner", "feedback", ["owner", "id"], unique=False)
    op.create_index("feedback_touchpoint", "feedback", ["touchpoint", "id"], unique=False)


def _quarantine() -> None:
    """Messages that could not be decoded."""
    op.create_table(
        "quarantine",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("replayed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_index("quarantine_reason", "quarantine", ["reason", "position"], unique=False)
    op.create_index("quarantine_waiting", "quarantine", ["replayed", "reason"], unique=False)


def _access() -> None:
    """Tokens and remembered POSTs."""
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tokens_hash", "tokens", ["hash"], unique=True)
    op.create_table(
        "remembered_posts",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("remembered_posts_at", "remembered_posts", ["at"], unique=False)


def _progress() -> None:
    """Readers' positions, and what changed."""
    op.create_table(
        "positions",
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reader"),
    )
    op.create_table(
        "changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )


def _guard_slots() -> None:
    """The second line against double booking: no two appointments that take up a bay may overlap."""
    when = {"insert": "INSERT", "update": 'UPDATE OF workshop, bay, "start", "end", state'}
    for name, event in when.items():
        op.execute(
            f"CREATE TRIGGER appointments_slot_{name} BEFORE {event} ON appointments BEGIN {_OVERLAP} END"
        )
