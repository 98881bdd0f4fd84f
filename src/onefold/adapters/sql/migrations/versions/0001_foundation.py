"""Foundation: directory, telemetry, inbox, outbox, deadlines."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "onefold_deadlines",
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("due_at", _INSTANT, nullable=False),
        sa.Column("payload", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", name="pk_onefold_deadlines"),
    )
    op.create_index("ix_onefold_deadlines_kind_due_at", "onefold_deadlines", ["kind", "due_at"])
    op.create_table(
        "onefold_health",
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("seen_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("node", name="pk_onefold_health"),
    )
    op.create_table(
        "onefold_inbox",
        sa.Column("consumer", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("claimed_at", _INSTANT, nullable=False),
        sa.CheckConstraint("length(consumer) > 0", name=op.f("ck_onefold_inbox_consumer_named")),
        sa.PrimaryKeyConstraint("consumer", "event_id", name="pk_onefold_inbox"),
    )
    op.create_table(
        "onefold_outbox",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("event_type", sa.String(length=512), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("published_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_onefold_outbox"),
        sa.UniqueConstraint("event_id", name="uq_onefold_outbox_event_id"),
    )
    op.create_table(
        "schools",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("auto_enrol", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schools"),
        sa.UniqueConstraint("name", name="uq_schools_name"),
    )
    op.create_table(
        "students",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("external_id", sa.String(length=100), nullable=True),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["school_id"], ["schools.id"], name="fk_students_schools"),
        sa.PrimaryKeyConstraint("school_id", "id", name="pk_students"),
    )
    op.create_index(
        "ix_students_school_id_external_id", "students", ["school_id", "external_id"], unique=True
    )
    op.create_table(
        "telemetry_batches",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_version", sa.String(length=20), nullable=True),
        sa.Column("received_at", _INSTANT, nullable=False),
        sa.Column("last_received_at", _INSTANT, nullable=False),
        sa.Column("posts", sa.Integer(), nullable=False),
        sa.Column("applied", sa.Integer(), nullable=False),
        sa.Column("repeated", sa.Integer(), nullable=False),
        sa.Column("refused", _JSON, nullable=False),
        sa.ForeignKeyConstraint(["school_id"], ["schools.id"], name="fk_telemetry_batches_schools"),
        sa.PrimaryKeyConstraint("school_id", "id", name="pk_telemetry_batches"),
    )
    op.create_table(
        "users",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.CheckConstraint(
            "role IN ('admin', 'teacher', 'student', 'service')", name=op.f("ck_users_role")
        ),
        sa.ForeignKeyConstraint(["school_id"], ["schools.id"], name="fk_users_schools"),
        sa.PrimaryKeyConstraint("school_id", "name", name="pk_users"),
    )
    op.create_index("ix_users_name", "users", ["name"], unique=True)
    op.create_table(
        "api_keys",
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("scopes", _JSON, nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=True),
        sa.Column("secret_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("revoked_at", _INSTANT, nullable=True),
        sa.CheckConstraint(
            "(role = 'student') = (student_id IS NOT NULL)", name=op.f("ck_api_keys_student_bound")
        ),
        sa.CheckConstraint(
            "role IN ('admin', 'teacher', 'student', 'service')", name=op.f("ck_api_keys_role")
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name="fk_api_keys_students",
        ),
        sa.ForeignKeyConstraint(["school_id"], ["schools.id"], name="fk_api_keys_schools"),
        sa.PrimaryKeyConstraint("prefix", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_school_id", "api_keys", ["school_id"])
    op.create_table(
        "enrolments",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("class_name", sa.String(length=100), nullable=True),
        sa.Column("enrolled_at", _INSTANT, nullable=False),
        sa.Column("left_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name="fk_enrolments_students",
        ),
        sa.PrimaryKeyConstraint("school_id", "student_id", name="pk_enrolments"),
    )
    op.create_table(
        "telemetry_sessions",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("mission_id", sa.String(length=100), nullable=True),
        sa.Column("game_version", sa.String(length=20), nullable=True),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("last_event_at", _INSTANT, nullable=False),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("closed_at", _INSTANT, nullable=True),
        sa.Column("closed_by", sa.String(length=16), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "closed_by IN ('request', 'idle')", name=op.f("ck_telemetry_sessions_closed_by")
        ),
        sa.CheckConstraint(
            "(closed_at IS NULL) = (closed_by IS NULL)", name=op.f("ck_telemetry_sessions_closed")
        ),
        sa.CheckConstraint(
            "(closed_at IS NULL) = (revision = 0)", name=op.f("ck_telemetry_sessions_revision")
        ),
        sa.CheckConstraint("event_count >= 0", name=op.f("ck_telemetry_sessions_event_count")),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name="fk_telemetry_sessions_students",
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name="pk_telemetry_sessions"),
        sa.UniqueConstraint(
            "school_id", "id", "student_id", name="uq_telemetry_sessions_school_id_id_student_id"
        ),
    )
    op.create_index(
        "ix_telemetry_sessions_open",
        "telemetry_sessions",
        ["last_event_at"],
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index(
        "ix_telemetry_sessions_school_id_started_at_id",
        "telemetry_sessions",
        ["school_id", "started_at", "id"],
    )
    op.create_index(
        "ix_telemetry_sessions_school_id_student_id_started_at_id",
        "telemetry_sessions",
        ["school_id", "student_id", "started_at", "id"],
    )
    op.create_table(
        "telemetry_events",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.String(length=100), nullable=False),
        sa.Column("occurred_at", _INSTANT, nullable=False),
        sa.Column("received_at", _INSTANT, nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("mission_id", sa.String(length=100), nullable=True),
        sa.Column("game_version", sa.String(length=20), nullable=True),
        sa.Column("client_version", sa.String(length=20), nullable=True),
        sa.Column("data", _JSON, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["school_id", "session_id", "student_id"],
            [
                "telemetry_sessions.school_id",
                "telemetry_sessions.id",
                "telemetry_sessions.student_id",
            ],
            name="fk_telemetry_events_telemetry_sessions",
        ),
        sa.PrimaryKeyConstraint("school_id", "event_id", name="pk_telemetry_events"),
    )
    op.create_index(
        "ix_telemetry_events_school_id_session_id_occurred_at_event_id",
        "telemetry_events",
        ["school_id", "session_id", "occurred_at", "event_id"],
    )
    op.create_table(
        "telemetry_features",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("computed_at", _INSTANT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("profile", sa.String(length=16), nullable=False),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("metrics", _JSON, nullable=False),
        sa.Column("undefined", _JSON, nullable=False),
        sa.Column("event_types", _JSON, nullable=False),
        sa.CheckConstraint("revision > 0", name=op.f("ck_telemetry_features_revision")),
        sa.ForeignKeyConstraint(
            ["school_id", "session_id"],
            ["telemetry_sessions.school_id", "telemetry_sessions.id"],
            name="fk_telemetry_features_telemetry_sessions",
        ),
        sa.PrimaryKeyConstraint(
            "school_id", "session_id", "revision", name="pk_telemetry_features"
        ),
    )
