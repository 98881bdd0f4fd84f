"""Messages of the SQL transport, and who reads them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "onefold_partitions",
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("next_position", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "next_position >= 0", name=op.f("ck_onefold_partitions_next_not_negative")
        ),
        sa.PrimaryKeyConstraint("topic", "number", name="pk_onefold_partitions"),
    )
    op.create_table(
        "onefold_messages",
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("headers", sa.LargeBinary(), nullable=True),
        sa.Column("sent_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["topic", "number"],
            ["onefold_partitions.topic", "onefold_partitions.number"],
            name="fk_onefold_messages_onefold_partitions",
        ),
        sa.PrimaryKeyConstraint("topic", "number", "position", name="pk_onefold_messages"),
    )
    op.create_index("ix_onefold_messages_sent_at", "onefold_messages", ["sent_at"])
    op.create_table(
        "onefold_members",
        sa.Column("group_name", sa.String(length=255), nullable=False),
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("member", sa.String(length=64), nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("group_name", "topic", "member", name="pk_onefold_members"),
    )
    op.create_table(
        "onefold_shares",
        sa.Column("group_name", sa.String(length=255), nullable=False),
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.Column("settled_to", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "fence >= 0 AND settled_to >= 0", name=op.f("ck_onefold_shares_counts_not_negative")
        ),
        sa.ForeignKeyConstraint(
            ["topic", "number"],
            ["onefold_partitions.topic", "onefold_partitions.number"],
            name="fk_onefold_shares_onefold_partitions",
        ),
        sa.PrimaryKeyConstraint("group_name", "topic", "number", name="pk_onefold_shares"),
    )
