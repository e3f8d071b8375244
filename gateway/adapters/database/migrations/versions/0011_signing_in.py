"""Signing in: accounts, passkeys, what was handed out, tries, and how a session was opened

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("called", sa.Text(), nullable=False),
        sa.Column("rank", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("totp", sa.Text(), nullable=True),
        sa.Column("totp_new", sa.Text(), nullable=True),
        sa.Column("totp_step", sa.Integer(), nullable=False),
        sa.Column("recovery", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("accounts_name", "accounts", ["name"], unique=True)
    op.create_index("accounts_subject", "accounts", ["role", "subject"])
    op.create_table(
        "passkeys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("synced", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("passkeys_account", "passkeys", ["account"])
    op.create_table(
        "proofs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("proofs_hash", "proofs", ["hash"], unique=True)
    op.create_index("proofs_about", "proofs", ["kind", "about"])
    op.create_index("proofs_expires", "proofs", ["expires"])
    op.create_table(
        "sign_in_tries",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("sign_in_tries_began", "sign_in_tries", ["began"])
    for name in ("account", "way", "browser"):
        op.add_column("tokens", sa.Column(name, sa.Text(), nullable=True))
    op.create_index("tokens_account", "tokens", ["account"])
    op.create_index("tokens_subject", "tokens", ["role", "subject"])
    op.add_column("owners", sa.Column("email_key", sa.Text(), nullable=True))
    op.execute("UPDATE owners SET email_key = lower(email)")
    op.create_index("owners_email", "owners", ["email_key"])


def downgrade() -> None:
    op.drop_index("owners_email", "owners")
    op.drop_column("owners", "email_key")
    op.drop_index("tokens_subject", "tokens")
    op.drop_index("tokens_account", "tokens")
    for name in ("account", "way", "browser"):
        op.drop_column("tokens", name)
    for table in ("sign_in_tries", "proofs", "passkeys", "accounts"):
        op.drop_table(table)
