"""`onefold dead`: messages that were given up: why, and what to do with them."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

import typer

from onefold.errors import FieldProblem, InvalidInput, NotFound
from onefold.ports.dead_letters import DeadLetters, Wanted
from onefold_server.cli.output import (
    DatabaseUrl,
    Json,
    command,
    opened,
    show,
    show_fields,
    show_json,
)

app = typer.Typer(help="Messages that were given up.", no_args_is_help=True)

Consumer = Annotated[str | None, typer.Option(help="Of this consumer alone.")]
Topic = Annotated[str | None, typer.Option(help="From this topic alone.")]
EventType = Annotated[str | None, typer.Option("--type", help="Events of this type alone.")]
Reason = Annotated[str | None, typer.Option(help="Given up for this reason alone.")]
State = Annotated[str, typer.Option(help="parked, asked, replayed, discarded or any.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Their ids; or filter by the options.")]
Most = Annotated[int, typer.Option(min=1, help="At most so many: call again for more.")]
All = Annotated[bool, typer.Option("--all", help="All parked letters: needed without any filter.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, do nothing.")]
Rate = Annotated[
    str | None, typer.Option(help="At most so many a second, minute or hour: 5/s, 100/m, 1000/h.")
]
_COLUMNS = ["id", "consumer", "topic", "position", "event_type", "reason", "attempts", "parked_at"]
_CAUSES = ["consumer", "topic", "event_type", "reason", "letters", "first", "last", "detail"]
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@app.command("list")
@command
async def list_letters(
    consumer: Consumer = None,
    topic: Topic = None,
    event_type: EventType = None,
    reason: Reason = None,
    state: State = "parked",
    limit: Most = 100,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List dead letters, the oldest first."""
    wanted = _wanted(None, consumer, topic, event_type, reason, state)
    async with opened(database) as onefold:
        rows = await onefold.letters.find(wanted, limit=limit)
    columns = [*_COLUMNS, "state"] if state == "any" else _COLUMNS
    show([_shown(row) for row in rows], columns, as_json=json)


@app.command("causes")
@command
async def list_causes(
    consumer: Consumer = None,
    topic: Topic = None,
    state: State = "parked",
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Count letters by cause: consumer, topic, type and reason, with one error in words."""
    wanted = _wanted(None, consumer, topic, None, None, state)
    async with opened(database) as onefold:
        causes = await onefold.letters.causes(wanted)
    show(causes, _CAUSES, as_json=json)


@app.command("show")
@command
async def show_letter(letter_id: str, database: DatabaseUrl = None, json: Json = False) -> None:
    """Show one dead letter with its headers and bytes."""
    async with opened(database) as onefold:
        (row,) = await _found(onefold.letters, Wanted(ids=[letter_id]), 1)
    letter = _shown(row)
    if json:
        show_json(letter)
    else:
        show_fields(letter)


@app.command("replay")
@command
async def replay(
    ids: Ids = None,
    consumer: Consumer = None,
    topic: Topic = None,
    event_type: EventType = None,
    reason: Reason = None,
    limit: Most = 100,
    everything: All = False,
    rate: Rate = None,
    dry_run: DryRun = False,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Ask the consumers' workers to apply letters again; what did succeed stays as it is."""
    wanted = _wanted(ids, consumer, topic, event_type, reason, "parked", everything=everything)
    apart = _apart(rate)
    async with opened(database) as onefold:
        rows = await _found(onefold.letters, wanted, limit)
        if not dry_run:
            chosen, now = [row["id"] for row in rows], onefold.clock.now()
            moved = await onefold.letters.ask(chosen, note="", now=now, apart=apart)
            rows = [row for row in rows if row["id"] in moved]
    show([_shown(row) for row in rows], _COLUMNS, as_json=json)


@app.command("discard")
@command
async def discard(
    because: Annotated[str, typer.Option("--because", help="Kept with the letter.")],
    ids: Ids = None,
    consumer: Consumer = None,
    topic: Topic = None,
    event_type: EventType = None,
    reason: Reason = None,
    state: Annotated[str, typer.Option(help="parked or asked.")] = "parked",
    limit: Most = 100,
    everything: All = False,
    dry_run: DryRun = False,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Give letters up for good; they are kept for a while, with your reason."""
    wanted = _wanted(ids, consumer, topic, event_type, reason, state, everything=everything)
    async with opened(database) as onefold:
        rows = await _found(onefold.letters, wanted, limit)
        if not dry_run:
            chosen, now = [row["id"] for row in rows], onefold.clock.now()
            moved = await onefold.letters.discard(chosen, note=because, now=now)
            rows = [row for row in rows if row["id"] in moved]
    show([_shown(row) for row in rows], _COLUMNS, as_json=json)


def _wanted(
    ids: list[str] | None,
    consumer: str | None,
    topic: str | None,
    event_type: str | None,
    reason: str | None,
    state: str,
    *,
    everything: bool = True,
) -> Wanted:
    """
    The filter that was typed.

    Raises:
        InvalidInput: a call that changes letters names neither one nor a filter nor all.
    """
    if not any((ids, consumer, topic, event_type, reason, everything)):
        raise InvalidInput([FieldProblem("ids", "missing", "name letters, a filter, or --all")])
    return Wanted(
        ids=ids or [],
        consumer=consumer,
        topic=topic,
        event_type=event_type,
        reason=reason,
        state=None if state == "any" else state,
    )


async def _found(letters: DeadLetters, wanted: Wanted, limit: int) -> Sequence[Mapping[str, Any]]:
    """
    The letters wanted, the longest parked first.

    Raises:
        NotFound: one that was named is not there, or not parked; nothing was done.
    """
    rows = await letters.find(wanted, limit=max(limit, len(wanted.ids)))
    missing = {*wanted.ids} - {row["id"] for row in rows}
    for id_ in sorted(missing):
        raise NotFound(f"{wanted.state or ''} dead letter".strip(), id_)
    return rows


def _apart(rate: str | None) -> timedelta:
    """
    How long one letter is after another at *rate*.

    Raises:
        InvalidInput: it is no rate.
    """
    if rate is None:
        return timedelta(0)
    match = re.fullmatch(r"(\d*[1-9]\d*)/([smh])", rate)
    if match is None:
        raise InvalidInput([FieldProblem("rate", "no_rate", "expected a number like 5/s or 90/m")])
    return timedelta(seconds=_SECONDS[match[2]] / int(match[1]))


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A letter with its bytes and headers as text, or in hexadecimal where they are not UTF-8."""
    headers = [[name, _text(bytes.fromhex(value))] for name, value in row["headers"]]
    return {name: _text(value) for name, value in row.items()} | {"headers": headers}


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
