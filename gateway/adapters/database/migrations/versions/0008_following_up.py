"""Cases, questions that wait, results of jobs, and what was measured

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

DAY_MS = 86_400_000


def upgrade() -> None:
    _cases()
    _questions()
    _results()
    _measured()


def _questions() -> None:
    """A question may wait for room in the budget, and one on the way is about no touchpoint."""
    with op.batch_alter_table("feedback") as feedback:
        feedback.alter_column("touchpoint", existing_type=sa.Text(), nullable=True)
        feedback.add_column(sa.Column("device", sa.Text(), nullable=True))
        feedback.add_column(sa.Column("state", sa.Text(), server_default="asked", nullable=False))
        feedback.add_column(sa.Column("give_up_at", sa.BigInteger(), nullable=True))
        feedback.add_column(sa.Column("expected", sa.Text(), nullable=True))
    op.create_index("feedback_due", "feedback", ["state", "asked_at"], unique=False)
    scores = ["question", "asked_at", "state", "score", "expected"]
    op.create_index("feedback_scores", "feedback", scores, unique=False)
    op.create_table(
        "nps_due",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.PrimaryKeyConstraint("owner"),
    )
    op.create_index("nps_due_at", "nps_due", ["at"], unique=False)


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("touchpoint", sa.Text(), nullable=False),
        sa.Column("appointment", sa.Text(), nullable=False),
        sa.Column("workshop", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rules", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("services", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=False),
        sa.Column("look_at", sa.BigInteger(), nullable=False),
        sa.Column("helped", sa.Boolean(), nullable=True),
        sa.Column("in_time", sa.Boolean(), nullable=True),
        sa.Column("in_price", sa.Boolean(), nullable=True),
        sa.Column("messages", sa.Integer(), nullable=True),
        sa.Column("contacts", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["touchpoint"], ["touchpoints.id"]),
        sa.PrimaryKeyConstraint("touchpoint"),
    )
    op.create_index("results_device", "results", ["device", "done_at"], unique=False)
    op.create_index("results_owner", "results", ["owner"], unique=False)
    op.create_index("results_look", "results", ["helped", "look_at"], unique=False)
    op.create_index("results_done", "results", ["done_at"], unique=False)


def _measured() -> None:
    op.create_table(
        "measured_days",
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("times", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("by", "day", "key"),
    )
    op.create_table(
        "stale_days",
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )
    op.create_index("stale_days_due", "stale_days", ["due_at"], unique=False)
    # What was found before is measured too.
    op.execute(f"INSERT INTO stale_days (day, due_at) SELECT DISTINCT found_at / {DAY_MS}, 0 FROM findings")


def _cases() -> None:
    op.create_table(
        "cases",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("touchpoint", sa.Text(), nullable=True),
        sa.Column("appointment", sa.Text(), nullable=True),
        sa.Column("workshop", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("responsible", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("history", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("cases_due", "cases", ["state", "due_at", "id"], unique=False)
    op.create_index("cases_owner", "cases", ["owner", "id"], unique=False)
    op.create_index("cases_touchpoint", "cases", ["touchpoint"], unique=False)
    op.create_index("cases_device", "cases", ["device", "id"], unique=False)
    op.create_index("cases_workshop", "cases", ["workshop", "state", "due_at", "id"], unique=False)


def downgrade() -> None:
    for table in ("stale_days", "measured_days", "results", "nps_due", "cases"):
        op.drop_table(table)
    op.execute("DELETE FROM feedback WHERE touchpoint IS NULL OR state <> 'asked'")
    for index in ("feedback_due", "feedback_scores"):
        op.drop_index(index, "feedback")
    with op.batch_alter_table("feedback") as feedback:
        for name in ("device", "state", "give_up_at", "expected"):
            feedback.drop_column(name)
        feedback.alter_column("touchpoint", existing_type=sa.Text(), nullable=False)
