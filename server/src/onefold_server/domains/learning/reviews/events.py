"""What reviews publish: facts, in the past tense, versioned."""

from collections.abc import Mapping
from typing import Any, Final

from onefold.core.envelope import Event
from onefold.core.ids import derived_id

SOURCE: Final = "onefold_server.embed.learning"
ANSWERED: Final = "learning.card.answered"


def answered(card: Mapping[str, Any], review: Mapping[str, Any]) -> Event:
    """A card was answered. The key is the card: its answers arrive in order."""
    return Event(
        id=str(derived_id(ANSWERED, str(review["school_id"]), str(review["id"]))),
        type=ANSWERED,
        source=SOURCE,
        key=str(card["id"]),
        occurred_at=review["at"],
        data={
            "school_id": str(card["school_id"]),
            "student_id": str(card["student_id"]),
            "card_id": str(card["id"]),
            "review_id": str(review["id"]),
            "language": card["language"],
            "word": card["word"],
            "answer": review["answer"],
            "due_at": card["due_at"].isoformat(),
        },
    )
