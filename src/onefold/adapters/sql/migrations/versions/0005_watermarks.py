"""How far into each partition the consumers with `record="watermark"` have come."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "onefold_watermarks",
        sa.Column("consumer", sa.String(length=64), nullable=False),
        sa.Column("topic", sa.String(length=249), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("advanced_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("consumer", "topic", "partition", name="pk_onefold_watermarks"),
    )
