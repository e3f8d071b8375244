"""The audit log by day: who looked, and who signed in

Revision: 0013, after 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("access_log_day", "access_log", ["day", "at"])
    op.create_index("tokens_created", "tokens", ["created"])


def downgrade() -> None:
    op.drop_index("tokens_created", "tokens")
    op.drop_index("access_log_day", "access_log")
