"""Learning sessions and the changes that made them what they are."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Uuid,
    text,
)

from onefold.ports.tables import Instant, Json, metadata
from onefold_server.domains.directory.tables import students

sessions = Table(
    "learning_sessions",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("student_id", Uuid, nullable=False),
    Column("session_type", String(50), nullable=False),
    Column("source_id", String(100)),
    Column("language", String(35), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("items_studied", Integer, nullable=False),
    Column("items_correct", Integer, nullable=False),
    Column("items_incorrect", Integer, nullable=False),
    Column("metadata", Json, nullable=False),
    # Counts every change; `revision` counts the corrections after the end.
    Column("version", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    # What `start` was told: a repeat is told from another session under the same id.
    Column("started_as", LargeBinary(32), nullable=False),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    CheckConstraint("state IN ('open', 'completed', 'abandoned')", name="state"),
    CheckConstraint("(state = 'open') = (ended_at IS NULL)", name="ended"),
    CheckConstraint("ended_at >= started_at", name="order"),
    CheckConstraint(
        "items_studied >= 0 AND items_correct >= 0 AND items_incorrect >= 0", name="counts"
    ),
    CheckConstraint("version > 0 AND revision >= 0", name="versions"),
    Index(None, "school_id", "student_id", "started_at", "id"),
    Index(None, "school_id", "started_at", "id"),
    Index(
        "ix_learning_sessions_open",
        "changed_at",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)

changes = Table(
    "learning_changes",
    metadata,
    # The key that makes a change count once, whatever device sends it again.
    Column("school_id", Uuid, primary_key=True),
    Column("session_id", Uuid, primary_key=True),
    Column("change_id", Uuid, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("content", Json, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    ForeignKeyConstraint(["school_id", "session_id"], [sessions.c.school_id, sessions.c.id]),
)
