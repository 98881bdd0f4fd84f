"""Deadlines ordered by the bytes of their keys: PostgreSQL rebuilds the indexes."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":  # it compares bytes anyway
        return
    for name, length in (("kind", 64), ("key", 200)):
        op.alter_column(
            "onefold_deadlines",
            name,
            type_=sa.String(length, collation="C"),
            existing_nullable=False,
        )
