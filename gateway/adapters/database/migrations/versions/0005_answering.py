"""Links, owners' reports and their photos

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("touchpoints", sa.Column("workshop", sa.Text(), nullable=True))
    op.add_column(
        "preferences",
        sa.Column("muted_at", sa.JSON(none_as_null=True), server_default="{}", nullable=False),
    )
    _links()
    _attachments()
    _reports()


def _links() -> None:
    """One-time links; of the secret only its hash."""
    op.create_table(
        "links",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("links_hash", "links", ["hash"], unique=True)
    op.create_index("links_owner", "links", ["owner"], unique=False)
    op.create_index("links_expires", "links", ["expires_at"], unique=False)


def _attachments() -> None:
    """Pictures that somebody gave."""
    op.create_table(
        "attachments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("attachments_owner", "attachments", ["owner", "id"], unique=False)
    op.create_index("attachments_device", "attachments", ["device", "id"], unique=False)


def _reports() -> None:
    """What owners said themselves."""
    op.create_table(
        "owner_reports",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("photo", sa.Text(), nullable=True),
        sa.Column("touchpoint", sa.Text(), nullable=False),
        sa.Column("around", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.ForeignKeyConstraint(["photo"], ["attachments.id"]),
        sa.ForeignKeyConstraint(["touchpoint"], ["touchpoints.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("owner_reports_owner", "owner_reports", ["owner", "id"], unique=False)
    op.create_index("owner_reports_device", "owner_reports", ["device", "id"], unique=False)
    op.create_index("owner_reports_photo", "owner_reports", ["photo"], unique=False)
    op.create_index("owner_reports_touchpoint", "owner_reports", ["touchpoint"], unique=False)


def downgrade() -> None:
    op.drop_table("owner_reports")
    op.drop_table("attachments")
    op.drop_table("links")
    op.drop_column("preferences", "muted_at")
    op.drop_column("touchpoints", "workshop")
