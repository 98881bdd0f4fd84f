"""Learning: sessions, scenarios, cards and reviews, content, budgets, days."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
# SQLite has no decimal: there it is an integer of 1e-9.
_MONEY = sa.BigInteger().with_variant(sa.Numeric(20, 9), "postgresql")


def upgrade() -> None:

    op.create_table(
        "learning_days",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("sessions", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.BigInteger(), nullable=False),
        sa.Column("items_studied", sa.BigInteger(), nullable=False),
        sa.Column("items_correct", sa.BigInteger(), nullable=False),
        sa.Column("items_incorrect", sa.BigInteger(), nullable=False),
        sa.Column("reviews", sa.Integer(), nullable=False),
        sa.Column("reviews_correct", sa.Integer(), nullable=False),
        sa.Column("cards_new", sa.Integer(), nullable=False),
        sa.Column("scenarios", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "sessions >= 0 AND seconds >= 0 AND reviews >= 0", name="ck_learning_days_counts"
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name="fk_learning_days_students",
        ),
        sa.PrimaryKeyConstraint("school_id", "student_id", "day", name="pk_learning_days"),
    )
    op.create_index(
        "ix_learning_days_school_id_day", "learning_days", ["school_id", "day"], unique=False
    )
    op.create_table(
        "learning_learners",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("changed_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name="fk_learning_learners_students",
        ),
        sa.PrimaryKeyConstraint("school_id", "student_id", name="pk_learning_learners"),
    )
    op.create_table(
        "learning_sessions",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("session_type", sa.String(length=50), nullable=False),
        sa.Column("source_id", sa.String(length=100), nullable=True),
        sa.Column("language", sa.String(length=35), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("changed_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.Column("items_studied", sa.Integer(), nullable=False),
        sa.Column("items_correct", sa.Integer(), nullable=False),
        sa.Column("items_incorrect", sa.Integer(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("started_as", sa.LargeBinary(length=32), nullable=False),
        sa.CheckConstraint(
            "(state = 'open') = (ended_at IS NULL)", name="ck_learning_sessions_ended"
        ),
        sa.CheckConstraint(
            "state IN ('open', 'completed', 'abandoned')", name="ck_learning_sessions_state"
        ),
        sa.CheckConstraint("ended_at >= started_at", name="ck_learning_sessions_order"),
        sa.CheckConstraint(
            "items_studied >= 0 AND items_correct >= 0 AND items_incorrect >= 0",
            name="ck_learning_sessions_counts",
        ),
        sa.CheckConstraint("version > 0 AND revision >= 0", name="ck_learning_sessions_versions"),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name="fk_learning_sessions_students",
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name="pk_learning_sessions"),
    )
    op.create_index(
        "ix_learning_sessions_open",
        "learning_sessions",
        ["changed_at"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "ix_learning_sessions_school_id_started_at_id",
        "learning_sessions",
        ["school_id", "started_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_learning_sessions_school_id_student_id_started_at_id",
        "learning_sessions",
        ["school_id", "student_id", "started_at", "id"],
        unique=False,
    )
    op.create_table(
        "learning_changes",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("change_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("content", _JSON, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["school_id", "session_id"],
            ["learning_sessions.school_id", "learning_sessions.id"],
            name="fk_learning_changes_learning_sessions",
        ),
        sa.PrimaryKeyConstraint("school_id", "session_id", "change_id", name="pk_learning_changes"),
    )
