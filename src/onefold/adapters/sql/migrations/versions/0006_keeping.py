"""How long an inbox record is kept, and the indexes by which old rows are found."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    # Empty in records of before: they are kept for good, because nobody said how long.
    op.add_column("onefold_inbox", sa.Column("forget_at", _INSTANT, nullable=True))
    op.create_index(
        "ix_onefold_inbox_consumer_forget_at", "onefold_inbox", ["consumer", "forget_at"]
    )
