"""Cards, one a learner, language and word, and every answer ever given to them."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    Uuid,
)

from onefold.ports.tables import Instant, Json, metadata
from onefold_server.domains.directory.tables import students

cards = Table(
    "learning_cards",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    # Follows from learner, language and word: two that add it at once make one card.
    Column("id", Uuid, primary_key=True),
    Column("student_id", Uuid, nullable=False),
    Column("language", String(35), nullable=False),
    Column("word", String(200), nullable=False),
    Column("word_key", String(400), nullable=False),
    Column("back", String(2000), nullable=False),
    Column("source_kind", String(16), nullable=False),
    Column("source_id", String(100)),
    Column("scheduler", String(8), nullable=False),
    Column("memory", Json, nullable=False),
    Column("due_at", Instant, nullable=False),
    # In how many days recall falls to 90 % (fsrs), or the interval (sm2).
    Column("strength_days", Float, nullable=False),
    Column("reviews", Integer, nullable=False),
    Column("lapses", Integer, nullable=False),
    Column("met", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("school_id", "student_id", "language", "word_key"),
    UniqueConstraint("school_id", "id", "student_id"),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    CheckConstraint("scheduler IN ('fsrs', 'sm2')", name="scheduler"),
    CheckConstraint("source_kind IN ('scenario', 'manual', 'import')", name="source_kind"),
    CheckConstraint("reviews >= 0 AND lapses >= 0 AND met > 0", name="counts"),
    Index(None, "school_id", "student_id", "due_at", "id"),
)

reviews = Table(
    "learning_reviews",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("card_id", Uuid, nullable=False),
    Column("student_id", Uuid, nullable=False),
    Column("answer", SmallInteger, nullable=False),
    Column("at", Instant, nullable=False),
    # The chance of remembering that the scheduler had foreseen; none at a first answer.
    Column("expected", Float),
    Column("due_before", Instant, nullable=False),
    Column("due_after", Instant, nullable=False),
    ForeignKeyConstraint(
        ["school_id", "card_id", "student_id"], [cards.c.school_id, cards.c.id, cards.c.student_id]
    ),
    CheckConstraint("answer BETWEEN 1 AND 4", name="answer"),
    Index(None, "school_id", "student_id", "at"),
    Index(None, "school_id", "card_id", "at"),
)
