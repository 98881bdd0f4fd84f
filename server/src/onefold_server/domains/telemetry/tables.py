"""Events, the sessions they make up, the features of closed sessions, and batches."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    text,
)

from onefold.ports.tables import Instant, Json, metadata
from onefold_server.domains.directory.tables import schools, students

sessions = Table(
    "telemetry_sessions",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("student_id", Uuid, nullable=False),
    Column("mission_id", String(100)),
    Column("game_version", String(20)),
    # Event time: of the first and the last event, whenever and in what order they came.
    Column("started_at", Instant, nullable=False),
    Column("last_event_at", Instant, nullable=False),
    Column("event_count", Integer, nullable=False),
    # Server time of the close; the session is open while it is null.
    Column("closed_at", Instant),
    Column("closed_by", String(16)),
    Column("revision", Integer, nullable=False),
    UniqueConstraint("school_id", "id", "student_id"),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    CheckConstraint("event_count >= 0", name="event_count"),
    CheckConstraint("closed_by IN ('request', 'idle')", name="closed_by"),
    CheckConstraint("(closed_at IS NULL) = (closed_by IS NULL)", name="closed"),
    CheckConstraint("(closed_at IS NULL) = (revision = 0)", name="revision"),
    Index(None, "school_id", "student_id", "started_at", "id"),
    Index(None, "school_id", "started_at", "id"),
    Index(
        "ix_telemetry_sessions_open",
        "last_event_at",
        sqlite_where=text("closed_at IS NULL"),
        postgresql_where=text("closed_at IS NULL"),
    ),
)

events = Table(
    "telemetry_events",
    metadata,
    # The key that makes an event count once, through whichever door it comes.
    Column("school_id", Uuid, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("session_id", Uuid, nullable=False),
    Column("student_id", Uuid, nullable=False),
    Column("event_type", String(100), nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("batch_id", Uuid),
    Column("mission_id", String(100)),
    Column("game_version", String(20)),
    Column("client_version", String(20)),
    Column("data", Json, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    # The third column makes an event of another pupil impossible in a session.
    ForeignKeyConstraint(
        ["school_id", "session_id", "student_id"],
        [sessions.c.school_id, sessions.c.id, sessions.c.student_id],
    ),
    Index(None, "school_id", "session_id", "occurred_at", "event_id"),
)

features = Table(
    "telemetry_features",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("session_id", Uuid, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("computed_at", Instant, nullable=False),
    Column("version", Integer, nullable=False),
    Column("profile", String(16), nullable=False),
    Column("event_count", Integer, nullable=False),
    Column("metrics", Json, nullable=False),
    Column("undefined", Json, nullable=False),
    Column("event_types", Json, nullable=False),
    ForeignKeyConstraint(["school_id", "session_id"], [sessions.c.school_id, sessions.c.id]),
    CheckConstraint("revision > 0", name="revision"),
)

# How many events a school was refused, for each reason.
refusals = Table(
    "telemetry_refusals",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    Column("code", String(64), primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("last_at", Instant, nullable=False),
)

batches = Table(
    "telemetry_batches",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    Column("id", Uuid, primary_key=True),
    # Whose own key sent it first, if it was a pupil's.
    Column("student_id", Uuid),
    Column("client_version", String(20)),
    Column("received_at", Instant, nullable=False),
    Column("last_received_at", Instant, nullable=False),
    # How often the batch came, and what became of its events over all those times.
    Column("posts", Integer, nullable=False),
    Column("applied", Integer, nullable=False),
    Column("repeated", Integer, nullable=False),
    # Of its latest post: a mended batch has none left.
    Column("refused", Json, nullable=False),
)
