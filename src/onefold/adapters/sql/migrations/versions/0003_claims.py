"""Claims of the guard, their fences, and what was processed while no guard answered."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
_IN_COMPLETION = sa.text("forget_at IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "onefold_claims",
        sa.Column("consumer", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("completed_at", _INSTANT, nullable=True),
        sa.Column("forget_at", _INSTANT, nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "state IN ('leased', 'released', 'completed')",
            name=op.f("ck_onefold_claims_state_known"),
        ),
        sa.CheckConstraint(
            "(state = 'completed') = (completed_at IS NOT NULL) "
            "AND (completed_at IS NULL) = (forget_at IS NULL)",
            name=op.f("ck_onefold_claims_completed_whole"),
        ),
        sa.PrimaryKeyConstraint("consumer", "source", "event_id", name="pk_onefold_claims"),
    )
    op.create_index(
        "ix_onefold_claims_forget_at",
        "onefold_claims",
        ["forget_at"],
        postgresql_where=_IN_COMPLETION,
        sqlite_where=_IN_COMPLETION,
    )
    op.create_table(
        "onefold_unprotected",
        sa.Column("consumer", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("processed_at", _INSTANT, nullable=False),
        sa.Column("settled_at", _INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("consumer", "source", "event_id", name="pk_onefold_unprotected"),
    )
    _count_fences()


def _count_fences() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # CACHE 1: a backend that took numbers ahead would hand out lower fences later.
        op.execute("CREATE SEQUENCE onefold_fence AS bigint CACHE 1")
        return
    op.execute("CREATE TABLE onefold_fences (last INTEGER NOT NULL)")
    op.execute("INSERT INTO onefold_fences (last) VALUES (0)")
