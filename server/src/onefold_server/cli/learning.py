"""`onefold learner`: what one learner has done."""

from typing import Annotated, Any
from uuid import UUID

import typer

from onefold_server.cli.directory import School
from onefold_server.cli.output import DatabaseUrl, Json, command, opened, show, show_json
from onefold_server.domains.directory.rules import Principal


@command
async def learner(
    student: Annotated[UUID, typer.Argument(help="The pupil's id.")],
    days: Annotated[int, typer.Option(help="How many days back.", min=1, max=3660)] = 14,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show a learner's time, sessions, accuracy, words, streak and scenarios."""
    async with opened(database) as onefold:
        caller = Principal.local(await onefold.directory.find_school(school))
        found = await onefold.learning.analytics.learner(caller, student)
        by_day = await onefold.learning.analytics.days(caller, student, days=days)
    if json:
        show_json(found | {"days": by_day})
        return
    show([_line(found)], [*_line(found)], as_json=False)
    shown = ["day", "sessions", "seconds", "reviews", "cards_new", "scenarios", "accuracy_rate"]
    show([row | {"day": str(row["day"])} for row in by_day], shown, as_json=False)


def _line(found: dict[str, Any]) -> dict[str, Any]:
    totals, words, streak = found["totals"], found["words"], found["streak"]
    return {
        "minutes": totals["seconds"] // 60,
        "sessions": totals["sessions"],
        "accuracy_rate": totals["accuracy_rate"],
        "learnt": words["learnt"],
        "known": words["known"],
        "due": words["due"],
        "streak": streak["current"],
        "longest": streak["longest"],
        "scenarios": totals["scenarios"],
    }


def add_to(app: typer.Typer) -> None:
    """Give *app* this command."""
    app.command()(learner)
