"""
Trades and their revisions; destinations, subscriptions, pseudonyms; deliveries, attempts.

No index beside a table's key begins with `school_id` where many rows refer to that table: on
one that was never analysed, PostgreSQL would check each reference by reading the school's
rows (tests/integration/trace/test_first_minute.py).
"""

from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Uuid,
    text,
)
from sqlalchemy.types import TypeDecorator

from onefold.ports.tables import Instant, Json, metadata
from onefold_server.domains.directory.tables import schools


class Exact(TypeDecorator[Decimal]):
    """A decimal as the text it came as, on both databases: no binary fraction, no padding."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        return None if value is None else f"{value:f}"

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


# Whose trade it is, and what must never leave: no payload model has a field for any of it.
trades = Table(
    "trace_trades",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("user_id", String(100), nullable=False),
    Column("account_id", String(100), nullable=False),
    Column("private", Json, nullable=False),
    Column("revision", Integer, nullable=False),  # the present one
    Column("created_at", Instant, nullable=False),
    CheckConstraint("revision >= 1", name="revision"),
    Index(None, "user_id", "school_id"),
)

# Facts, never edited: closing and correcting each add one.
revisions = Table(
    "trace_revisions",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("trade_id", Uuid, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("status", String(8), nullable=False),
    Column("instrument", String(32), nullable=False),
    Column("side", String(4), nullable=False),
    Column("mode", String(8), nullable=False),
    Column("entry_time", Instant, nullable=False),
    Column("entry_price", Exact, nullable=False),
    Column("exit_time", Instant),
    Column("exit_price", Exact),
    Column("volume", Exact),
    Column("stop_loss", Exact),
    Column("take_profit", Exact),
    Column("profit_gross", Exact),
    Column("fees", Exact),
    Column("swap", Exact),
    Column("profit_net", Exact),
    Column("currency", String(5)),
    Column("return_pct", Exact),
    Column("r_multiple", Exact),
    Column("not_before", Instant),
    Column("delay_s", Integer),
    Column("recorded_at", Instant, nullable=False),
    ForeignKeyConstraint(["school_id", "trade_id"], [trades.c.school_id, trades.c.id]),
    CheckConstraint("status IN ('open', 'closed')", name="status"),
    CheckConstraint("side IN ('buy', 'sell')", name="side"),
    CheckConstraint("mode IN ('live', 'demo', 'paper')", name="mode"),
    CheckConstraint(
        "status = 'open' OR (exit_time IS NOT NULL AND exit_price IS NOT NULL)", name="closed"
    ),
    CheckConstraint("exit_time IS NULL OR exit_time >= entry_time", name="order"),
    Index(
        "ix_trace_revisions_ended",
        "school_id",
        "exit_time",
        sqlite_where=text("exit_time IS NOT NULL"),
        postgresql_where=text("exit_time IS NOT NULL"),
    ),
    Index(None, "recorded_at"),
)

# What one unit of volume is: where this is not known, no profit is worked out.
instruments = Table(
    "trace_instruments",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    Column("symbol", String(32), primary_key=True),
    Column("contract_size", Exact, nullable=False),
    Column("currency", String(5), nullable=False),
)

destinations = Table(
    "trace_destinations",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("sink", String(64), nullable=False),
    Column("config", Json, nullable=False),
    Column("secrets", Json, nullable=False),  # read by the courier alone; no answer holds them
    Column("state", String(8), nullable=False),
    Column("version", Integer, nullable=False),
    Column("delay_floor_s", Integer, nullable=False),
    Column("schedule", String(16), nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("rate_per_s", Float),
    # What couriers tell each other: when the next attempt may begin by the rate, how many
    # attempts failed in a row, and until when it is left alone.
    Column("next_slot_at", Instant),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("rest_until", Instant),
    Column("created_at", Instant, nullable=False),
    # The delivery that its receiver is at, and has not ended: until then no other is sent.
    Column("occupied_by", Uuid),
    CheckConstraint("state IN ('active', 'paused', 'disabled', 'removed')", name="state"),
    CheckConstraint("concurrency >= 1 AND delay_floor_s >= 0", name="bounds"),
    Index(None, "school_id", "name", unique=True),
)

subscriptions = Table(
    "trace_subscriptions",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("user_id", String(100), nullable=False),
    Column("destination_id", Uuid, nullable=False),
    Column("profile", String(16), nullable=False),
    Column("delay_s", Integer, nullable=False),
    Column("consent_version", String(40), nullable=False),
    Column("since", Instant, nullable=False),
    Column("until", Instant),
    Column("withdrawn_at", Instant),
    # In which order a user's consents for a destination were given: no clock is fine enough.
    Column("number", Integer, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(
        ["school_id", "destination_id"], [destinations.c.school_id, destinations.c.id]
    ),
    CheckConstraint("profile IN ('full', 'no_size', 'result_only')", name="profile"),
    CheckConstraint("until IS NULL OR until > since", name="order"),
    Index(None, "user_id", "school_id", "destination_id", "number", unique=True),
)

# A random surrogate a destination: two trackers cannot join what they were sent.
pseudonyms = Table(
    "trace_pseudonyms",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("destination_id", Uuid, primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("subject", String(140), primary_key=True),
    Column("surrogate", String(26), nullable=False),
    ForeignKeyConstraint(
        ["school_id", "destination_id"], [destinations.c.school_id, destinations.c.id]
    ),
    CheckConstraint("kind IN ('trade', 'account')", name="kind"),
    Index(None, "school_id", "destination_id", "surrogate", unique=True),
)

deliveries = Table(
    "trace_deliveries",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("trade_id", Uuid, nullable=False),
    Column("destination_id", Uuid, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("subscription_id", Uuid, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(40)),  # why it is held, dead or cancelled
    Column("not_before", Instant, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("tries", Integer, nullable=False),  # of the present round; a replay begins anew
    Column("first_due_at", Instant, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("leased_until", Instant),
    # Evidence: what left is exactly these bytes, made once under that policy.
    Column("profile", String(16), nullable=False),
    Column("body", LargeBinary),
    Column("body_sha256", LargeBinary(32)),
    Column("fields", Json),
    Column("policy", String(16)),
    Column("cleared", String(100)),  # who decided that the tripwire may be passed
    Column("last_outcome", String(40)),
    Column("last_status", Integer),
    Column("delivered_at", Instant),
    Column("remote_ref", String(200)),
    Column("created_at", Instant, nullable=False),
    ForeignKeyConstraint(
        ["school_id", "trade_id", "revision"],
        [revisions.c.school_id, revisions.c.trade_id, revisions.c.revision],
    ),
    ForeignKeyConstraint(
        ["school_id", "destination_id"], [destinations.c.school_id, destinations.c.id]
    ),
    ForeignKeyConstraint(
        ["school_id", "subscription_id"], [subscriptions.c.school_id, subscriptions.c.id]
    ),
    CheckConstraint(
        "state IN ('pending', 'leased', 'delivered', 'dead', 'held', 'cancelled')", name="state"
    ),
    CheckConstraint("(state = 'leased') = (leased_until IS NOT NULL)", name="leased"),
    CheckConstraint("(state = 'delivered') = (delivered_at IS NOT NULL)", name="delivered"),
    CheckConstraint("(body IS NULL) = (body_sha256 IS NULL)", name="evidence"),
    Index(None, "id", unique=True),
    Index(None, "trade_id", "school_id", "destination_id", "revision", unique=True),
    Index(None, "destination_id", "state", "next_at"),
    Index(None, "state", "school_id", "next_at"),
    Index(None, "state", "next_at"),
    Index(None, "subscription_id", "school_id"),
)

# How far the reconciler has come in what was recorded, so that no round reads it all.
rounds = Table(
    "trace_rounds",
    metadata,
    Column("name", String(8), primary_key=True),
    Column("recorded_at", Instant, nullable=False),
)

# Append-only: that an attempt was begun, and how it ended, are two rows. A row `began`
# without its end is an attempt of a courier that died.
attempts = Table(
    "trace_attempts",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("delivery_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("fact", String(8), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("outcome", String(40)),
    Column("reason", String(40)),
    Column("status", Integer),
    Column("duration_s", Float),
    ForeignKeyConstraint(["school_id", "delivery_id"], [deliveries.c.school_id, deliveries.c.id]),
    CheckConstraint("fact IN ('began', 'ended')", name="fact"),
    CheckConstraint("(fact = 'ended') = (outcome IS NOT NULL)", name="ended"),
)
