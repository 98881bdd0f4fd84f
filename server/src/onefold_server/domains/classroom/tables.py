"""
Classes, who is in them, batches of essays, and who wrote each essay.

What was suggested and what was decided are separate columns: deciding erases no suggestion.
"""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    text,
)

from onefold.ports.tables import Instant, Json, metadata
from onefold_server.domains.directory.tables import schools, students

# The same in every school; filled by the migration that creates it.
courses = Table(
    "classroom_courses",
    metadata,
    Column("code", String(10), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("language", String(2), nullable=False),
    CheckConstraint("language IN ('en', 'sv')", name="language"),
)

classes = Table(
    "classroom_classes",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("course_code", String(10), ForeignKey(courses.c.code), nullable=False),
    Column("owner", String(100), nullable=False),  # a principal's name
    Column("created_at", Instant, nullable=False),
    Column("deleted_at", Instant),
    # An event names the class alone: its id leads to its school.
    Index(None, "id", unique=True),
    Index(None, "school_id", "owner", "created_at", "id"),
)

enrolments = Table(
    "classroom_enrolments",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("class_id", Uuid, primary_key=True),
    Column("student_id", Uuid, primary_key=True),
    Column("enrolled_at", Instant, nullable=False),
    Column("left_at", Instant),
    ForeignKeyConstraint(["school_id", "class_id"], [classes.c.school_id, classes.c.id]),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    Index(None, "school_id", "student_id"),
)

batches = Table(
    "classroom_batches",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("class_id", Uuid, nullable=False),
    Column("total", Integer, nullable=False),  # essays, as the last event has it
    Column("received_at", Instant, nullable=False),
    Column("deadline", Instant, nullable=False),
    # When a worker looks at it next: the deadline, or later after a failure; NULL when over.
    Column("due_at", Instant),
    Column("failures", Integer, nullable=False),
    Column("closed_at", Instant),
    Column("revision", Integer, nullable=False),  # counts re-openings: part of the event's id
    ForeignKeyConstraint(["school_id", "class_id"], [classes.c.school_id, classes.c.id]),
    CheckConstraint("total >= 0 AND failures >= 0 AND revision > 0", name="counts"),
    CheckConstraint("closed_at IS NULL OR due_at IS NULL", name="over"),
    CheckConstraint("deadline >= received_at", name="order"),
    UniqueConstraint("school_id", "id", "class_id"),  # what an association points at
    Index(None, "school_id", "class_id", "received_at", "id"),
    Index(
        "ix_classroom_batches_due",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
)

associations = Table(
    "classroom_associations",
    metadata,
    # One an essay and school, whatever the batch: this key decides, never a look before.
    Column("school_id", Uuid, primary_key=True),
    Column("essay_id", Uuid, primary_key=True),
    Column("batch_id", Uuid, nullable=False),
    Column("class_id", Uuid, nullable=False),
    Column("file_name", String(255)),
    Column("source", String(100), nullable=False),
    Column("suggested_at", Instant, nullable=False),
    Column("suggested_student_id", Uuid),
    Column("score", Float),
    Column("ambiguous", Boolean, nullable=False),
    Column("reasons", Json, nullable=False),
    Column("alternatives", Json, nullable=False),
    Column("note", String(200)),  # why there is no suggestion
    Column("revision", Integer, nullable=False),  # counts better suggestions
    Column("status", String(20), nullable=False),
    Column("student_id", Uuid),
    Column("method", String(10)),
    Column("validated_by", String(100)),
    Column("validated_at", Instant),
    ForeignKeyConstraint(
        ["school_id", "batch_id", "class_id"],
        [batches.c.school_id, batches.c.id, batches.c.class_id],
    ),
    # Only pupils of the class: the database would refuse another.
    ForeignKeyConstraint(
        ["school_id", "class_id", "suggested_student_id"],
        [enrolments.c.school_id, enrolments.c.class_id, enrolments.c.student_id],
        name="fk_classroom_associations_suggested",
    ),
    ForeignKeyConstraint(
        ["school_id", "class_id", "student_id"],
        [enrolments.c.school_id, enrolments.c.class_id, enrolments.c.student_id],
        name="fk_classroom_associations_decided",
    ),
    CheckConstraint("score BETWEEN 0 AND 1", name="score"),
    CheckConstraint("(score IS NULL) = (suggested_student_id IS NULL)", name="suggestion"),
    CheckConstraint(
        "status IN "
        "('pending_validation', 'confirmed', 'rejected', 'no_match', 'timeout_confirmed')",
        name="status",
    ),
    CheckConstraint("method IN ('human', 'timeout', 'auto')", name="method"),
    CheckConstraint(
        "(method IS NULL) = (validated_at IS NULL) AND (method IS NULL) = (validated_by IS NULL)",
        name="decided_whole",
    ),
    CheckConstraint(
        "(student_id IS NOT NULL) = (status IN ('confirmed', 'timeout_confirmed'))",
        name="decided_pupil",
    ),
    CheckConstraint(
        "status IN ('pending_validation', 'no_match') OR validated_at IS NOT NULL",
        name="decided_status",
    ),
    Index(None, "school_id", "batch_id", "essay_id"),
    Index(
        "ix_classroom_associations_suggested",
        "school_id",
        "suggested_student_id",
        sqlite_where=text("validated_at IS NULL"),
        postgresql_where=text("validated_at IS NULL"),
    ),
    Index(
        "ix_classroom_associations_decided",
        "school_id",
        "student_id",
        sqlite_where=text("student_id IS NOT NULL"),
        postgresql_where=text("student_id IS NOT NULL"),
    ),
)
