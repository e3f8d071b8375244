"""Who belongs to a device, who was invited to, who looked at an owner's data, and what was agreed to

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_people",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("may_answer", sa.Boolean(), nullable=False),
        sa.Column("sees", sa.Boolean(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"]),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("device_people_device", "device_people", ["device", "until"], unique=False)
    op.create_index("device_people_owner", "device_people", ["owner", "since"], unique=False)
    for name, columns, when in (
        ("device_people_once", ["device", "owner"], sa.text("until IS NULL")),
        ("device_people_asked", ["device"], sa.text("until IS NULL AND asked")),
    ):
        op.create_index(name, "device_people", columns, unique=True, sqlite_where=when, postgresql_where=when)
    op.create_table(
        "invitations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("may_answer", sa.Boolean(), nullable=False),
        sa.Column("sees", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("taken_by", sa.Text(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.id"]),
        sa.ForeignKeyConstraint(["taken_by"], ["owners.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("invitations_device", "invitations", ["device", "ended"], unique=False)
    op.create_table(
        "access_log",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.PrimaryKeyConstraint("owner", "by", "what", "day"),
    )
    op.create_index("access_log_owner", "access_log", ["owner", "day", "at"], unique=False)
    op.add_column("consents", sa.Column("text", sa.Text(), nullable=True))
    op.add_column("consents", sa.Column("by", sa.Text(), nullable=True))
    op.create_index("outbox_owner", "outbox", ["owner", "state"], unique=False)
    op.create_index("ledger_device", "ledger", ["device", "seq"], unique=False)


def downgrade() -> None:
    op.drop_index("ledger_device", "ledger")
    op.drop_index("outbox_owner", "outbox")
    op.drop_column("consents", "by")
    op.drop_column("consents", "text")
    op.drop_table("access_log")
    op.drop_table("invitations")
    op.drop_table("device_people")
