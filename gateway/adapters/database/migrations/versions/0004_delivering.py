"""Webhook endpoints, mail addresses, outcomes of deliveries

Revision: 0004, after 0003
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NEW_CHANNELS = ("email", "letter", "webhook")
"""What owners who once chose their channels could not choose then; they may switch each of them off."""


def upgrade() -> None:
    op.create_table(
        "delivery_outcomes",
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["delivery"], ["outbox.id"]),
        sa.PrimaryKeyConstraint("delivery", "outcome"),
    )
    op.create_table(
        "mail_addresses",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("secrets", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("webhooks_audience", "webhooks", ["audience", "state"], unique=False)
    op.create_index("outbox_target", "outbox", ["channel", "target", "seq"], unique=False)
    _add_channels()


def _add_channels() -> None:
    """Stored wishes name the channels of their time; what came since is on until its owner says otherwise."""
    wishes = sa.table("preferences", sa.column("owner", sa.Text), sa.column("channels", sa.JSON))
    connection = op.get_bind()
    for owner, channels in connection.execute(sa.select(wishes.c.owner, wishes.c.channels)).all():
        stored = json.loads(channels) if isinstance(channels, str) else list(channels)
        more = [channel for channel in NEW_CHANNELS if channel not in stored]
        connection.execute(sa.update(wishes).where(wishes.c.owner == owner).values(channels=[*stored, *more]))


def downgrade() -> None:
    op.drop_index("outbox_target", "outbox")
    op.drop_table("webhooks")
    op.drop_table("mail_addresses")
    op.drop_table("delivery_outcomes")
