"""Which start was counted last, so that one whose answer was lost is not counted twice."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column(
        "onefold_starts",
        sa.Column("token", sa.String(length=32), server_default=sa.text("''"), nullable=False),
    )
