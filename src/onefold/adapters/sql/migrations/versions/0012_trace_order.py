"""In which order a user's consents for a destination were given."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column(
        "trace_subscriptions",
        sa.Column("number", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    # What is there keeps the order that it was read in until now.
    op.execute(
        """
        UPDATE trace_subscriptions SET number = (
            SELECT count(*) FROM trace_subscriptions AS given
            WHERE given.school_id = trace_subscriptions.school_id
            AND given.user_id = trace_subscriptions.user_id
            AND given.destination_id = trace_subscriptions.destination_id
            AND (given.since < trace_subscriptions.since
                 OR given.since = trace_subscriptions.since AND given.id <= trace_subscriptions.id)
        )
        """
    )
    op.drop_index(op.f("ix_trace_subscriptions_school_id_user_id"), "trace_subscriptions")
    op.create_index(
        op.f("ix_trace_subscriptions_school_id_user_id_destination_id_number"),
        "trace_subscriptions",
        ["school_id", "user_id", "destination_id", "number"],
        unique=True,
    )
