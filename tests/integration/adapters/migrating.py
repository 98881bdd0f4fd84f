"""A process that migrates a database when it is told to; it says when it is ready."""

import asyncio
import sys

import onefold_server.installation  # noqa: F401 (every table is declared by importing these)
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import migrate


def main() -> None:
    """Over the URL in the first argument, after a line of standard input."""
    asyncio.run(_migrate())


async def _migrate() -> None:
    database = Database(sys.argv[1])
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    try:
        await migrate(database)
    finally:
        await database.aclose()
