"""`onefold verify`, `explain`, `reconcile`: what holds in a live store, why, and what to settle."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from onefold.errors import FieldProblem, InvalidInput
from onefold.ports.audit import Check, Severity
from onefold_server.cli.output import DatabaseUrl, Json, command, opened, show, show_json

if TYPE_CHECKING:
    from onefold.application import Onefold

BROKEN, WAITING = 1, 3  # exit codes; 2 is a mistake in the call

App = Annotated[str | None, typer.Option(help="The application, as module:attribute.")]
Markers = Annotated[
    list[str] | None,
    typer.Option(
        "--marker", help="consumer=table.column: where its effect leaves the event's identity."
    ),
]


@command
async def verify(
    app: App = None,
    marker: Markers = None,
    depth: Annotated[
        int, typer.Option(min=0, help="How many of the newest messages to read one by one.")
    ] = 10_000,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Check a live store: 0 all is well, 1 a promise is broken, 3 something waits for somebody."""
    markers, settled = _markers(marker or ()), {}
    if app is not None:
        application = _named(app)
        markers = application.markers() | markers
        try:
            settled = await application.settled()
        finally:
            await application.aclose()
    async with opened(database) as onefold:
        checks = await onefold.audit.run(
            now=onefold.clock.now(), markers=markers, depth=depth, settled=settled
        )
    if json:
        show_json([asdict(check) | {"weight": check.weight.value} for check in checks])
    else:
        _report(checks)
    found = {check.weight for check in checks if check.found}
    if found:
        raise typer.Exit(BROKEN if Severity.BROKEN in found else WAITING)


def _named(app: str) -> "Onefold":
    from onefold_server.cli.named_app import named_app  # brings all of the library

    return named_app(app)


def _report(checks: Sequence[Check]) -> None:
    for check in checks:
        state = "ok"
        if check.found:
            state = f"{check.weight.value}: {check.found}"
        if check.unknown:
            state = f"not looked at: {check.unknown}"
        print(f"{check.name:<16} {check.promise}: {state}")
        for sample in check.samples:
            print(f"{'':<16}   {sample}")
    broken = sum(check.found for check in checks if check.weight is Severity.BROKEN)
    waiting = sum(check.found for check in checks if check.weight is Severity.WAITING)
    print(f"verify: {len(checks)} checks, {broken} broken, {waiting} waiting for somebody")


def _markers(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for (consumer, _, place), text in zip(pairs, given, strict=True):
        if not consumer or not place:
            problem = FieldProblem("marker", "no_pair", f"{text!r}: expected consumer=table.column")
            raise InvalidInput([problem])
    return {consumer: place for consumer, _, place in pairs}


@command
async def explain(
    app: Annotated[str, typer.Option(help="The application, as module:attribute.")],
    json: Json = False,
) -> None:
    """Say of each consumer whether it is exactly once or at least once, and because of what."""
    application = _named(app)
    try:
        explained = [asdict(one) for one in await application.explain()]
    finally:
        await application.aclose()
    if json:
        show_json(explained)
        return
    for one in explained:
        print(f"{one['consumer']}: {one['promise']}")
        for head, key in (("because", "because"), ("but    ", "but")):
            for line in one[key]:
                print(f"  {head}  {line}")


@command
async def reconcile(
    valkey: Annotated[
        str | None, typer.Option(help="URL of the Valkey that keeps the claims, if one does.")
    ] = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Settle what ran while no guard answered; 3 when an event may have been applied twice."""
    async with opened(database) as onefold:
        done = await onefold.reconcile(valkey=valkey)
    rows = [
        {
            "became": became,
            **event.key._asdict(),
            "times": event.times,
            "processed_at": event.processed_at,
        }
        for became in ("recorded", "suspect", "open")
        for event in getattr(done, became)
    ]
    show(rows, ["became", "consumer", "event_id", "times", "processed_at"], as_json=json)
    if done.suspect:
        raise typer.Exit(WAITING)


def add_to(cli: typer.Typer) -> None:
    """Give *cli* these commands."""
    for run in (verify, explain, reconcile):
        cli.command()(run)
