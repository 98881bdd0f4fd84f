"""Until when what ran without a guard is to be remembered once it is settled."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    # Empty in notes of before: those are kept for the default time.
    op.add_column("onefold_unprotected", sa.Column("forget_at", _INSTANT, nullable=True))
