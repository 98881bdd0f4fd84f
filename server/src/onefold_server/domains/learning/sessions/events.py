"""What learning sessions publish: facts, in the past tense, versioned."""

from datetime import datetime
from typing import Final

from onefold.core.envelope import Event
from onefold.core.ids import derived_id
from onefold_server.domains.learning.sessions.rules import Session

SOURCE: Final = "onefold_server.embed.learning"
STARTED: Final = "learning.session.started"
UPDATED: Final = "learning.session.updated"
CORRECTED: Final = "learning.session.corrected"
COMPLETED: Final = "learning.session.completed"
ABANDONED: Final = "learning.session.abandoned"


def session_fact(type_: str, session: Session, *, at: datetime) -> Event:
    """
    Something happened to a session; the data is the session as it then stood.

    The id follows from session and version, each of which is written once. The key is the
    session: its facts arrive in order.
    """
    return Event(
        id=str(derived_id(type_, str(session.school_id), str(session.id), str(session.version))),
        type=type_,
        source=SOURCE,
        key=str(session.id),
        occurred_at=at,
        data={
            "school_id": str(session.school_id),
            "session_id": str(session.id),
            "student_id": str(session.student_id),
            "session_type": session.session_type,
            "source_id": session.source_id,
            "language": session.language,
            "state": str(session.state),
            "version": session.version,
            "revision": session.revision,
            "items_studied": session.items_studied,
            "items_correct": session.items_correct,
            "items_incorrect": session.items_incorrect,
            "accuracy_rate": session.accuracy_rate,
            "duration_s": session.duration_s,
        },
    )
