"""What deciding keeps: bundled findings, contacts, pace, recalls

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SERVICE, MARKETING = "service", "marketing"


def _sequence() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False)


def upgrade() -> None:
    op.add_column("touchpoints", sa.Column("waits_for", sa.Text(), nullable=True))
    op.add_column("touchpoints", sa.Column("answered_at", sa.BigInteger(), nullable=True))
    op.drop_index("touchpoints_owner_sent", "touchpoints")
    op.create_index("touchpoints_owner_state", "touchpoints", ["owner", "state", "wake_at"], unique=False)
    op.create_index("touchpoints_answered", "touchpoints", ["rule", "answered_at"], unique=False)
    op.create_index("touchpoints_rule_sent", "touchpoints", ["rule", "sent_at"], unique=False)
    op.create_table(
        "touchpoint_findings",
        sa.Column("touchpoint", sa.Text(), nullable=False),
        sa.Column("finding", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=True),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["touchpoint"], ["touchpoints.id"]),
        sa.ForeignKeyConstraint(["finding"], ["findings.id"]),
        sa.PrimaryKeyConstraint("touchpoint", "finding"),
    )
    op.create_index("touchpoint_findings_finding", "touchpoint_findings", ["finding"], unique=False)
    _contacts()
    _paces()
    _recalls()


def _contacts() -> None:
    op.create_table(
        "contacts",
        _sequence(),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("purse", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("contacts_owner", "contacts", ["owner", "at"], unique=False)
    op.create_index("contacts_about", "contacts", ["about"], unique=False)
    # What was sent before counts on.
    op.execute(
        "INSERT INTO contacts (owner, purse, at, about) "
        f"SELECT owner, CASE purpose WHEN '{MARKETING}' THEN '{MARKETING}' ELSE '{SERVICE}' END, sent_at, id "
        "FROM touchpoints WHERE sent_at IS NOT NULL AND severity <> 'critical' ORDER BY sent_at"
    )


def _paces() -> None:
    op.create_table(
        "rule_paces",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("per_day", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("declined", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("rule"),
    )
    op.create_table(
        "pace_places",
        sa.Column("touchpoint", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["touchpoint"], ["touchpoints.id"]),
        sa.PrimaryKeyConstraint("touchpoint"),
    )
    op.create_index("pace_places_rule", "pace_places", ["rule", "at"], unique=False)


def _recalls() -> None:
    op.create_table(
        "recalls",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("title", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("service", sa.Text(), nullable=True),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("recalls_created", "recalls", ["created", "id"], unique=False)
    op.create_table(
        "recall_devices",
        _sequence(),
        sa.Column("recall", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("finding", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["recall"], ["recalls.id"]),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("recall_devices_once", "recall_devices", ["recall", "device"], unique=True)
    op.create_index("recall_devices_device", "recall_devices", ["device"], unique=False)
    op.create_index("recall_devices_finding", "recall_devices", ["finding", "seq"], unique=False)


def downgrade() -> None:
    for table in (
        "recall_devices",
        "recalls",
        "pace_places",
        "rule_paces",
        "contacts",
        "touchpoint_findings",
    ):
        op.drop_table(table)
    for index in ("touchpoints_owner_state", "touchpoints_answered", "touchpoints_rule_sent"):
        op.drop_index(index, "touchpoints")
    op.create_index("touchpoints_owner_sent", "touchpoints", ["owner", "sent_at"], unique=False)
    op.drop_column("touchpoints", "answered_at")
    op.drop_column("touchpoints", "waits_for")
