"""The tables that carry the promises: inbox, outbox, deadlines, and the health probe."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from onefold.ports.tables import Instant, Json, metadata

# SQLite counts rows by itself only in a column declared exactly INTEGER PRIMARY KEY.
_Position = BigInteger().with_variant(Integer, "sqlite")

inbox = Table(
    "onefold_inbox",
    metadata,
    Column("consumer", String(64), primary_key=True),
    Column("event_id", String(255), primary_key=True),
    Column("claimed_at", Instant, nullable=False),
    CheckConstraint("length(consumer) > 0", name="consumer_named"),
)

outbox = Table(
    "onefold_outbox",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=True),
    Column("event_id", String(255), nullable=False, unique=True),
    Column("event_type", String(512), nullable=False),
    Column("key", String(512)),
    # The event's bytes as they will leave: the same at every attempt.
    Column("body", LargeBinary, nullable=False),
    Column("published_at", Instant, nullable=False),
)

deadlines = Table(
    "onefold_deadlines",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("due_at", Instant, nullable=False),
    Column("payload", Json, nullable=False),
    Index(None, "kind", "due_at"),
)

health = Table(
    "onefold_health",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("seen_at", Instant, nullable=False),
)
