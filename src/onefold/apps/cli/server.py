"""`onefold up`, `serve`, `worker`, `migrate`, `demo`: the processes, and what they need."""

from typing import Annotated

import typer

from onefold.apps.cli.output import DatabaseUrl, Json, command, opened, show_json


def up(port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None) -> None:
    """Serve an embedded database with demo data; the first call sets everything up."""
    from onefold.apps.up import up as start
    from onefold.settings import Settings

    start(Settings.load(**({"port": port} if port is not None else {})))


def serve(
    database: DatabaseUrl = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    worker: Annotated[bool, typer.Option(help="Run the worker's loops here too.")] = True,
) -> None:
    """Serve HTTP over the database that is set."""
    from onefold.apps.server import full_app, listen
    from onefold.apps.server import serve as start
    from onefold.settings import Settings
    from onefold.wiring import build

    given = {"database_url": database, "host": host, "port": port}
    settings = Settings.load(**{k: v for k, v in given.items() if v is not None})
    onefold = build(settings)
    with listen(settings) as (socket, url):
        start(
            full_app(onefold, worker=worker),
            onefold,
            socket=socket,
            ready=lambda: print(f"Onefold serves {url}", flush=True),
        )


def worker(
    database: DatabaseUrl = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Answer /metrics on this port; 0 for any.")
    ] = None,
) -> None:
    """Run the worker's loops alone, beside servers started with --no-worker."""
    from onefold.apps.worker import work
    from onefold.settings import Settings

    settings = Settings.load(**({"database_url": database} if database else {}))
    work(settings, metrics_port=metrics_port)


@command
async def migrate(database: DatabaseUrl = None) -> None:
    """Bring the database to this version's schema."""
    from onefold.settings import Settings
    from onefold.wiring import build

    onefold = build(Settings.load(**({"database_url": database} if database else {})))
    try:
        await onefold.migrate()
    finally:
        await onefold.aclose()


@command
async def demo(database: DatabaseUrl = None, json: Json = False) -> None:
    """Fill the database with a school, a class and some thousand believable events."""
    from onefold.apps.demo import fill

    async with opened(database, any_age=True) as onefold:
        facts = await fill(onefold)
    if json:
        show_json(facts)
    else:
        print(
            f"school {facts['school_id']}: {len(facts['student_ids'])} pupils, "
            f"{facts['applied']} events new, {facts['repeated']} there before"
        )


def add_to(app: typer.Typer) -> None:
    """Give *app* these commands."""
    for run in (up, serve, worker, migrate, demo):
        app.command()(run)
