"""`onefold dead`: messages that were given up: why, and what to do with them."""

from collections import Counter
from typing import Annotated, Any

import typer

from onefold.apps.cli.output import DatabaseUrl, Json, command, opened, show, show_json
from onefold.errors import NotFound

app = typer.Typer(help="Messages that were given up.", no_args_is_help=True)

Consumer = Annotated[str | None, typer.Option(help="Of this consumer alone.")]
Reason = Annotated[str | None, typer.Option(help="Given up for this reason alone.")]
State = Annotated[str, typer.Option(help="parked, asked, replayed or discarded.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Their ids; or filter by the options.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, do nothing.")]
_COLUMNS = ["id", "consumer", "topic", "position", "event_type", "reason", "attempts", "parked_at"]


@app.command("list")
@command
async def list_letters(
    consumer: Consumer = None,
    reason: Reason = None,
    state: State = "parked",
    limit: Annotated[int, typer.Option(min=1)] = 100,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List dead letters, the oldest first."""
    async with opened(database) as onefold:
        rows = await onefold.ledger.letters(
            consumer=consumer, reason=reason, state=state, limit=limit
        )
    show([_shown(row) for row in rows], _COLUMNS, as_json=json)


@app.command("causes")
@command
async def list_causes(database: DatabaseUrl = None, json: Json = False) -> None:
    """Count parked letters by consumer and reason."""
    async with opened(database) as onefold:
        rows = await onefold.ledger.letters(state="parked", limit=1_000_000)
    counted = Counter((row["consumer"], row["reason"]) for row in rows)
    causes = [{"consumer": c, "reason": r, "letters": n} for (c, r), n in counted.most_common()]
    show(causes, ["consumer", "reason", "letters"], as_json=json)


@app.command("show")
@command
async def show_letter(letter_id: str, database: DatabaseUrl = None) -> None:
    """Show all that is known of one letter, its bytes too."""
    async with opened(database) as onefold:
        rows = await onefold.ledger.letters(limit=1_000_000)
    found = next((row for row in rows if row["id"] == letter_id), None)
    if found is None:
        raise NotFound("dead letter", letter_id)
    show_json(_shown(found))


@app.command("replay")
@command
async def replay(
    ids: Ids = None,
    consumer: Consumer = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many: call again for more.")] = 100,
    dry_run: DryRun = False,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Ask the consumers' workers to apply letters again; what did succeed stays as it is."""
    await _move(ids, consumer, reason, limit, "asked", dry_run, database, json, note="")


@app.command("discard")
@command
async def discard(
    reason_given: Annotated[str, typer.Option("--because", help="Kept with the letter.")],
    ids: Ids = None,
    consumer: Consumer = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1)] = 100,
    dry_run: DryRun = False,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Give letters up for good; they are kept, with your reason."""
    await _move(
        ids, consumer, reason, limit, "discarded", dry_run, database, json, note=reason_given
    )


async def _move(
    ids: list[str] | None,
    consumer: str | None,
    reason: str | None,
    limit: int,
    to: str,
    dry_run: bool,
    database: str | None,
    json: bool,
    *,
    note: str,
) -> None:
    async with opened(database) as onefold:
        rows = await onefold.ledger.letters(
            consumer=consumer, reason=reason, state="parked", limit=limit
        )
        chosen = [row for row in rows if not ids or row["id"] in ids]
        if not dry_run:
            moved = await onefold.ledger.move(
                [row["id"] for row in chosen], to=to, note=note, now=onefold.clock.now()
            )
            chosen = [row for row in chosen if row["id"] in moved]
    show([_shown(row) for row in chosen], _COLUMNS, as_json=json)


def _shown(row: Any) -> dict[str, Any]:
    """A letter as people read it: bytes as text where they are some, else in hexadecimal."""
    return {name: _text(value) for name, value in row.items()}


def _text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def add_to(cli: typer.Typer) -> None:
    """Give *cli* this command group."""
    cli.add_typer(app, name="dead")
