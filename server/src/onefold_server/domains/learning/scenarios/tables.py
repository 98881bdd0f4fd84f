"""Schools' own scenarios, attempts at scenarios with their turns, and finished ones."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    Uuid,
)

from onefold.ports.tables import Instant, Json, metadata
from onefold_server.domains.directory.tables import schools, students

definitions = Table(
    "learning_scenarios",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    Column("id", String(100), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("definition", Json, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("imported_at", Instant, nullable=False),
    Column("retired_at", Instant),
    CheckConstraint("version > 0", name="version"),
)

attempts = Table(
    "learning_attempts",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("student_id", Uuid, nullable=False),
    Column("scenario_id", String(100), nullable=False),
    Column("scenario_version", Integer, nullable=False),
    Column("language", String(35), nullable=False),
    # The script as it was at the start: an attempt ends by the rules it began with.
    Column("script", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("phase", Integer, nullable=False),
    Column("progress", Json, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("ended_at", Instant),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    CheckConstraint("state IN ('active', 'completed', 'abandoned')", name="state"),
    CheckConstraint("(state = 'active') = (ended_at IS NULL)", name="ended"),
    CheckConstraint("phase >= 0 AND turns >= 0", name="counts"),
    Index(None, "school_id", "student_id", "started_at", "id"),
    Index(None, "state", "changed_at"),
)

turns = Table(
    "learning_turns",
    metadata,
    # The key that makes a turn count once, though it was sent again.
    Column("school_id", Uuid, primary_key=True),
    Column("attempt_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("phase", Integer, nullable=False),
    Column("said", Text, nullable=False),
    Column("verdict", Json, nullable=False),
    Column("answer", Json, nullable=False),
    Column("at", Instant, nullable=False),
    ForeignKeyConstraint(["school_id", "attempt_id"], [attempts.c.school_id, attempts.c.id]),
    CheckConstraint("phase >= 0", name="phase"),
)

history = Table(
    "learning_scenario_history",
    metadata,
    # One row an attempt: completing twice is completing once.
    Column("school_id", Uuid, primary_key=True),
    Column("attempt_id", Uuid, primary_key=True),
    Column("student_id", Uuid, nullable=False),
    Column("session_id", Uuid, nullable=False),
    Column("scenario_id", String(100), nullable=False),
    Column("scenario_version", Integer, nullable=False),
    Column("language", String(35), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant, nullable=False),
    Column("duration_s", Integer, nullable=False),
    Column("phases_completed", Integer, nullable=False),
    Column("phases_total", Integer, nullable=False),
    Column("vocabulary_mastered", Json, nullable=False),
    Column("objectives_completed", Json, nullable=False),
    Column("cards_created", Json, nullable=False),
    Column("cards_strengthened", Json, nullable=False),
    Column("items_studied", Integer, nullable=False),
    Column("items_correct", Integer, nullable=False),
    Column("success_rate", Float, nullable=False),
    Column("completion_score", Float, nullable=False),
    ForeignKeyConstraint(["school_id", "attempt_id"], [attempts.c.school_id, attempts.c.id]),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    ForeignKeyConstraint(
        ["school_id", "session_id"], ["learning_sessions.school_id", "learning_sessions.id"]
    ),
    CheckConstraint("outcome IN ('completed', 'abandoned')", name="outcome"),
    CheckConstraint("success_rate BETWEEN 0 AND 1", name="rate"),
    CheckConstraint("items_correct BETWEEN 0 AND items_studied", name="items"),
    CheckConstraint("phases_completed BETWEEN 0 AND phases_total", name="phases"),
    Index(
        "ix_learning_scenario_history_newest", "school_id", "student_id", "ended_at", "attempt_id"
    ),
)
