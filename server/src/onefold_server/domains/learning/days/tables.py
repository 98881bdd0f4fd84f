"""What a learner did on each day of their own calendar: a read model, and their time zone."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Uuid,
)

from onefold.ports.tables import Instant, metadata
from onefold_server.domains.directory.tables import students

learners = Table(
    "learning_learners",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("student_id", Uuid, primary_key=True),
    Column("zone", String(64), nullable=False),
    Column("changed_at", Instant, nullable=False),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
)

# Nothing stands here that cannot be computed again from sessions, reviews, cards and
# scenario history (`AnalyticsService.recompute`).
days = Table(
    "learning_days",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("student_id", Uuid, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("sessions", Integer, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("items_studied", BigInteger, nullable=False),
    Column("items_correct", BigInteger, nullable=False),
    Column("items_incorrect", BigInteger, nullable=False),
    Column("reviews", Integer, nullable=False),
    Column("reviews_correct", Integer, nullable=False),
    Column("cards_new", Integer, nullable=False),
    Column("scenarios", Integer, nullable=False),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    CheckConstraint("sessions >= 0 AND seconds >= 0 AND reviews >= 0", name="counts"),
    Index(None, "school_id", "day"),
)
