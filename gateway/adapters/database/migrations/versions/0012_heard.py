"""What other systems tell, conversations about touchpoints, and how a webhook's events are written

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "heard",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("touchpoint", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("case", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("heard_once", "heard", ["source", "event"], unique=True)
    op.create_index("heard_owner", "heard", ["owner", "id"])
    op.create_index("heard_device", "heard", ["device", "type", "at"])
    op.create_index("heard_type", "heard", ["type", "at"])
    op.create_index("heard_case", "heard", ["case"])
    op.create_table(
        "conversations",
        sa.Column("touchpoint", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("verified_by", sa.Text(), nullable=True),
        sa.Column("code_hash", sa.Text(), nullable=True),
        sa.Column("code_until", sa.BigInteger(), nullable=True),
        sa.Column("code_tries", sa.Integer(), nullable=False),
        sa.Column("waiting_since", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.ForeignKeyConstraint(["touchpoint"], ["touchpoints.id"]),
        sa.PrimaryKeyConstraint("touchpoint"),
    )
    op.create_index("conversations_owner", "conversations", ["owner"])
    op.create_index("conversations_waiting", "conversations", ["waiting_since"])
    op.create_table(
        "conversation_lines",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("touchpoint", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("params", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["touchpoint"], ["touchpoints.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("conversation_lines_touchpoint", "conversation_lines", ["touchpoint", "id"])
    op.create_table(
        "agents_present",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("webhooks", sa.Column("format", sa.Text(), nullable=False, server_default="standard"))


def downgrade() -> None:
    op.drop_column("webhooks", "format")
    for table in ("agents_present", "conversation_lines", "conversations", "heard"):
        op.drop_table(table)
