"""Which call noted a span, and what it was answered, so that a lost answer can be given again."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column(
        "onefold_spans",
        sa.Column("token", sa.String(length=32), server_default=sa.text("''"), nullable=False),
    )
    op.add_column("onefold_spans", sa.Column("before_first", sa.BigInteger(), nullable=True))
    op.add_column("onefold_spans", sa.Column("before_last", sa.BigInteger(), nullable=True))
    op.add_column("onefold_spans", sa.Column("before_token", sa.String(length=32), nullable=True))
