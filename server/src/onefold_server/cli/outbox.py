"""`onefold outbox`: what waits to be sent, since when, and what was given up."""

from dataclasses import asdict
from typing import Annotated

import typer

from onefold_server.cli.output import DatabaseUrl, Json, command, opened, show

app = typer.Typer(help="Events that wait to be sent.", no_args_is_help=True)

_COLUMNS = ["event_id", "event_type", "key", "attempts", "error", "published_at", "dead_at"]


@app.command("status")
@command
async def status(
    alarm_s: Annotated[
        float | None,
        typer.Option("--alarm-s", help="Exit with 1 when the oldest is older, or any is dead."),
    ] = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Count what waits and what is dead, and tell the age of the oldest."""
    async with opened(database) as onefold:
        standing = await onefold.backlog.standing()
        age_s = standing.age_s(onefold.clock.now())
    row = {"waiting": standing.waiting, "dead": standing.dead, "oldest_age_s": round(age_s, 1)}
    show([row], list(row), as_json=json)
    if alarm_s is not None and (standing.dead or age_s > alarm_s):
        raise typer.Exit(1)


@app.command("dead")
@command
async def list_dead(
    limit: Annotated[int, typer.Option(min=1)] = 100,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List the events that are sent no more, and why."""
    async with opened(database) as onefold:
        dead = await onefold.backlog.dead(limit=limit)
    show([asdict(event) for event in dead], _COLUMNS, as_json=json)


@app.command("revive")
@command
async def revive(
    event_ids: Annotated[list[str], typer.Argument(help="As `onefold outbox dead` lists them.")],
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Let dead events be sent again, under the same ids, before what waits behind them."""
    async with opened(database) as onefold:
        revived = await onefold.backlog.revive(event_ids)
    show([{"revived": event_id} for event_id in revived], ["revived"], as_json=json)


def add_to(cli: typer.Typer) -> None:
    """Give *cli* this command group."""
    cli.add_typer(app, name="outbox")
