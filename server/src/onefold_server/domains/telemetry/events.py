"""What telemetry publishes: facts, in the past tense, versioned."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from onefold.core.envelope import Event
from onefold.core.ids import derived_id

SOURCE: Final = "onefold.telemetry"
FEATURES_COMPUTED: Final = "telemetry.features.computed"


def features_computed(
    revision: Mapping[str, Any], session: Mapping[str, Any], *, at: datetime
) -> Event:
    """
    A closed session has features, or after a late event a new revision of them.

    The id follows from session and revision, so that a revision is published once however
    often it is computed. The key is the session: its revisions arrive in order.

    Args:
        revision: The features' row.
        session: The session's row.
        at: When it was computed.
    """
    subject = [str(revision[name]) for name in ("school_id", "session_id", "revision")]
    named = ("revision", "version", "profile", "event_count", "metrics", "undefined")
    return Event(
        id=str(derived_id(FEATURES_COMPUTED, *subject)),
        type=FEATURES_COMPUTED,
        source=SOURCE,
        key=str(revision["session_id"]),
        occurred_at=at,
        data={
            "school_id": str(revision["school_id"]),
            "session_id": str(revision["session_id"]),
            "student_id": str(session["student_id"]),
            **{name: revision[name] for name in named},
        },
    )
