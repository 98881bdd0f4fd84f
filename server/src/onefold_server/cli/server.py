"""`onefold up`, `serve`, `worker`, `migrate`, `demo`: the processes, and what they need."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from onefold_server.cli.output import DatabaseUrl, Json, command, opened, show_json

if TYPE_CHECKING:
    from onefold.engine.worker import Worker


def up(port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None) -> None:
    """Serve an embedded database with demo data; the first call sets everything up."""
    from onefold_server.settings import Settings
    from onefold_server.up import up as start

    start(Settings.load(**({"port": port} if port is not None else {})))


def serve(
    database: DatabaseUrl = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    worker: Annotated[bool, typer.Option(help="Run the worker's loops here too.")] = True,
) -> None:
    """Serve HTTP over the database that is set."""
    from onefold_server.settings import Settings

    given = {"database_url": database, "host": host, "port": port}
    settings = Settings.load(**{k: v for k, v in given.items() if v is not None})
    # Not before: a setting that is wrong is told at once.
    from onefold_server.installation import build
    from onefold_server.server import full_app
    from onefold_server.server import serve as start
    from onefold_server.sockets import listen

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
    app: Annotated[
        str | None,
        typer.Option(help="Run your own application's consumers: module:attribute."),
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Answer /metrics on this port; 0 for any.")
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
        _work_for(app, metrics_port)
        return
    from onefold.wiring.signals import LEFT
    from onefold_server.settings import Settings
    from onefold_server.worker import work

    settings = Settings.load(**({"database_url": database} if database else {}))
    if not work(settings, metrics_port=metrics_port):
        raise typer.Exit(LEFT)


def _work_for(name: str, metrics_port: int | None) -> None:
    from onefold.wiring.signals import LEFT
    from onefold_server.cli.named_app import named_app
    from onefold_server.logs import log_as
    from onefold_server.settings import Settings

    app, settings = named_app(name), Settings.load()
    log_as(settings)

    @asynccontextmanager
    async def beside(worker: "Worker") -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if metrics_port is not None:
                from onefold_server.metrics import metrics_served

                served = metrics_served(settings, app.meters(worker), port=metrics_port)
                print(f"metrics at {await stack.enter_async_context(served)}", flush=True)
            print(f"onefold: {name} works: {', '.join(app.specs)}", flush=True)
            yield

    if not app.run(beside=beside):
        raise typer.Exit(LEFT)


@command
async def migrate(database: DatabaseUrl = None, json: Json = False) -> None:
    """Bring the database to this version's schema."""
    from onefold_server.installation import build
    from onefold_server.settings import Settings

    onefold = build(Settings.load(**({"database_url": database} if database else {})))
    try:
        await onefold.migrate()
    finally:
        await onefold.aclose()
    if json:
        show_json({"migrated": True})


@command
async def demo(database: DatabaseUrl = None, json: Json = False) -> None:
    """Fill the database with a school, a class and some thousand believable events."""
    from onefold_server.demo import fill

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
