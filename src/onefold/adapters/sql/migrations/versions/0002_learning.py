"""Learning: sessions, scenarios, cards and reviews, content, budgets, days."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

# Spelled out, not imported: a migration stays as it was when the code moves on.
_INSTANT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
# SQLite has no decimal: there it is an integer of 1e-9.
_MONEY = sa.BigInteger().with_variant(sa.Numeric(20, 9), "postgresql")


def upgrade() -> None:

    op.create_table(
        "learning_scenarios",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition", _JSON, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("imported_at", _INSTANT, nullable=False),
        sa.Column("retired_at", _INSTANT, nullable=True),
        sa.CheckConstraint("version > 0", name=op.f("ck_learning_scenarios_version")),
        sa.ForeignKeyConstraint(
            ["school_id"], ["schools.id"], name=op.f("fk_learning_scenarios_schools")
        ),
        sa.PrimaryKeyConstraint("school_id", "id", "version", name=op.f("pk_learning_scenarios")),
    )
    op.create_table(
        "learning_attempts",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("scenario_id", sa.String(length=100), nullable=False),
        sa.Column("scenario_version", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(length=35), nullable=False),
        sa.Column("script", _JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("progress", _JSON, nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("changed_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.CheckConstraint(
            "(state = 'active') = (ended_at IS NULL)", name=op.f("ck_learning_attempts_ended")
        ),
        sa.CheckConstraint(
            "state IN ('active', 'completed', 'abandoned')", name=op.f("ck_learning_attempts_state")
        ),
        sa.CheckConstraint("phase >= 0 AND turns >= 0", name=op.f("ck_learning_attempts_counts")),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name=op.f("fk_learning_attempts_students"),
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name=op.f("pk_learning_attempts")),
    )
    op.create_index(
        op.f("ix_learning_attempts_school_id_student_id_started_at_id"),
        "learning_attempts",
        ["school_id", "student_id", "started_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_learning_attempts_state_changed_at"),
        "learning_attempts",
        ["state", "changed_at"],
        unique=False,
    )
    op.create_table(
        "learning_budgets",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=True),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("limit_amount", _MONEY, nullable=False),
        sa.Column("enforcement", sa.String(length=8), nullable=False),
        sa.Column("thresholds", _JSON, nullable=False),
        sa.Column("changed_at", _INSTANT, nullable=False),
        sa.CheckConstraint(
            "enforcement IN ('warn', 'block')", name=op.f("ck_learning_budgets_enforcement")
        ),
        sa.CheckConstraint(
            "period IN ('day', 'week', 'month')", name=op.f("ck_learning_budgets_period")
        ),
        sa.CheckConstraint("limit_amount >= 0", name=op.f("ck_learning_budgets_amount")),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name=op.f("fk_learning_budgets_students"),
        ),
        sa.ForeignKeyConstraint(
            ["school_id"], ["schools.id"], name=op.f("fk_learning_budgets_schools")
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name=op.f("pk_learning_budgets")),
    )
    op.create_index(
        op.f("ix_learning_budgets_school_id_student_id"),
        "learning_budgets",
        ["school_id", "student_id"],
        unique=False,
    )
    op.create_table(
        "learning_cards",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("language", sa.String(length=35), nullable=False),
        sa.Column("word", sa.String(length=200), nullable=False),
        sa.Column("word_key", sa.String(length=400), nullable=False),
        sa.Column("back", sa.String(length=2000), nullable=False),
        sa.Column("source_kind", sa.String(length=16), nullable=False),
        sa.Column("source_id", sa.String(length=100), nullable=True),
        sa.Column("scheduler", sa.String(length=8), nullable=False),
        sa.Column("memory", _JSON, nullable=False),
        sa.Column("due_at", _INSTANT, nullable=False),
        sa.Column("strength_days", sa.Float(), nullable=False),
        sa.Column("reviews", sa.Integer(), nullable=False),
        sa.Column("lapses", sa.Integer(), nullable=False),
        sa.Column("met", sa.Integer(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.CheckConstraint(
            "scheduler IN ('fsrs', 'sm2')", name=op.f("ck_learning_cards_scheduler")
        ),
        sa.CheckConstraint(
            "source_kind IN ('scenario', 'manual', 'import')",
            name=op.f("ck_learning_cards_source_kind"),
        ),
        sa.CheckConstraint(
            "reviews >= 0 AND lapses >= 0 AND met > 0", name=op.f("ck_learning_cards_counts")
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name=op.f("fk_learning_cards_students"),
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name=op.f("pk_learning_cards")),
        sa.UniqueConstraint(
            "school_id", "id", "student_id", name=op.f("uq_learning_cards_school_id_id_student_id")
        ),
        sa.UniqueConstraint(
            "school_id",
            "student_id",
            "language",
            "word_key",
            name=op.f("uq_learning_cards_school_id_student_id_language_word_key"),
        ),
    )
    op.create_index(
        op.f("ix_learning_cards_school_id_student_id_due_at_id"),
        "learning_cards",
        ["school_id", "student_id", "due_at", "id"],
        unique=False,
    )
    op.create_table(
        "learning_content",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=False),
        sa.Column("language", sa.String(length=35), nullable=False),
        sa.Column("source_url", sa.String(length=1000), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("word_count", sa.Integer(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("changed_at", _INSTANT, nullable=False),
        sa.Column("search_id", sa.BigInteger(), nullable=False),
        sa.Column("title_words", sa.Text(), nullable=False),
        sa.Column("body_words", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('document', 'transcript', 'link', 'note')",
            name=op.f("ck_learning_content_kind"),
        ),
        sa.CheckConstraint("word_count >= 0", name=op.f("ck_learning_content_words")),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name=op.f("fk_learning_content_students"),
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name=op.f("pk_learning_content")),
        sa.UniqueConstraint(
            "school_id",
            "student_id",
            "content_hash",
            name=op.f("uq_learning_content_school_id_student_id_content_hash"),
        ),
        sa.UniqueConstraint("search_id", name=op.f("uq_learning_content_search_id")),
    )
    op.create_index(
        op.f("ix_learning_content_school_id_student_id_created_at_id"),
        "learning_content",
        ["school_id", "student_id", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "learning_days",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("sessions", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.BigInteger(), nullable=False),
        sa.Column("items_studied", sa.BigInteger(), nullable=False),
        sa.Column("items_correct", sa.BigInteger(), nullable=False),
        sa.Column("items_incorrect", sa.BigInteger(), nullable=False),
        sa.Column("reviews", sa.Integer(), nullable=False),
        sa.Column("reviews_correct", sa.Integer(), nullable=False),
        sa.Column("cards_new", sa.Integer(), nullable=False),
        sa.Column("scenarios", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "sessions >= 0 AND seconds >= 0 AND reviews >= 0", name=op.f("ck_learning_days_counts")
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name=op.f("fk_learning_days_students"),
        ),
        sa.PrimaryKeyConstraint("school_id", "student_id", "day", name=op.f("pk_learning_days")),
    )
    op.create_index(
        op.f("ix_learning_days_school_id_day"), "learning_days", ["school_id", "day"], unique=False
    )
    op.create_table(
        "learning_learners",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("changed_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name=op.f("fk_learning_learners_students"),
        ),
        sa.PrimaryKeyConstraint("school_id", "student_id", name=op.f("pk_learning_learners")),
    )
    op.create_table(
        "learning_reservations",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("amount", _MONEY, nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("reserved_at", _INSTANT, nullable=False),
        sa.Column("lapses_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.Column("cost", _MONEY, nullable=True),
        sa.Column("provider", sa.String(length=100), nullable=True),
        sa.Column("model", sa.String(length=100), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "(state = 'reserved') = (ended_at IS NULL)", name=op.f("ck_learning_reservations_ended")
        ),
        sa.CheckConstraint(
            "(state = 'settled') = (cost IS NOT NULL)", name=op.f("ck_learning_reservations_cost")
        ),
        sa.CheckConstraint(
            "state IN ('reserved', 'settled', 'released')",
            name=op.f("ck_learning_reservations_state"),
        ),
        sa.CheckConstraint(
            "amount > 0 AND (cost IS NULL OR cost >= 0)",
            name=op.f("ck_learning_reservations_amounts"),
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name=op.f("fk_learning_reservations_students"),
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name=op.f("pk_learning_reservations")),
    )
    op.create_index(
        op.f("ix_learning_reservations_school_id_student_id_ended_at"),
        "learning_reservations",
        ["school_id", "student_id", "ended_at"],
        unique=False,
    )
    op.create_table(
        "learning_sessions",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("session_type", sa.String(length=50), nullable=False),
        sa.Column("source_id", sa.String(length=100), nullable=True),
        sa.Column("language", sa.String(length=35), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("changed_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.Column("items_studied", sa.Integer(), nullable=False),
        sa.Column("items_correct", sa.Integer(), nullable=False),
        sa.Column("items_incorrect", sa.Integer(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("started_as", sa.LargeBinary(length=32), nullable=False),
        sa.CheckConstraint(
            "(state = 'open') = (ended_at IS NULL)", name=op.f("ck_learning_sessions_ended")
        ),
        sa.CheckConstraint(
            "state IN ('open', 'completed', 'abandoned')", name=op.f("ck_learning_sessions_state")
        ),
        sa.CheckConstraint("ended_at >= started_at", name=op.f("ck_learning_sessions_order")),
        sa.CheckConstraint(
            "items_studied >= 0 AND items_correct >= 0 AND items_incorrect >= 0",
            name=op.f("ck_learning_sessions_counts"),
        ),
        sa.CheckConstraint(
            "version > 0 AND revision >= 0", name=op.f("ck_learning_sessions_versions")
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name=op.f("fk_learning_sessions_students"),
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name=op.f("pk_learning_sessions")),
    )
    op.create_index(
        "ix_learning_sessions_open",
        "learning_sessions",
        ["changed_at"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        op.f("ix_learning_sessions_school_id_started_at_id"),
        "learning_sessions",
        ["school_id", "started_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_learning_sessions_school_id_student_id_started_at_id"),
        "learning_sessions",
        ["school_id", "student_id", "started_at", "id"],
        unique=False,
    )
    op.create_table(
        "learning_budget_periods",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", _INSTANT, nullable=False),
        sa.Column("ends_at", _INSTANT, nullable=False),
        sa.Column("spent", _MONEY, nullable=False),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_learning_budget_periods_order")),
        sa.CheckConstraint("spent >= 0", name=op.f("ck_learning_budget_periods_spent")),
        sa.ForeignKeyConstraint(
            ["school_id", "budget_id"],
            ["learning_budgets.school_id", "learning_budgets.id"],
            name=op.f("fk_learning_budget_periods_learning_budgets"),
        ),
        sa.PrimaryKeyConstraint(
            "school_id", "budget_id", "starts_at", name=op.f("pk_learning_budget_periods")
        ),
    )
    op.create_table(
        "learning_changes",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("change_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("content", _JSON, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["school_id", "session_id"],
            ["learning_sessions.school_id", "learning_sessions.id"],
            name=op.f("fk_learning_changes_learning_sessions"),
        ),
        sa.PrimaryKeyConstraint(
            "school_id", "session_id", "change_id", name=op.f("pk_learning_changes")
        ),
    )
    op.create_table(
        "learning_content_topics",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("content_id", sa.Uuid(), nullable=False),
        sa.Column("topic", sa.String(length=50), nullable=False),
        sa.ForeignKeyConstraint(
            ["school_id", "content_id"],
            ["learning_content.school_id", "learning_content.id"],
            name=op.f("fk_learning_content_topics_learning_content"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "school_id", "content_id", "topic", name=op.f("pk_learning_content_topics")
        ),
    )
    op.create_index(
        op.f("ix_learning_content_topics_school_id_topic"),
        "learning_content_topics",
        ["school_id", "topic"],
        unique=False,
    )
    op.create_table(
        "learning_materials",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("content_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=False),
        sa.Column("body", _JSON, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("changed_at", _INSTANT, nullable=False),
        sa.CheckConstraint(
            "kind IN ('summary', 'flashcards', 'quiz', 'notes', 'mind_map', 'key_concepts', "
            "'practice_questions')",
            name=op.f("ck_learning_materials_kind"),
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "content_id"],
            ["learning_content.school_id", "learning_content.id"],
            name=op.f("fk_learning_materials_learning_content"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name=op.f("pk_learning_materials")),
    )
    op.create_index(
        op.f("ix_learning_materials_school_id_content_id"),
        "learning_materials",
        ["school_id", "content_id"],
        unique=False,
    )
    op.create_table(
        "learning_reviews",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("card_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("answer", sa.SmallInteger(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("expected", sa.Float(), nullable=True),
        sa.Column("due_before", _INSTANT, nullable=False),
        sa.Column("due_after", _INSTANT, nullable=False),
        sa.CheckConstraint("answer BETWEEN 1 AND 4", name=op.f("ck_learning_reviews_answer")),
        sa.ForeignKeyConstraint(
            ["school_id", "card_id", "student_id"],
            ["learning_cards.school_id", "learning_cards.id", "learning_cards.student_id"],
            name=op.f("fk_learning_reviews_learning_cards"),
        ),
        sa.PrimaryKeyConstraint("school_id", "id", name=op.f("pk_learning_reviews")),
    )
    op.create_index(
        op.f("ix_learning_reviews_school_id_card_id_at"),
        "learning_reviews",
        ["school_id", "card_id", "at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_learning_reviews_school_id_student_id_at"),
        "learning_reviews",
        ["school_id", "student_id", "at"],
        unique=False,
    )
    op.create_table(
        "learning_scenario_history",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("scenario_id", sa.String(length=100), nullable=False),
        sa.Column("scenario_version", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(length=35), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=False),
        sa.Column("duration_s", sa.Integer(), nullable=False),
        sa.Column("phases_completed", sa.Integer(), nullable=False),
        sa.Column("phases_total", sa.Integer(), nullable=False),
        sa.Column("vocabulary_mastered", _JSON, nullable=False),
        sa.Column("objectives_completed", _JSON, nullable=False),
        sa.Column("cards_created", _JSON, nullable=False),
        sa.Column("cards_strengthened", _JSON, nullable=False),
        sa.Column("items_studied", sa.Integer(), nullable=False),
        sa.Column("items_correct", sa.Integer(), nullable=False),
        sa.Column("success_rate", sa.Float(), nullable=False),
        sa.Column("completion_score", sa.Float(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('completed', 'abandoned')",
            name=op.f("ck_learning_scenario_history_outcome"),
        ),
        sa.CheckConstraint(
            "items_correct BETWEEN 0 AND items_studied",
            name=op.f("ck_learning_scenario_history_items"),
        ),
        sa.CheckConstraint(
            "phases_completed BETWEEN 0 AND phases_total",
            name=op.f("ck_learning_scenario_history_phases"),
        ),
        sa.CheckConstraint(
            "success_rate BETWEEN 0 AND 1", name=op.f("ck_learning_scenario_history_rate")
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "attempt_id"],
            ["learning_attempts.school_id", "learning_attempts.id"],
            name=op.f("fk_learning_scenario_history_learning_attempts"),
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "session_id"],
            ["learning_sessions.school_id", "learning_sessions.id"],
            name=op.f("fk_learning_scenario_history_learning_sessions"),
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "student_id"],
            ["students.school_id", "students.id"],
            name=op.f("fk_learning_scenario_history_students"),
        ),
        sa.PrimaryKeyConstraint(
            "school_id", "attempt_id", name=op.f("pk_learning_scenario_history")
        ),
    )
    op.create_index(
        "ix_learning_scenario_history_newest",
        "learning_scenario_history",
        ["school_id", "student_id", "ended_at", "attempt_id"],
        unique=False,
    )
    op.create_table(
        "learning_turns",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("verdict", _JSON, nullable=False),
        sa.Column("answer", _JSON, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.CheckConstraint("phase >= 0", name=op.f("ck_learning_turns_phase")),
        sa.ForeignKeyConstraint(
            ["school_id", "attempt_id"],
            ["learning_attempts.school_id", "learning_attempts.id"],
            name=op.f("fk_learning_turns_learning_attempts"),
        ),
        sa.PrimaryKeyConstraint("school_id", "attempt_id", "id", name=op.f("pk_learning_turns")),
    )
    op.create_table(
        "learning_budget_alerts",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", _INSTANT, nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["school_id", "budget_id", "starts_at"],
            [
                "learning_budget_periods.school_id",
                "learning_budget_periods.budget_id",
                "learning_budget_periods.starts_at",
            ],
            name=op.f("fk_learning_budget_alerts_learning_budget_periods"),
        ),
        sa.PrimaryKeyConstraint(
            "school_id",
            "budget_id",
            "starts_at",
            "threshold",
            name=op.f("pk_learning_budget_alerts"),
        ),
    )
    op.create_table(
        "learning_budget_holds",
        sa.Column("school_id", sa.Uuid(), nullable=False),
        sa.Column("reservation_id", sa.Uuid(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", _INSTANT, nullable=False),
        sa.Column("amount", _MONEY, nullable=False),
        sa.Column("live_until", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["school_id", "budget_id", "starts_at"],
            [
                "learning_budget_periods.school_id",
                "learning_budget_periods.budget_id",
                "learning_budget_periods.starts_at",
            ],
            name=op.f("fk_learning_budget_holds_learning_budget_periods"),
        ),
        sa.ForeignKeyConstraint(
            ["school_id", "reservation_id"],
            ["learning_reservations.school_id", "learning_reservations.id"],
            name=op.f("fk_learning_budget_holds_learning_reservations"),
        ),
        sa.PrimaryKeyConstraint(
            "school_id", "reservation_id", "budget_id", name=op.f("pk_learning_budget_holds")
        ),
    )
    op.create_index(
        "ix_learning_budget_holds_live",
        "learning_budget_holds",
        ["school_id", "budget_id", "starts_at", "live_until"],
        unique=False,
    )

    if op.get_bind().dialect.name == "sqlite":
        for statement in _SQLITE_SEARCH:
            op.execute(statement)
    else:
        op.execute(
            "CREATE INDEX ix_learning_content_search ON learning_content"
            " USING gin (to_tsvector('simple', title_words || ' ' || body_words))"
        )


# Full text on SQLite: an index over the table's own columns, kept in step by triggers, so
# that a cascade or a statement by hand cannot leave it behind (FTS5's manual, 4.4.3).
_FORGET = """
    INSERT INTO learning_content_search(
        learning_content_search, rowid, title_words, body_words
    ) VALUES ('delete', old.search_id, old.title_words, old.body_words);
"""
_INDEX = """
    INSERT INTO learning_content_search(rowid, title_words, body_words)
    VALUES (new.search_id, new.title_words, new.body_words);
"""
_SQLITE_SEARCH = (
    """
    CREATE VIRTUAL TABLE learning_content_search USING fts5(
        title_words, body_words, content='learning_content', content_rowid='search_id',
        tokenize='unicode61 remove_diacritics 0'
    )
    """,
    f"""
    CREATE TRIGGER learning_content_added AFTER INSERT ON learning_content
    BEGIN {_INDEX} END
    """,
    f"""
    CREATE TRIGGER learning_content_removed AFTER DELETE ON learning_content
    BEGIN {_FORGET} END
    """,
    f"""
    CREATE TRIGGER learning_content_changed AFTER UPDATE ON learning_content
    BEGIN {_FORGET} {_INDEX} END
    """,
)
