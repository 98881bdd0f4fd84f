"""How far the reconciler of trace has come, and the indexes that it and a withdrawal need."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "trace_rounds",
        sa.Column("name", sa.String(length=8), nullable=False),
        sa.Column("recorded_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trace_rounds")),
    )
    op.create_index("ix_trace_revisions_recorded_at", "trace_revisions", ["recorded_at"])
    op.create_index(
        "ix_trace_deliveries_school_id_subscription_id",
        "trace_deliveries",
        ["school_id", "subscription_id"],
    )
