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
    from onefold.apps.server import listen
    from onefold.apps.server import serve as start
    from onefold.settings import Settings

    given = {"database_url": database, "host": host, "port": port}
    settings = Settings.load(**{k: v for k, v in given.items() if v is not None})
    with listen(settings) as (socket, url):
        print(f"Onefold serves {url}", flush=True)
        start(settings, socket=socket, worker=worker)


def worker(
    database: DatabaseUrl = None,
    app: Annotated[
        str | None,
        typer.Option(help="Run your own application's consumers: module:attribute."),
    ] = None,
) -> None:
    """
    Run the worker's loops alone, beside servers started with --no-worker.

    With --app, run the consumers and the relay of your own application, such as
    shop.main:app. SIGTERM or Ctrl-C finishes what is under way and leaves with 0; a second
    one leaves at once with 143, and what was not committed comes again elsewhere.
    """
    if app is not None:
        if database is not None:
            raise typer.BadParameter("the application names its own", param_hint="--database")
        _work_for(app)
        return
    from onefold.apps.worker import work
    from onefold.settings import Settings

    work(Settings.load(**({"database_url": database} if database else {})))


def _work_for(name: str) -> None:
    import logging

    from onefold.apps.cli.named_app import named_app

    app = named_app(name)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("onefold").setLevel(logging.INFO)
    consumers = ", ".join(app.specs)
    drained = app.run(ready=lambda: print(f"onefold: {name} works: {consumers}", flush=True))
    if not drained:
        raise typer.Exit(143)  # as a shell tells of SIGTERM


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
