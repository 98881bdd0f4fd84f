"""The `onefold` command: one file a command group."""

import gc
import sys

import typer

from onefold.errors import OnefoldError
from onefold_server.cli import (
    audit,
    classroom,
    dead,
    directory,
    learning,
    outbox,
    server,
    telemetry,
    trace,
)

app = typer.Typer(
    name="onefold",
    help="Every event counts exactly once, and it is proved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: drawing boxes took twice the time of all else
)
# What is imported stays. Python's 700 would look through it 400 times before a server answers,
# a tenth of the CPU that it starts with (2026-11-28).
_LOOK_FOR_GARBAGE_EVERY = 10_000  # objects

server.add_to(app)
directory.add_to(app)
dead.add_to(app)
outbox.add_to(app)
audit.add_to(app)
telemetry.add_to(app)
learning.add_to(app)
classroom.add_to(app)
trace.add_to(app)


def main() -> None:
    """Run the command line; errors of ours end in one line, never in a traceback."""
    gc.set_threshold(_LOOK_FOR_GARBAGE_EVERY)
    try:
        app()
    except OnefoldError as error:
        print(f"onefold: {error}", file=sys.stderr)
        sys.exit(1)
