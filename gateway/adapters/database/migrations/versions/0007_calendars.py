"""Calendar feeds, busy times, invitations

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "calendar_settings",
        sa.Column("workshop", sa.Text(), sa.ForeignKey("workshops.id"), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("reach", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("busy_url", sa.Text(), nullable=True),
        sa.Column("busy_etag", sa.Text(), nullable=True),
        sa.Column("busy_modified", sa.Text(), nullable=True),
        sa.Column("busy_due_at", sa.BigInteger(), nullable=True),
        sa.Column("busy_taken_at", sa.BigInteger(), nullable=True),
        sa.Column("busy_count", sa.Integer(), nullable=False),
        sa.Column("busy_problem", sa.Text(), nullable=True),
        sa.Column("busy_detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("workshop"),
    )
    op.create_index("calendar_settings_due", "calendar_settings", ["busy_due_at"])
    op.create_table(
        "calendar_events",
        sa.Column("appointment", sa.Text(), sa.ForeignKey("appointments.id"), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("appointment"),
    )
    op.create_table(
        "calendar_invitations",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("appointment", sa.Text(), sa.ForeignKey("appointments.id"), nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("reply_sequence", sa.Integer(), nullable=True),
        sa.Column("reply_stamp", sa.BigInteger(), nullable=True),
        sa.Column("partstat", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("token_hash"),
    )
    op.create_index("calendar_invitations_appointment", "calendar_invitations", ["appointment", "party"])
    op.create_table(
        "calendar_feeds",
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("party", "subject"),
    )
    op.create_index("calendar_feeds_token", "calendar_feeds", ["token_hash"], unique=True)
    op.create_table(
        "inbound_mail",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("params", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("appointment", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("raw", sa.LargeBinary(), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("inbound_mail_message", "inbound_mail", ["message_id", "recipient"], unique=True)
    op.create_index("inbound_mail_open", "inbound_mail", ["outcome", "seen_at", "id", "size"])
    op.create_index("inbound_mail_owner", "inbound_mail", ["owner"])


def downgrade() -> None:
    op.drop_table("inbound_mail")
    op.drop_table("calendar_feeds")
    op.drop_table("calendar_invitations")
    op.drop_table("calendar_events")
    op.drop_table("calendar_settings")
