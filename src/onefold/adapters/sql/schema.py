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
    text,
)

from onefold.ports.tables import Instant, Json, metadata

# SQLite counts rows by itself only in a column declared exactly INTEGER PRIMARY KEY.
_Position = BigInteger().with_variant(Integer, "sqlite")

inbox = Table(
    "onefold_inbox",
    metadata,
    Column("consumer", String(64), primary_key=True),
    Column("event_id", String(255), primary_key=True),
    Column("fingerprint", LargeBinary(32)),
    Column("claimed_at", Instant, nullable=False),
    Column("forget_at", Instant),  # not before then; never while it is empty
    CheckConstraint("length(consumer) > 0", name="consumer_named"),
    Index(None, "consumer", "forget_at"),
)

outbox = Table(
    "onefold_outbox",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=True),
    Column("event_id", String(255), nullable=False, unique=True),
    Column("event_type", String(512), nullable=False),
    Column("key", String(512)),
    # The event as it was published; what leaves is made from it, the same at every attempt.
    Column("body", LargeBinary, nullable=False),
    Column("published_at", Instant, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_at", Instant),
    Column("last_error", String(1000)),
    # Ended: sent, or dead and waiting for a person. A dead row blocks its key alone.
    Column("sent_at", Instant),
    Column("dead_at", Instant),
    Index(
        "ix_onefold_outbox_waiting",
        "shard",
        "position",
        sqlite_where=text("sent_at IS NULL"),
        postgresql_where=text("sent_at IS NULL"),
    ),
)

# Which relay sends the rows of a shard: one at a time, so that keys keep their order.
relay_shards = Table(
    "onefold_relay_shards",
    metadata,
    Column("shard", Integer, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("leased_until", Instant, nullable=False),
)


# In the order of their bytes on every server: a language's order costs more, differs from that
# of the other adapters, and may change with a C library under an index.
def _name(length: int) -> String:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


deadlines = Table(
    "onefold_deadlines",
    metadata,
    Column("kind", _name(64), primary_key=True),
    Column("key", _name(200), primary_key=True),
    Column("due_at", Instant, nullable=False),
    Column("payload", Json, nullable=False),
    # Rises with every claim and move. A lease is `due_at` moved to the lease's end.
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    # The key too: what is due is read in this order, and never sorted (1 M due at once).
    Index(None, "kind", "due_at", "key"),
)

# The last span of messages each consumer began in each partition.
spans = Table(
    "onefold_spans",
    metadata,
    Column("consumer", String(64), primary_key=True),
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("begun_at", Instant, nullable=False),
    Column("token", String(32), nullable=False, server_default=text("''")),  # of that call
    # What that call was answered: the span it found, if any.
    Column("before_first", BigInteger),
    Column("before_last", BigInteger),
    Column("before_token", String(32)),
)

# How often a message that failed or may kill its worker was begun alone.
starts = Table(
    "onefold_starts",
    metadata,
    Column("consumer", String(64), primary_key=True),
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("starts", Integer, nullable=False),
    Column("begun_at", Instant, nullable=False),
    Column("token", String(32), nullable=False, server_default=text("''")),  # of the last one
)

# The last position applied, of consumers that keep that and no inbox row per event.
watermarks = Table(
    "onefold_watermarks",
    metadata,
    Column("consumer", String(64), primary_key=True),
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("advanced_at", Instant, nullable=False),
)

dead_letters = Table(
    "onefold_dead_letters",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("consumer", String(64), nullable=False),
    Column("topic", String(249), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("event_id", String(36)),
    Column("event_type", String(512)),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", Json, nullable=False),
    Column("reason", String(100), nullable=False),
    Column("detail", String(1000), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("parked_at", Instant, nullable=False),
    Column("state", String(16), nullable=False),
    Column("note", String(1000)),
    Column("moved_at", Instant),
    CheckConstraint("state IN ('parked', 'asked', 'replayed', 'discarded')", name="state"),
    Index(None, "consumer", "state", "parked_at"),
)

health = Table(
    "onefold_health",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("seen_at", Instant, nullable=False),
)
