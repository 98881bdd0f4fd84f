"""Classroom: courses, classes, enrolments, batches, associations; names and e-mail of pupils."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

_COURSES = [
    {"code": "ENG5", "name": "English 5", "language": "en"},
    {"code": "ENG6", "name": "English 6", "language": "en"},
    {"code": "ENG7", "name": "English 7", "language": "en"},
    {"code": "SV1", "name": "Svenska 1", "language": "sv"},
    {"code": "SV2", "name": "Svenska 2", "language": "sv"},
    {"code": "SV3", "name": "Svenska 3", "language": "sv"},
]


def upgrade() -> None:
    op.add_column("students", sa.Column("first_name", sa.String(length=100), nullable=True))
    op.add_column("students", sa.Column("last_name", sa.String(length=100), nullable=True))
    op.add_column("students", sa.Column("email", sa.String(length=255), nullable=True))
    op.create_index("ix_students_school_id_email", "students", ["school_id", "email"], unique=True)
    courses = op.create_table(
        "classroom_courses",
        sa.Column("code", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("language", sa.String(length=2), nullable=False),
        sa.CheckConstraint("language IN ('en', 'sv')", name=op.f("ck_classroom_courses_language")),
        sa.PrimaryKeyConstraint("code", name="pk_classroom_courses"),
    )
    op.bulk_insert(courses, _COURSES)
    op.create_table(
        "classroom_classes",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("course_code", sa.String(length=10), nullable=False),
        sa.Column("owner", sa.String(length=100), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("deleted_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["course_code"],
            ["classroom_courses.code"],
            name="fk_classroom_classes_classroom_courses",
        ),
        sa.ForeignKeyConstraint(["school_id"], ["schools.id"], name="fk_classroom_classes_schools"),
        sa.PrimaryKeyConstraint("school_id", "id", name="pk_classroom_classes"),
    )
    op.create_index("ix_classroom_classes_id", "classroom_classes", ["id"], unique=True)
    op.create_index(
        "ix_classroom_classes_school_id_owner_created_at_id",
        "classroom_classes",
        ["school_id", "owner", "created_at", "id"],
    )
    op.create_table(
        "classroom_enrolments",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("class_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("enrolled_at", _INSTANT, nullable=False),
        sa.Column("left_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["school_id", "class_id"],
            ["classroom_classes.school_id", "classroom_classes.id"],
            name="fk_classroom_enrolments_classroom_classes",
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name="fk_classroom_enrolments_students",
        ),
        sa.PrimaryKeyConstraint(
            "school_id", "class_id", "student_id", name="pk_classroom_enrolments"
        ),
    )
    op.create_index(
        "ix_classroom_enrolments_school_id_student_id",
        "classroom_enrolments",
        ["school_id", "student_id"],
    )
    op.create_table(
        "classroom_batches",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("class_id", sa.Uuid(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("received_at", _INSTANT, nullable=False),
        sa.Column("deadline", _INSTANT, nullable=False),
        sa.Column("due_at", _INSTANT, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("closed_at", _INSTANT, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "closed_at IS NULL OR due_at IS NULL", name=op.f("ck_classroom_batches_over")
        ),
        sa.CheckConstraint("deadline >= received_at", name=op.f("ck_classroom_batches_order")),
        sa.CheckConstraint(
            "total >= 0 AND failures >= 0 AND revision > 0",
            name=op.f("ck_classroom_batches_counts"),
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "class_id"],
            ["classroom_classes.school_id", "classroom_classes.id"],
            name="fk_classroom_batches_classroom_classes",
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name="pk_classroom_batches"),
        sa.UniqueConstraint(
            "school_id", "id", "class_id", name="uq_classroom_batches_school_id_id_class_id"
        ),
    )
    op.create_index(
        "ix_classroom_batches_due",
        "classroom_batches",
        ["due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_classroom_batches_school_id_class_id_received_at_id",
        "classroom_batches",
        ["school_id", "class_id", "received_at", "id"],
    )
    op.create_table(
        "classroom_associations",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("essay_id", sa.Uuid(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("class_id", sa.Uuid(), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=True),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.Column("suggested_at", _INSTANT, nullable=False),
        sa.Column("suggested_student_id", sa.Uuid(), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("ambiguous", sa.Boolean(), nullable=False),
        sa.Column("reasons", _JSON, nullable=False),
        sa.Column("alternatives", _JSON, nullable=False),
        sa.Column("note", sa.String(length=200), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=True),
        sa.Column("method", sa.String(length=10), nullable=True),
        sa.Column("validated_by", sa.String(length=100), nullable=True),
        sa.Column("validated_at", _INSTANT, nullable=True),
        sa.CheckConstraint(
            "(method IS NULL) = (validated_at IS NULL) "
            "AND (method IS NULL) = (validated_by IS NULL)",
            name=op.f("ck_classroom_associations_decided_whole"),
        ),
        sa.CheckConstraint(
            "(score IS NULL) = (suggested_student_id IS NULL)",
            name=op.f("ck_classroom_associations_suggestion"),
        ),
        sa.CheckConstraint(
            "(student_id IS NOT NULL) = (status IN ('confirmed', 'timeout_confirmed'))",
            name=op.f("ck_classroom_associations_decided_pupil"),
        ),
        sa.CheckConstraint(
            "method IN ('human', 'timeout', 'auto')", name=op.f("ck_classroom_associations_method")
        ),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name=op.f("ck_classroom_associations_score")),
        sa.CheckConstraint(
            "status IN "
            "('pending_validation', 'confirmed', 'rejected', 'no_match', 'timeout_confirmed')",
            name=op.f("ck_classroom_associations_status"),
        ),
        sa.CheckConstraint(
            "status IN ('pending_validation', 'no_match') OR validated_at IS NOT NULL",
            name=op.f("ck_classroom_associations_decided_status"),
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "batch_id", "class_id"],
            ["classroom_batches.school_id", "classroom_batches.id", "classroom_batches.class_id"],
            name="fk_classroom_associations_classroom_batches",
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "class_id", "student_id"],
            [
                "classroom_enrolments.school_id",
                "classroom_enrolments.class_id",
                "classroom_enrolments.student_id",
            ],
            name="fk_classroom_associations_decided",
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "class_id", "suggested_student_id"],
            [
                "classroom_enrolments.school_id",
                "classroom_enrolments.class_id",
                "classroom_enrolments.student_id",
            ],
            name="fk_classroom_associations_suggested",
        ),
        sa.PrimaryKeyConstraint("school_id", "essay_id", name="pk_classroom_associations"),
    )
    op.create_index(
        "ix_classroom_associations_school_id_batch_id_essay_id",
        "classroom_associations",
        ["school_id", "batch_id", "essay_id"],
    )
    op.create_index(
        "ix_classroom_associations_suggested",
        "classroom_associations",
        ["school_id", "suggested_student_id"],
        sqlite_where=sa.text("validated_at IS NULL"),
        postgresql_where=sa.text("validated_at IS NULL"),
    )
    op.create_index(
        "ix_classroom_associations_decided",
        "classroom_associations",
        ["school_id", "student_id"],
        sqlite_where=sa.text("student_id IS NOT NULL"),
        postgresql_where=sa.text("student_id IS NOT NULL"),
    )
