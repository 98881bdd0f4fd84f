"""Studied content, its topics, and the materials derived from it."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from onefold.ports.tables import Instant, Json, metadata
from onefold_server.domains.directory.tables import students

# Beside these tables, migration 0002 makes the full-text indexes: an FTS5 table that
# triggers keep in step on SQLite, a GIN index over `to_tsvector` on PostgreSQL.
content = Table(
    "learning_content",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    # Follows from learner and text: the same text saved twice is one.
    Column("id", Uuid, primary_key=True),
    Column("student_id", Uuid, nullable=False),
    Column("content_hash", LargeBinary(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("title", String(500), nullable=False),
    Column("language", String(35), nullable=False),
    Column("source_url", String(1000)),
    Column("body", Text, nullable=False),
    Column("word_count", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    # What is searched: words as `rules.search_words` spells them, for both databases alike.
    Column("search_id", BigInteger, nullable=False),
    Column("title_words", Text, nullable=False),
    Column("body_words", Text, nullable=False),
    UniqueConstraint("search_id"),
    UniqueConstraint("school_id", "student_id", "content_hash"),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    CheckConstraint("kind IN ('document', 'transcript', 'link', 'note')", name="kind"),
    CheckConstraint("word_count >= 0", name="words"),
    Index(None, "school_id", "student_id", "created_at", "id"),
)

topics = Table(
    "learning_content_topics",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("content_id", Uuid, primary_key=True),
    Column("topic", String(50), primary_key=True),
    ForeignKeyConstraint(
        ["school_id", "content_id"], [content.c.school_id, content.c.id], ondelete="CASCADE"
    ),
    Index(None, "school_id", "topic"),
)

materials = Table(
    "learning_materials",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    # Follows from content, kind and title: saved again, a material is replaced.
    Column("id", Uuid, primary_key=True),
    Column("content_id", Uuid, nullable=False),
    Column("kind", String(24), nullable=False),
    Column("title", String(500), nullable=False),
    Column("body", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    ForeignKeyConstraint(
        ["school_id", "content_id"], [content.c.school_id, content.c.id], ondelete="CASCADE"
    ),
    CheckConstraint(
        "kind IN ('summary', 'flashcards', 'quiz', 'notes', 'mind_map', 'key_concepts', "
        "'practice_questions')",
        name="kind",
    ),
    Index(None, "school_id", "content_id"),
)
