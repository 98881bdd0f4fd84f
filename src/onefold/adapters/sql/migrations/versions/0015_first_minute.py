"""
Trace: indexes that no foreign key's check falls for while the tables are new.

PostgreSQL plans the check of a foreign key once a connection, and as long as the table is
nearly empty an index of its first column alone seems as good as the key. That plan stayed
until the table was analysed, and read all of a school's rows for each new one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_Turned = tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]

_TURNED: _Turned = (
    ("trace_trades", ("school_id", "user_id"), ("user_id", "school_id")),
    ("trace_deliveries", ("school_id", "state", "next_at"), ("state", "school_id", "next_at")),
    ("trace_deliveries", ("school_id", "subscription_id"), ("subscription_id", "school_id")),
)
_UNIQUE: _Turned = (
    (
        "trace_subscriptions",
        ("school_id", "user_id", "destination_id", "number"),
        ("user_id", "school_id", "destination_id", "number"),
    ),
    (
        "trace_deliveries",
        ("school_id", "trade_id", "destination_id", "revision"),
        ("trade_id", "school_id", "destination_id", "revision"),
    ),
)


def upgrade() -> None:
    for table, before, after in _TURNED:
        op.drop_index(f"ix_{table}_{'_'.join(before)}", table)
        op.create_index(f"ix_{table}_{'_'.join(after)}", table, list(after))
    for table, before, after in _UNIQUE:
        op.drop_index(f"ix_{table}_{'_'.join(before)}", table)
        op.create_index(f"ix_{table}_{'_'.join(after)}", table, list(after), unique=True)
    op.drop_index("ix_trace_revisions_school_id_status_exit_time", "trace_revisions")
    ended = sa.text("exit_time IS NOT NULL")
    op.create_index(
        "ix_trace_revisions_ended",
        "trace_revisions",
        ["school_id", "exit_time"],
        sqlite_where=ended,
        postgresql_where=ended,
    )
