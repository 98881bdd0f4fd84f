"""`onefold trace` and `onefold trades`: deliveries, destinations, consents, statements."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from onefold.errors import Conflict, FieldProblem, IllegalTransition, InvalidInput
from onefold_server.cli.directory import School
from onefold_server.cli.output import DatabaseUrl, Json, command, opened, show, show_json
from onefold_server.domains.directory.rules import Principal

if TYPE_CHECKING:
    from onefold_server.domains.trades.service import TraceService

app = typer.Typer(help="What is published to outside trackers.", no_args_is_help=True)
places = typer.Typer(help="Where deliveries go.", no_args_is_help=True)
trades = typer.Typer(help="Trades.", no_args_is_help=True)
app.add_typer(places, name="destination")

_REFUSED = 3  # imported, but for some lines; as onefold ingest says it
_COLUMNS = ["id", "state", "reason", "attempts", "next_at", "last_outcome", "last_status"]
Id = Annotated[UUID, typer.Argument(help="The delivery's id.")]
Name = Annotated[str, typer.Argument(help="The destination's name or id.")]
Secret = Annotated[
    list[str] | None,
    typer.Option("--secret", help="name=value; - as the value reads it from standard input."),
]
Limit = Annotated[int, typer.Option(min=1, max=1000)]
AlwaysJson = Annotated[bool, typer.Option("--json", help="It is JSON in any case.")]


@asynccontextmanager
async def _asked(
    database: str | None, school: str | None
) -> AsyncIterator[tuple["TraceService", Principal]]:
    """The service over the database, and who asks it: whoever runs the command, for a school."""
    async with opened(database) as onefold:
        school_id = await onefold.directory.find_school(school)
        yield onefold.trace.service, Principal.local(school_id)


@app.command("list")
@command
async def list_deliveries(
    state: Annotated[list[str] | None, typer.Option(help="May come again.")] = None,
    destination: Annotated[str | None, typer.Option(help="Of this one alone.")] = None,
    limit: Limit = 100,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List deliveries, the longest due first: by default what waits, is held or dead."""
    async with _asked(database, school) as (trace, caller):
        rows = await trace.deliveries(
            caller,
            states=state or ["pending", "leased", "held", "dead"],
            destination=destination,
            limit=limit,
        )
    show(rows, ["destination", *_COLUMNS], as_json=json)


@app.command("show")
@command
async def show_delivery(
    id_: Id, school: School = None, database: DatabaseUrl = None, json: AlwaysJson = True
) -> None:
    """Show one delivery: its attempts, its evidence, the exact bytes."""
    del json
    async with _asked(database, school) as (trace, caller):
        show_json(await trace.delivery(caller, id_))


def _act(doing: str, told: str) -> None:
    @command
    async def act(
        id_: Id, school: School = None, database: DatabaseUrl = None, json: Json = False
    ) -> None:
        async with _asked(database, school) as (trace, caller):
            show([await getattr(trace, doing)(caller, id_)], _COLUMNS, as_json=json)

    app.command(doing, help=told)(act)


_act("replay", "Try a dead delivery again: the same id and the same bytes.")
_act("cancel", "Never send what was not sent yet.")
_act("release", "Send a waiting or held delivery now; for a tripped one this is your decision.")


@app.command("dry-run")
@command
async def dry_run(
    trade: Annotated[UUID, typer.Argument(help="The trade's id.")],
    profile: Annotated[str, typer.Option(help="full, no_size or result_only.")] = "full",
    school: School = None,
    database: DatabaseUrl = None,
    json: AlwaysJson = True,
) -> None:
    """Print what a trade would say under a profile, with made-up references; sends nothing."""
    del json
    async with _asked(database, school) as (trace, caller):
        print((await trace.dry_run(caller, trade, profile)).decode())


@app.command("test")
@command
async def send_test(
    destination: Name,
    send: Annotated[bool, typer.Option(help="Send it, or only print it.")] = True,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Print the exact bytes of a marked test, send it, say what was answered; 1 if refused."""
    async with _asked(database, school) as (trace, caller):
        told = await trace.send_test(caller, destination, send=send)
    if json:
        show_json(told)
    else:
        print(told["body"])
        if send:
            status = "" if told["status"] is None else f" (status {told['status']})"
            print(f"{told['outcome']}: {told['reason']}{status}")
    if send and told["outcome"] != "delivered":
        raise typer.Exit(1)


@app.command("coverage")
@command
async def coverage(
    days: Annotated[int, typer.Option(min=1, max=3660, help="How many days back.")] = 30,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """By account and day: trades closed, deliveries delivered, pending, dead, held."""
    async with opened(database) as onefold:
        caller = Principal.local(await onefold.directory.find_school(school))
        until = onefold.clock.now() + timedelta(seconds=1)
        rows = await onefold.trace.service.coverage(
            caller, since=until - timedelta(days=days), until=until
        )
    columns = [
        "user_id",
        "account_id",
        "day",
        "closed",
        "delivered",
        "pending",
        "dead",
        "held",
        "cancelled",
    ]
    show(rows, columns, as_json=json)


@app.command("deliver")
@command
async def deliver(
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Deliver what is due now, and end; a worker or server does so all the time."""
    async with opened(database) as onefold:
        await onefold.trace.feed()
        said = await onefold.courier.work_off(limit=limit)
    if said or json:
        show([dict(said)], sorted(said), as_json=json)
    else:
        print("nothing is due")


@app.command("compact")
@command
async def compact(
    folder: Annotated[Path | None, typer.Argument(help="A file destination's.")] = None,
    destination: Annotated[
        str | None, typer.Option(help="Its name or id, instead of its folder.")
    ] = None,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Make the daily `trades-YYYY-MM-DD.jsonl` of a file destination's folder."""
    from onefold_server.wiring.trades import compacted, folder_of

    if (destination is None) == (folder is None):
        reason = "name one, or a --destination that has one; not both"
        raise InvalidInput([FieldProblem("folder", "choice", reason)])
    if folder is None:
        async with opened(database) as onefold:
            caller = Principal.local(await onefold.directory.find_school(school))
            place = await onefold.trace.service.destination(caller, str(destination))
            folder = folder_of(onefold.settings, caller.school_id, place)
    made = compacted(folder)
    if json:
        show_json({"folder": str(folder), "files": made})
        return
    print(f"{folder}: {len(made)} daily files")
    for name, lines in made.items():
        print(f"{name}: {lines}")


# --- destinations ------------------------------------------------------------------------------

_PLACES = ["name", "sink", "state", "delay_floor_s", "schedule", "concurrency", "secrets"]


@places.command("create")
@command
async def create(
    name: Name,
    sink: Annotated[str, typer.Option(help="The kind of sink.")],
    config: Annotated[list[str] | None, typer.Option(help="name=value; may come again.")] = None,
    secret: Secret = None,
    delay_floor_s: Annotated[int, typer.Option(min=0)] = 60,
    schedule: Annotated[
        str, typer.Option(help="standard, or compat: the fast phase.")
    ] = "standard",
    concurrency: Annotated[int, typer.Option(min=1)] = 4,
    rate_per_s: Annotated[float | None, typer.Option(help="At most so many a second.")] = None,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Create a destination; its configuration is tried before it is kept."""
    async with _asked(database, school) as (trace, caller):
        made = await trace.create_destination(
            caller,
            name,
            sink,
            config=_pairs(config),
            secrets=_hidden(secret),
            delay_floor_s=delay_floor_s,
            schedule=schedule,
            concurrency=concurrency,
            rate_per_s=rate_per_s,
        )
    show([made], _PLACES, as_json=json)


@places.command("list")
@command
async def list_places(
    school: School = None, database: DatabaseUrl = None, json: Json = False
) -> None:
    """List destinations: which secrets they have, never what they are."""
    async with _asked(database, school) as (trace, caller):
        show(await trace.destinations(caller), _PLACES, as_json=json)


@places.command("change")
@command
async def change(
    name: Name,
    config: Annotated[
        list[str] | None,
        typer.Option(help="name=value; may come again; nothing after = takes it out."),
    ] = None,
    delay_floor_s: Annotated[int | None, typer.Option(min=0)] = None,
    schedule: Annotated[str | None, typer.Option(help="standard or compat.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1)] = None,
    rate_per_s: Annotated[
        float | None, typer.Option(min=0, help="At most so many a second; 0: any number.")
    ] = None,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Change how a destination is reached; what is not named stays, and so do its secrets."""
    given: dict[str, Any] = {
        "config": {k: v or None for k, v in _pairs(config).items()} or None,
        "delay_floor_s": delay_floor_s,
        "schedule": schedule,
        "concurrency": concurrency,
        "rate_per_s": rate_per_s,
    }
    changed = {field: value for field, value in given.items() if value is not None}
    if rate_per_s == 0:
        changed["rate_per_s"] = None
    async with _asked(database, school) as (trace, caller):
        made = await trace.change(caller, name, changed)
    show([made], [*_PLACES, "config"], as_json=json)


@places.command("rotate")
@command
async def rotate(
    name: Name,
    secret: Secret = None,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Give a destination other secrets; all that it needs, for the old ones are forgotten."""
    async with _asked(database, school) as (trace, caller):
        made = await trace.rotate(caller, name, _hidden(secret))
    show([made], _PLACES, as_json=json)


def _put(doing: str, key: str, told: str) -> None:
    @command
    async def put(
        name: Name, school: School = None, database: DatabaseUrl = None, json: Json = False
    ) -> None:
        async with _asked(database, school) as (trace, caller):
            count = await getattr(trace, doing)(caller, name)
        if json:
            show_json({key: count})  # as over HTTP
        else:
            print(f"{count} deliveries {told}")

    places.command(doing, help=f"{doing.capitalize()} a destination.")(put)


_put("pause", "held", "are held")
_put("resume", "released", "go on")
_put("remove", "held", "are held; receipts stay")


@app.command("subscribe")
@command
async def subscribe(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    destination: Name,
    consent: Annotated[str, typer.Option(help="Version of the text they agreed to.")],
    profile: Annotated[str, typer.Option(help="full, no_size or result_only.")] = "result_only",
    delay_s: Annotated[int, typer.Option(min=0)] = 300,
    until: Annotated[
        str | None, typer.Option(help="When it ends, such as 2026-12-31T00:00:00Z.")
    ] = None,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Record a user's consent, from now on."""
    end = None if until is None else _instant(until)
    async with _asked(database, school) as (trace, caller):
        made = await trace.subscribe(
            caller,
            user,
            destination,
            profile=profile,
            consent_version=consent,
            delay_s=delay_s,
            until=end,
        )
    show([made], _CONSENTS, as_json=json)


_CONSENTS = ["id", "user_id", "profile", "delay_s", "consent_version", "until"]


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        reason = "expected an instant such as 2026-12-31T00:00:00Z"
        raise InvalidInput([FieldProblem("until", "timestamp", reason)]) from None


@app.command("subscriptions")
@command
async def list_subscriptions(
    user: Annotated[str | None, typer.Option(help="Of this one alone.")] = None,
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List consents, the oldest first: by their ids they are withdrawn."""
    async with _asked(database, school) as (trace, caller):
        rows = await trace.subscriptions(caller, user)
    show(rows, [*_CONSENTS, "destination", "withdrawn_at"], as_json=json)


@app.command("withdraw")
@command
async def withdraw(
    subscription: Annotated[UUID, typer.Argument(help="The subscription's id.")],
    school: School = None,
    database: DatabaseUrl = None,
    json: AlwaysJson = True,
) -> None:
    """End a consent: cancel what waits, and list what cannot be recalled."""
    del json
    async with _asked(database, school) as (trace, caller):
        show_json(await trace.withdraw(caller, subscription))


# --- statements --------------------------------------------------------------------------------


@trades.command("import")
@command
async def import_statement(
    statement: Annotated[Path, typer.Argument(help="CSV with a header of field names.")],
    user: Annotated[str, typer.Option(help="Whose trades they are.")],
    account: Annotated[str, typer.Option(help="The account, where no column says so.")] = "main",
    mode: Annotated[
        str, typer.Option(help="live, demo or paper, where no column says so.")
    ] = "live",
    school: School = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Import a broker's statement; again changes nothing. Bad lines are named: exit code 3."""
    import sys

    from rich.console import Console
    from rich.progress import Progress

    from onefold_server.cli.statement import read_statement

    lines = list(read_statement(statement, user=user, account=account, mode=mode))
    report: dict[str, Any] = {"new": 0, "known": 0, "closed": 0, "refused": []}
    async with _asked(database, school) as (trace, caller):
        # Beside what is told, which may go into a file.
        bars = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty())
        with bars as progress:
            bar = progress.add_task("trades", total=len(lines))
            for line in lines:
                await _import_line(trace, caller, line, report)
                progress.advance(bar)
    if json:
        show_json(report)
    else:
        counts = ", ".join(f"{report[name]} {name}" for name in ("new", "known", "closed"))
        print(f"{counts}, {len(report['refused'])} refused")
        for refused in report["refused"]:
            print(f"line {refused['line']}: {refused['reason']}")
    if report["refused"]:
        raise typer.Exit(_REFUSED)


async def _import_line(
    trace: "TraceService", caller: Principal, line: Any, report: dict[str, Any]
) -> None:
    try:
        if line.problem is not None:
            raise line.problem
        try:
            (new,) = await trace.record_many(caller, [(line.trade_id, line.facts)])
            report["new" if new else "known"] += 1
        except Conflict:
            became = await _closed(trace, caller, line)
            if became is None:
                raise
            report[became] += 1
    except (InvalidInput, Conflict, IllegalTransition) as error:
        report["refused"].append({"line": line.number, "reason": str(error)})


async def _closed(trace: "TraceService", caller: Principal, line: Any) -> str | None:
    """Close the trade that an earlier statement had as open, if this line is its end."""
    known = await trace.trade(caller, line.trade_id)
    began = ("instrument", "side", "mode", "entry_time", "entry_price", "user_id", "account_id")
    same = all(line.facts.get(name) == known[name] for name in began)
    if not same or line.facts["status"] != "closed":
        return None
    exit_ = {k: v for k, v in line.facts.items() if k in known and k not in {*began, "status"}}
    await trace.close(caller, line.trade_id, exit_)
    return "closed" if known["status"] == "open" else "known"


def _pairs(texts: list[str] | None) -> dict[str, Any]:
    """Values are text, which a sink reads as it needs; of JSON only lists and objects are."""
    import json as reader

    found: dict[str, Any] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator:
            raise InvalidInput([FieldProblem("config", "pair", "expected name=value")])
        try:
            found[name] = reader.loads(value) if value.startswith(("[", "{")) else value
        except ValueError:
            found[name] = value
    return found


def _hidden(texts: list[str] | None) -> dict[str, Any]:
    import sys

    made: dict[str, Any] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator:
            raise InvalidInput([FieldProblem("secret", "pair", "expected name=value")])
        read = sys.stdin.readline().strip() if value == "-" else value
        if name == "signing":  # several while they are rotated, the newest first
            made.setdefault("signing", []).append(read)
        else:
            made[name] = read
    return made


def add_to(cli: typer.Typer) -> None:
    """Give *cli* these command groups."""
    cli.add_typer(app, name="trace")
    cli.add_typer(trades, name="trades")
