"""Which delivery a destination's receiver is at; Tradervue's takes one at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("trace_destinations", sa.Column("occupied_by", sa.Uuid(), nullable=True))
    op.execute("UPDATE trace_destinations SET concurrency = 1 WHERE sink = 'tradervue'")
