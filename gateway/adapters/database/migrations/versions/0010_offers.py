"""How many offers a week an owner allows

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("preferences", sa.Column("marketing_budget", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("preferences", "marketing_budget")
