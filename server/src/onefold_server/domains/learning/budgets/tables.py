"""What may be spent, what was, and what is set aside for calls under way."""

from decimal import Decimal
from typing import Any, Final, cast

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Numeric,
    String,
    Table,
    Uuid,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from onefold.ports.tables import Instant, Json, metadata
from onefold_server.domains.directory.tables import schools, students
from onefold_server.domains.learning.budgets.rules import PLACES

_UNIT: Final = Decimal(1).scaleb(-PLACES)


class Money(TypeDecorator[Decimal]):
    """
    An exact amount with nine decimals; never a float, on neither side.

    PostgreSQL keeps a `numeric(20, 9)`; SQLite, whose numbers with a point are floats, an
    integer of the ninth decimal, so that its sums are exact too.
    """

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(20, PLACES))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return int(value / _UNIT)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None or dialect.name == "postgresql":
            return cast("Decimal | None", value)
        return int(value) * _UNIT


budgets = Table(
    "learning_budgets",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    # Follows from owner and period: each owner has at most one budget a kind of period.
    Column("id", Uuid, primary_key=True),
    Column("student_id", Uuid),  # none: the school's own, under which all its learners spend
    Column("period", String(8), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("limit_amount", Money, nullable=False),
    Column("enforcement", String(8), nullable=False),
    Column("thresholds", Json, nullable=False),
    Column("changed_at", Instant, nullable=False),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    CheckConstraint("period IN ('day', 'week', 'month')", name="period"),
    CheckConstraint("enforcement IN ('warn', 'block')", name="enforcement"),
    CheckConstraint("limit_amount >= 0", name="amount"),
    Index(None, "school_id", "student_id"),
)

periods = Table(
    "learning_budget_periods",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("budget_id", Uuid, primary_key=True),
    Column("starts_at", Instant, primary_key=True),
    Column("ends_at", Instant, nullable=False),
    Column("spent", Money, nullable=False),
    ForeignKeyConstraint(["school_id", "budget_id"], [budgets.c.school_id, budgets.c.id]),
    CheckConstraint("spent >= 0", name="spent"),
    CheckConstraint("ends_at > starts_at", name="order"),
)

reservations = Table(
    "learning_reservations",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("student_id", Uuid, nullable=False),
    Column("amount", Money, nullable=False),
    Column("state", String(8), nullable=False),
    Column("reserved_at", Instant, nullable=False),
    Column("lapses_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("cost", Money),
    Column("provider", String(100)),
    Column("model", String(100)),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    CheckConstraint("state IN ('reserved', 'settled', 'released')", name="state"),
    CheckConstraint("(state = 'reserved') = (ended_at IS NULL)", name="ended"),
    CheckConstraint("(state = 'settled') = (cost IS NOT NULL)", name="cost"),
    CheckConstraint("amount > 0 AND (cost IS NULL OR cost >= 0)", name="amounts"),
    Index(None, "school_id", "student_id", "ended_at"),
)

# One for each budget that a reservation draws on. What is reserved of a budget is the sum
# of its live holds: a crashed caller's lapses because time passes, nobody has to write it.
holds = Table(
    "learning_budget_holds",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("reservation_id", Uuid, primary_key=True),
    Column("budget_id", Uuid, primary_key=True),
    Column("starts_at", Instant, nullable=False),
    Column("amount", Money, nullable=False),
    Column("live_until", Instant),
    ForeignKeyConstraint(
        ["school_id", "reservation_id"], [reservations.c.school_id, reservations.c.id]
    ),
    ForeignKeyConstraint(
        ["school_id", "budget_id", "starts_at"],
        [periods.c.school_id, periods.c.budget_id, periods.c.starts_at],
    ),
    Index("ix_learning_budget_holds_live", "school_id", "budget_id", "starts_at", "live_until"),
)

alerts = Table(
    "learning_budget_alerts",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("budget_id", Uuid, primary_key=True),
    Column("starts_at", Instant, primary_key=True),
    Column("threshold", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    ForeignKeyConstraint(
        ["school_id", "budget_id", "starts_at"],
        [periods.c.school_id, periods.c.budget_id, periods.c.starts_at],
    ),
)
