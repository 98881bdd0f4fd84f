"""Schools, the pupils enrolled in them, and who may act for them."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    String,
    Table,
    Uuid,
    false,
)

from onefold.ports.tables import Instant, Json, metadata

schools = Table(
    "schools",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("auto_enrol", Boolean, nullable=False, server_default=false()),
    Column("created_at", Instant, nullable=False),
)

# The same pupil id in two schools is two records: neither can tell of the other.
students = Table(
    "students",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", String(200)),
    Column("external_id", String(100)),
    Column("created_at", Instant, nullable=False),
    Column("first_name", String(100)),
    Column("last_name", String(100)),
    Column("email", String(255)),  # case folded by `read_email`: unique whatever its case
    Index(None, "school_id", "external_id", unique=True),
    Index(None, "school_id", "email", unique=True),
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("student_id", Uuid, primary_key=True),
    Column("class_name", String(100)),
    Column("enrolled_at", Instant, nullable=False),
    Column("left_at", Instant),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
)

_ROLE = "role IN ('admin', 'teacher', 'student', 'service')"

api_keys = Table(
    "api_keys",
    metadata,
    Column("prefix", String(16), primary_key=True),
    Column("school_id", Uuid, ForeignKey(schools.c.id), nullable=False),
    Column("role", String(16), nullable=False),
    Column("scopes", Json, nullable=False),
    Column("student_id", Uuid),
    Column("secret_sha256", LargeBinary(32), nullable=False),
    Column("label", String(100), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    CheckConstraint(_ROLE, name="role"),
    CheckConstraint("(role = 'student') = (student_id IS NOT NULL)", name="student_bound"),
    ForeignKeyConstraint(["school_id", "student_id"], [students.c.school_id, students.c.id]),
    Index(None, "school_id"),
)

users = Table(
    "users",
    metadata,
    Column("school_id", Uuid, ForeignKey(schools.c.id), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("created_at", Instant, nullable=False),
    CheckConstraint(_ROLE, name="role"),
    Index(None, "name", unique=True),
)
