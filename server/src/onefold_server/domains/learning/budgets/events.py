"""What budgets publish: facts, in the past tense, versioned."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from onefold.core.envelope import Event
from onefold.core.ids import derived_id
from onefold_server.domains.learning.budgets.rules import money_text

SOURCE: Final = "onefold_server.embed.learning"
THRESHOLD_REACHED: Final = "learning.budget.threshold_reached"


def threshold_reached(
    budget: Mapping[str, Any], starts_at: datetime, threshold: int, spent: Decimal, *, at: datetime
) -> Event:
    """
    A budget's spending reached a percentage of its limit, for the first time in its period.
    """
    subject = (str(budget["school_id"]), str(budget["id"]), starts_at.isoformat(), str(threshold))
    return Event(
        id=str(derived_id(THRESHOLD_REACHED, *subject)),
        type=THRESHOLD_REACHED,
        source=SOURCE,
        key=str(budget["id"]),
        occurred_at=at,
        data={
            "school_id": str(budget["school_id"]),
            "budget_id": str(budget["id"]),
            "student_id": None if budget["student_id"] is None else str(budget["student_id"]),
            "period": budget["period"],
            "starts_at": starts_at.isoformat(),
            "threshold": threshold,
            "limit": money_text(budget["limit_amount"]),
            "spent": money_text(spent),
        },
    )
