"""The Celery task's bounds; that it delivers is shown with a real worker."""

from typing import Any

import pytest

from onefold.errors import InvalidInput
from onefold_server.celery import BEAT, TASK, app, process_pending_traces


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    """0 meant the setting, and -1 everything on one database and an error on the other."""
    with pytest.raises(InvalidInput, match="limit"):
        process_pending_traces(limit=limit)


def test_ticks_do_not_pile_up() -> None:
    """After a day without a worker one is done, not all that beat has sent."""
    (entry,) = BEAT.values()

    sent: Any = app.tasks[TASK].signature(**entry["options"])

    assert sent.options["expires"] == entry["schedule"] == 300.0
