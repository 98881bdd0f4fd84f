"""
The tables of the guard: claims, and what was processed while no guard answered.

Fences come from one counter of the whole database, so that a forgotten claim cannot start
over: the sequence `onefold_fence` on PostgreSQL, the one row of `onefold_fences` on SQLite,
which has no sequences. The migration `0002_claims` makes them.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    column,
)

from onefold.ports.tables import Instant, metadata

claims = Table(
    "onefold_claims",
    metadata,
    Column("consumer", String(64), primary_key=True),
    Column("source", String(255), primary_key=True),
    Column("event_id", String(255), primary_key=True),
    Column("state", String(9), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("owner", String(255), nullable=False),
    Column("until", Instant, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("completed_at", Instant),
    Column("forget_at", Instant),
    Column("result", LargeBinary),
    CheckConstraint("state IN ('leased', 'released', 'completed')", name="state_known"),
    CheckConstraint(
        "(state = 'completed') = (completed_at IS NOT NULL) "
        "AND (completed_at IS NULL) = (forget_at IS NULL)",
        name="completed_whole",
    ),
    Index(
        None,
        "forget_at",
        postgresql_where=column("forget_at").isnot(None),
        sqlite_where=column("forget_at").isnot(None),
    ),
)

unprotected = Table(
    "onefold_unprotected",
    metadata,
    Column("consumer", String(64), primary_key=True),
    Column("source", String(255), primary_key=True),
    Column("event_id", String(255), primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("times", Integer, nullable=False),
    Column("processed_at", Instant, nullable=False),
    Column("settled_at", Instant),
    Column("forget_at", Instant),  # empty in notes of before: nobody wrote down how long
)
