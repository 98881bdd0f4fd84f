"""
The tables of the SQL transport: topics, their messages, who reads them.

A partition's row in `onefold_partitions` is locked while messages are appended to it, so
that positions rise in the order of commits: a reader never sees a position before a lower
one. The migration `0003_messages` makes these tables.
"""

import msgspec
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from onefold.ports.tables import Instant, metadata

partitions = Table(
    "onefold_partitions",
    metadata,
    Column("topic", String(255), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("next_position", BigInteger, nullable=False),
    CheckConstraint("next_position >= 0", name="next_not_negative"),
)

messages = Table(
    "onefold_messages",
    metadata,
    Column("topic", String(255), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", LargeBinary),  # MessagePack, an array of pairs; NULL for none
    Column("sent_at", Instant, nullable=False),
    ForeignKeyConstraint(
        ["topic", "number"], ["onefold_partitions.topic", "onefold_partitions.number"]
    ),
    Index(None, "sent_at"),
)

members = Table(
    "onefold_members",
    metadata,
    Column("group_name", String(255), primary_key=True),
    Column("topic", String(255), primary_key=True),
    Column("member", String(64), primary_key=True),
    Column("until", Instant, nullable=False),
)

shares = Table(
    "onefold_shares",
    metadata,
    Column("group_name", String(255), primary_key=True),
    Column("topic", String(255), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("until", Instant, nullable=False),
    Column("settled_to", BigInteger, nullable=False),
    CheckConstraint("fence >= 0 AND settled_to >= 0", name="counts_not_negative"),
    ForeignKeyConstraint(
        ["topic", "number"], ["onefold_partitions.topic", "onefold_partitions.number"]
    ),
)

_Headers = tuple[tuple[str, bytes], ...]


def headers_of(packed: bytes | None) -> _Headers:
    """What the column `headers` holds."""
    return msgspec.msgpack.decode(packed, type=_Headers) if packed else ()
