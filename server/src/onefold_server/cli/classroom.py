"""`onefold match`: who wrote these essays? Files in, a table and a CSV out; no database."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from onefold.errors import FieldProblem, InvalidInput, NotFound
from onefold_server.cli.output import Json, show

_NOWHERE: Final = UUID(int=0)  # a school for ids made of addresses; they are not shown
_COLUMNS: Final = ("file", "author", "score", "verdict", "reasons", "others")
_TEXTS: Final = frozenset({".txt", ".md", ".text", ""})


def match(
    roster: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV of pupils.")],
    essays: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Text files.")],
    out: Annotated[Path | None, typer.Option(help="Write the table there as CSV too.")] = None,
    json: Json = False,
) -> None:
    """
    Find the author of each essay of a folder among the pupils of a roster.

    The roster has the columns of `onefold student import`; names as `name`, or as
    `first_name` and `last_name`. A verdict is `sure`, `look` or `nobody`.
    """
    rows = _matched(roster, essays)
    if out is not None:
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    show(rows, _COLUMNS, as_json=json)


def _matched(roster: Path, folder: Path) -> list[dict[str, Any]]:
    from onefold_server.domains.classroom.matching import Essay, Pupil, Suggestion
    from onefold_server.domains.classroom.matching import match as match_essays
    from onefold_server.domains.classroom.rules import split_name
    from onefold_server.domains.directory.roster import read_roster

    with roster.open(encoding="utf-8-sig", newline="") as lines:
        read = read_roster(_NOWHERE, lines)
    if read.refused:
        raise InvalidInput(
            [
                FieldProblem(f"line {one['line']}, {one['field']}", one["code"], one["reason"])
                for one in read.refused
            ]
        )
    files = sorted(f for f in folder.iterdir() if f.is_file() and f.suffix.lower() in _TEXTS)
    if not files:
        raise NotFound("text file in", str(folder))
    pupils = []
    for id_, line in read.lines.items():
        first, last = split_name(line.name or "")
        pupils.append(Pupil(str(id_), line.first_name or first, line.last_name or last, line.email))
    names = {str(id_): line.name or line.email or "" for id_, line in read.lines.items()}

    def shown(suggestions: Sequence[Suggestion]) -> str:
        return ", ".join(f"{names[one.student_id]} {one.score:.2f}" for one in suggestions)

    essays = [Essay(f.name, f.read_text("utf-8", errors="replace"), f.name) for f in files]
    return [
        {
            "file": found.essay_id,
            "author": names[found.suggestions[0].student_id] if found.suggestions else "",
            "score": f"{found.suggestions[0].score:.2f}" if found.suggestions else "",
            "verdict": "sure" if found.sure else "look" if found.suggestions else "nobody",
            "reasons": "; ".join(found.suggestions[0].reasons) if found.suggestions else "",
            "others": shown(found.suggestions[1:]),
        }
        for found in match_essays(essays, pupils)
    ]


def add_to(app: typer.Typer) -> None:
    """Give *app* this command."""
    app.command()(match)
