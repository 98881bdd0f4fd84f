"""No driver's error passes the border; each becomes one of ours with a right verdict."""

import asyncio
import builtins
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from asyncpg import exceptions as asyncpg_errors
from sqlalchemy import Table, exc, insert, select, text, update
from sqlalchemy.sql.compiler import SQLCompiler
from tests.integration.adapters.postgres_proxy import Cut, commit_cutter
from tests.support import turn_of_the_loop

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.errors import at_the_border, at_the_commit, translate, verdict
from onefold.adapters.sql.migrate import require_current
from onefold.adapters.sql.schema import health, inbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.errors import (
    Broken,
    CommitUnknown,
    ConstraintViolated,
    IllegalTransition,
    OnefoldError,
    SchemaOutdated,
    StoreContended,
    StoreFailed,
    StoreUnavailable,
    Unavailable,
)
from onefold.ports.unit_of_work import Transaction, in_transaction
from onefold_server.domains.directory.tables import schools, students

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "the pupil's name"


# ---------------------------------------------------------------- the classes of the drivers


def _family(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


def _made(kind: type[BaseException]) -> BaseException:
    """An error of that class, as its driver would make it."""
    if issubclass(kind, exc.DBAPIError):
        return kind("SELECT 1", {}, ValueError(SECRET))
    return kind(*_ARGUMENTS.get(kind, (SECRET,)))


_ARGUMENTS: dict[type[BaseException], tuple[Any, ...]] = {
    exc.CircularDependencyError: (SECRET, [], []),
    exc.NoReferencedColumnError: (SECRET, "table", "column"),
    exc.NoReferencedTableError: (SECRET, "table"),
    exc.StatementError: (SECRET, "SELECT 1", {}, ValueError(SECRET)),
    exc.UnsupportedCompilationError: (SQLCompiler, Table),
}


_NOT_ERRORS = (Warning, exc.DontWrapMixin)
DRIVER_CLASSES = sorted(
    {
        kind
        for root in (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            sqlite3.Error,
            exc.SQLAlchemyError,
            OSError,
        )
        for kind in _family(root)
        if not issubclass(kind, _NOT_ERRORS)
        and not kind.__module__.startswith("sqlalchemy.orm")  # not used here
        and kind.__module__.partition(".")[0]
        in {"asyncpg", "sqlite3", "sqlalchemy", "builtins", "socket", "ssl"}
    },
    key=lambda kind: (kind.__module__, kind.__qualname__),
)


def test_the_walk_finds_the_classes() -> None:
    """The proof below is not about nothing."""
    found = {kind.__name__ for kind in DRIVER_CLASSES}

    assert {"DeadlockDetectedError", "IntegrityError", "gaierror", "NoResultFound"} <= found
    assert len(DRIVER_CLASSES) > 300


def test_no_class_of_a_driver_passes_the_border() -> None:
    """Whatever a driver raises, ours comes out, with the driver's own as its cause."""
    for kind in DRIVER_CLASSES:
        theirs = _made(kind)
        with pytest.raises(OnefoldError) as ours, at_the_border():
            raise theirs

        assert ours.value.__cause__ is theirs, kind
        assert isinstance(ours.value, Unavailable | Broken), kind


def test_at_the_commit_only_an_answer_says_that_nothing_was_recorded() -> None:
    """Everything but a conflict and a broken rule leaves the outcome unknown, and says so."""
    for kind in DRIVER_CLASSES:
        theirs = _made(kind)
        with pytest.raises(OnefoldError) as ours, at_the_commit():
            raise theirs

        assert isinstance(ours.value, CommitUnknown | StoreContended | ConstraintViolated), kind


# Appendix A of PostgreSQL's manual, by class; what stands alone is below.
_CLASSES = {
    "08": StoreUnavailable,
    "22": ConstraintViolated,
    "23": ConstraintViolated,
    "40": StoreContended,
    "53": StoreUnavailable,
    "57": StoreUnavailable,
    "58": StoreUnavailable,
}
_ALONE = {
    "25006": StoreUnavailable,
    "40002": ConstraintViolated,
    "40003": StoreUnavailable,
    "42703": SchemaOutdated,
    "42P01": SchemaOutdated,
    "55P03": StoreContended,
}


def test_a_sqlstate_decides() -> None:
    """The verdict follows PostgreSQL's code, through every wrapper, at any depth."""
    for kind in DRIVER_CLASSES:
        state = getattr(kind, "sqlstate", None)
        if state is None:
            continue
        expected = _ALONE.get(state) or _CLASSES.get(state[:2], StoreFailed)
        if kind is asyncpg_errors.InvalidCachedStatementError:
            expected = StoreUnavailable  # code of a missing feature; trying again cures it
        bare = kind(SECRET)
        wrapped = exc.DBAPIError("SELECT 1", {}, RuntimeError("adapted"))
        wrapped.__cause__ = bare

        assert (verdict(bare), verdict(wrapped)) == (expected, expected), kind


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_BUSY, StoreContended),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreContended),
        (sqlite3.SQLITE_LOCKED, StoreContended),
        (sqlite3.SQLITE_PROTOCOL, StoreContended),
        (sqlite3.SQLITE_IOERR, StoreUnavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable),
        (sqlite3.SQLITE_FULL, StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
        (sqlite3.SQLITE_READONLY, StoreUnavailable),
        (sqlite3.SQLITE_NOMEM, StoreUnavailable),
        (sqlite3.SQLITE_INTERRUPT, StoreUnavailable),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, ConstraintViolated),
        (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, ConstraintViolated),
        (sqlite3.SQLITE_TOOBIG, ConstraintViolated),
        (sqlite3.SQLITE_MISMATCH, ConstraintViolated),
        (sqlite3.SQLITE_CORRUPT, StoreFailed),
        (sqlite3.SQLITE_NOTADB, StoreFailed),
        (sqlite3.SQLITE_MISUSE, StoreFailed),
        (sqlite3.SQLITE_ERROR, StoreFailed),
    ],
)
def test_a_result_code_of_sqlite_decides(code: int, expected: type[OnefoldError]) -> None:
    """SQLite's code counts, the extended one as its primary."""
    error = sqlite3.OperationalError(SECRET)
    error.sqlite_errorcode = code

    assert verdict(error) is expected


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(builtins).values()
        if isinstance(kind, type) and issubclass(kind, OSError)
    ],
)
def test_the_network_and_the_disk_are_unavailable(kind: type[OSError]) -> None:
    """Refused, reset, unreachable, timed out: try again later."""
    assert verdict(kind(SECRET)) is StoreUnavailable
    assert verdict(socket.gaierror(SECRET)) is StoreUnavailable


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exc.TimeoutError(), StoreContended),
        (exc.PendingRollbackError(), StoreUnavailable),
        (asyncpg.InterfaceError("connection is closed"), StoreUnavailable),
        (asyncpg.ProtocolError("what?"), StoreUnavailable),
        (asyncpg.TargetServerAttributeNotMatched("no primary"), StoreUnavailable),
        (asyncpg.ClientConfigurationError("what?"), StoreFailed),
        (ValueError("Connection closed"), StoreUnavailable),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), StoreUnavailable),
        (exc.InvalidRequestError("what?"), StoreFailed),
    ],
)
def test_what_has_no_code_is_known_by_its_class(
    error: Exception, expected: type[OnefoldError]
) -> None:
    """A lost connection is told from a wrong call."""
    assert verdict(error) is expected


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DataError(f"invalid input for query argument $1: '{SECRET}'"),
        asyncpg_errors.InvalidTextRepresentationError(f'invalid input syntax: "{SECRET}"'),
        ValueError(SECRET),
        exc.StatementError("what?", "SELECT 1", {}, ValueError(SECRET)),
    ],
)
def test_a_reason_repeats_no_value(error: Exception) -> None:
    """What a person typed does not travel into logs by way of an error."""
    assert SECRET not in str(translate(error))


def test_errors_of_the_block_itself_pass_unchanged() -> None:
    """A bug of ours is not dressed up as a failure of the store."""
    for mine in (KeyError("mine"), IllegalTransition("a", "b"), AssertionError("mine")):
        with pytest.raises(type(mine)) as passed, at_the_border():
            raise mine
        assert passed.value is mine


# ------------------------------------------------------------------- provoked on the real ones


@asynccontextmanager
async def _opened(url: str, wait_s: float = 5) -> AsyncIterator[SqlUnitOfWork]:
    """A unit of work that is as good as new after the block, whatever happened in it."""
    database = Database(url, wait_s=wait_s)
    uow = SqlUnitOfWork(database)
    try:
        yield uow
        await turn_of_the_loop()
        pools = {database.writer.pool, database.reader.pool}
        assert {pool.checkedout() for pool in pools} == {0}  # type: ignore[attr-defined]
        node = str(uuid4())
        async with uow.begin() as tx:
            await tx.insert_new(health, [{"node": node, "seen_at": NOW}])
        async with uow.read() as tx:
            found = await tx.execute(select(health.c.seen_at).where(health.c.node == node))
            assert found.scalar_one() == NOW
    finally:
        await uow.aclose()


async def _claimed(uow: SqlUnitOfWork, event_id: str) -> bool:
    async with uow.read() as tx:
        found = await tx.execute(select(inbox.c.event_id).where(inbox.c.event_id == event_id))
        return found.scalar_one_or_none() is not None


async def test_a_second_row_of_a_unique_key_is_a_broken_rule(database_url: str) -> None:
    """And the reason names the constraint."""
    row = {"node": "n", "seen_at": NOW}
    async with _opened(database_url) as uow:
        async with uow.begin() as tx:
            await tx.execute(insert(health).values(row))
        with pytest.raises(ConstraintViolated, match="health"):
            async with uow.begin() as tx:
                await tx.execute(insert(health).values(row))


async def test_a_reference_to_nothing_is_a_broken_rule(database_url: str) -> None:
    """A pupil without a school."""
    orphan = {"school_id": uuid4(), "id": uuid4(), "created_at": NOW}
    async with _opened(database_url) as uow:
        with pytest.raises(ConstraintViolated):
            async with uow.begin() as tx:
                await tx.execute(insert(students).values(orphan))


async def test_a_statement_that_makes_no_sense_is_not_worth_a_retry(database_url: str) -> None:
    """A bug in a query wakes someone."""
    async with _opened(database_url) as uow:
        with pytest.raises(StoreFailed):
            async with uow.begin() as tx:
                await tx.execute(text("SELEKT 1"))


async def test_a_database_that_was_not_migrated_says_so(empty_database_url: str) -> None:
    """With the command that helps."""
    database = Database(empty_database_url)
    try:
        with pytest.raises(SchemaOutdated, match="onefold migrate"):
            await require_current(database)
        with pytest.raises(SchemaOutdated, match="onefold migrate"):
            async with SqlUnitOfWork(database).begin() as tx:
                await tx.claim("c", "e", now=NOW)
        with pytest.raises(SchemaOutdated, match="onefold migrate"):
            async with SqlUnitOfWork(database).read() as tx:
                await tx.execute(select(health))
    finally:
        await database.aclose()


async def test_closing_rolls_back_what_is_open(database_url: str) -> None:
    """What a stopped process had under way is not recorded."""
    async with _opened(database_url) as looking:
        uow = SqlUnitOfWork(Database(database_url))

        async def work() -> None:
            async with uow.begin() as tx:
                await tx.claim("c", "e", now=NOW)
                await asyncio.create_task(uow.aclose())
                await tx.claim("c", "f", now=NOW)

        with pytest.raises(StoreUnavailable):
            await work()
        with pytest.raises(IllegalTransition):
            async with uow.begin():
                pass

        assert not await _claimed(looking, "e")


async def test_who_waits_too_long_for_a_claim_is_told(database_url: str) -> None:
    """Another writer did not let go in time: nothing was recorded."""
    async with _opened(database_url) as first, _opened(database_url, wait_s=0.05) as second:

        async def claim() -> None:
            async with second.begin() as other:
                await other.claim("c", "e", now=NOW)

        async with first.begin() as tx:
            await tx.claim("c", "e", now=NOW)
            with pytest.raises(StoreContended):
                await asyncio.create_task(claim())


async def test_who_waits_too_long_for_a_connection_is_told(database_url: str) -> None:
    """When all connections are lent and none comes back in time."""
    async with _opened(database_url, wait_s=0.05) as uow:
        size = uow._database.writer.pool.size()  # type: ignore[attr-defined]
        held, done = asyncio.Barrier(size + 1), asyncio.Event()

        async def hold() -> None:
            async with uow.begin():
                await held.wait()
                await done.wait()

        async with asyncio.TaskGroup() as holders:
            for _ in range(size):
                holders.create_task(hold())
            await held.wait()
            with pytest.raises(StoreContended, match="no connection"):
                async with uow.begin():
                    pass
            done.set()


# ------------------------------------------------------------------------- PostgreSQL alone


async def test_a_text_too_long_is_refused_and_never_cut(postgres_url: str) -> None:
    """Two long names that differ at their end are never taken for one."""
    row = {"node": "n" * 65, "seen_at": NOW}
    async with _opened(postgres_url) as uow:
        for write in _ways(row):
            with pytest.raises(ConstraintViolated, match="cannot hold"):
                async with uow.begin() as tx:
                    await write(tx)

        async with uow.read() as tx:
            assert (await tx.execute(select(health))).all() == []


def _ways(row: dict[str, Any]) -> list[Callable[[Transaction], Awaitable[object]]]:
    return [
        lambda tx: tx.insert_new(health, [row]),
        lambda tx: tx.execute(insert(health).values(row)),
    ]


async def test_what_postgres_cannot_hold_is_a_broken_rule(postgres_url: str) -> None:
    """U+0000 in a text, a number out of its column's range."""
    async with _opened(postgres_url) as uow:
        for write in _ways({"node": "a\0b", "seen_at": NOW}):
            with pytest.raises(ConstraintViolated, match="cannot hold"):
                async with uow.begin() as tx:
                    await write(tx)
        with pytest.raises(ConstraintViolated, match="cannot hold"):
            async with uow.read() as tx:
                await tx.execute(text("SELECT CAST(2147483648 AS bigint)::int"))


async def test_of_two_that_wait_for_each_other_one_is_chosen(postgres_url: str) -> None:
    """A deadlock ends with one commit, and with a retry for the other."""
    async with _opened(postgres_url) as uow:
        async with uow.begin() as tx:
            await tx.insert_new(health, [{"node": n, "seen_at": NOW} for n in "ab"])
        both = asyncio.Barrier(2)
        told: list[OnefoldError] = []

        async def lock(nodes: str) -> None:
            async with uow.begin() as tx:
                await tx.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
                await _touch(tx, nodes[0])
                await both.wait()
                await _touch(tx, nodes[1])

        for end in await asyncio.gather(lock("ab"), lock("ba"), return_exceptions=True):
            if end is not None:
                assert isinstance(end, OnefoldError)
                told.append(end)

        assert [type(error) for error in told] == [StoreContended]


async def _touch(tx: Transaction, node: str) -> None:
    await tx.execute(update(health).where(health.c.node == node).values(seen_at=NOW))


async def test_a_retry_carries_both_through_a_deadlock(postgres_url: str) -> None:
    """`in_transaction` runs the one that was chosen again, and both effects are there."""
    async with _opened(postgres_url) as uow:
        async with uow.begin() as tx:
            await tx.insert_new(health, [{"node": n, "seen_at": NOW} for n in "ab"])
        both = asyncio.Barrier(2)
        runs: list[str] = []

        async def lock(nodes: str) -> None:
            async def work(tx: Transaction) -> None:
                runs.append(nodes)
                await tx.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
                await _touch(tx, nodes[0])
                if runs.count(nodes) == 1:
                    await both.wait()
                await _touch(tx, nodes[1])
                await tx.claim("c", nodes, now=NOW)

            await in_transaction(uow, work)

        await asyncio.gather(lock("ab"), lock("ba"))

        assert (await _claimed(uow, "ab"), await _claimed(uow, "ba")) == (True, True)
        assert len(runs) == 3


async def test_a_statement_that_was_cancelled_may_be_tried_again(postgres_url: str) -> None:
    """A statement timeout of the server's."""
    async with _opened(postgres_url) as uow, _opened(postgres_url) as other:

        async def wait() -> None:
            async with uow.begin() as tx:
                await tx.execute(text("SET LOCAL statement_timeout = '10ms'"))
                await tx.claim("c", "e", now=NOW)

        async with other.begin() as holder:
            await holder.claim("c", "e", now=NOW)
            with pytest.raises(StoreUnavailable):
                await asyncio.create_task(wait())


async def _kill_backend(url: str, tx: Transaction) -> None:
    """End the server's process behind *tx*, and return when it is gone."""
    pid = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    admin = await asyncpg.connect(url)
    try:
        assert await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    finally:
        await admin.close()


@pytest.mark.parametrize("way", [0, 1], ids=["insert_new", "execute"])
async def test_a_backend_that_dies_in_the_middle_is_unavailable(
    postgres_url: str, way: int
) -> None:
    """Nothing was recorded, and the next transaction has a connection that works."""
    async with _opened(postgres_url) as uow:

        async def work() -> None:
            async with uow.begin() as tx:
                await tx.claim("c", "e", now=NOW)
                await _kill_backend(postgres_url, tx)
                await _ways({"node": "n", "seen_at": NOW})[way](tx)

        with pytest.raises(StoreUnavailable):
            await work()

        assert not await _claimed(uow, "e")


async def test_a_backend_that_dies_before_the_commit_leaves_the_outcome_unknown(
    postgres_url: str,
) -> None:
    """The commit failed without an answer: read back by id."""
    async with _opened(postgres_url) as uow:

        async def work() -> None:
            async with uow.begin() as tx:
                await tx.claim("c", "e", now=NOW)
                await _kill_backend(postgres_url, tx)

        with pytest.raises(CommitUnknown):
            await work()

        assert not await _claimed(uow, "e")


@pytest.mark.parametrize(("cut", "recorded"), [("before", False), ("after", True)])
async def test_a_commit_whose_answer_is_lost_leaves_the_outcome_unknown(
    postgres_url: str, tmp_path: Path, cut: Cut, recorded: bool
) -> None:
    """It is not called a failure, for it may have been recorded, and here once was."""
    async with (
        commit_cutter(postgres_url, tmp_path) as (cutter, through),
        _opened(through) as uow,
    ):
        async with uow.begin() as tx:
            await tx.claim("c", "warm", now=NOW)
        cutter.cut = cut
        with pytest.raises(CommitUnknown):
            async with uow.begin() as tx:
                await tx.claim("c", "e", now=NOW)
        cutter.cut = "nowhere"

        assert await _claimed(uow, "e") is recorded


async def test_a_connection_that_died_in_the_pool_costs_nothing(postgres_url: str) -> None:
    """After a restart of the server, nobody is answered by a dead connection."""
    async with _opened(postgres_url) as uow:
        await _fill_pool(uow, 3)
        admin = await asyncpg.connect(postgres_url)
        killed = await admin.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'onefold' AND datname = current_database()"
        )
        await admin.close()
        assert len(killed) == 3

        claimed = []
        for _ in range(3):
            async with uow.begin() as tx:
                claimed.append(await tx.claim("c", "e", now=NOW))

        assert claimed == [True, False, False]


async def _fill_pool(uow: SqlUnitOfWork, size: int) -> None:
    together = asyncio.Barrier(size)

    async def hold() -> None:
        async with uow.begin():
            await together.wait()

    await asyncio.gather(*(hold() for _ in range(size)))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres@127.0.0.1:1/onefold",
        "postgresql://postgres@/onefold?host=/nowhere",
        "postgresql://postgres@no-such-host.invalid/onefold",
    ],
)
async def test_nobody_waits_for_a_server_that_is_not_there(url: str) -> None:
    """More callers than connections, and all of them are told at once."""
    uow = SqlUnitOfWork(Database(url, wait_s=15))

    async def begin() -> None:
        async with uow.begin():
            pass

    try:
        async with asyncio.timeout(10):
            ends = await asyncio.gather(*(begin() for _ in range(25)), return_exceptions=True)
    finally:
        await uow.aclose()

    assert {type(end) for end in ends} == {StoreUnavailable}


async def test_a_database_that_does_not_exist_wakes_someone(postgres_server: str) -> None:
    """Waiting would not make one."""
    uow = SqlUnitOfWork(Database(postgres_server.replace("/postgres?", "/nothing?")))
    try:
        with pytest.raises(StoreFailed, match="nothing"):
            async with uow.begin():
                pass
    finally:
        await uow.aclose()


async def test_a_transaction_used_by_two_tasks_is_not_worth_a_retry(postgres_url: str) -> None:
    """A bug of the caller's is not called an outage."""
    async with _opened(postgres_url) as uow:
        with pytest.raises(StoreFailed):
            async with uow.begin() as tx:
                await asyncio.gather(*(tx.claim("c", f"{n}", now=NOW) for n in range(2)))


# ----------------------------------------------------------------------------- SQLite alone


async def test_a_file_locked_by_another_process_is_contended(sqlite_url: str) -> None:
    """And free again when the other has let go."""
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    async with _opened(sqlite_url, wait_s=0.05) as uow:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreContended):
            async with uow.begin():
                pass
        async with uow.read() as tx:  # readers do not mind
            await tx.execute(select(health))
        other.execute("ROLLBACK")
    other.close()


async def test_a_read_only_file_is_unavailable(sqlite_url: str) -> None:
    """A disk that was remounted read-only takes no writes and still answers."""
    path = sqlite_url.removeprefix("sqlite:///")
    async with _opened(sqlite_url):
        uow = SqlUnitOfWork(Database(f"sqlite:///file:{path}?mode=ro&uri=true"))
        with pytest.raises(StoreUnavailable):
            async with uow.begin() as tx:
                await tx.claim("c", "e", now=NOW)
        async with uow.read() as tx:
            await tx.execute(select(schools))
        await uow.aclose()


async def test_a_full_disk_is_unavailable(sqlite_url: str) -> None:
    """What did not fit is not there, and what fits goes in."""
    async with _opened(sqlite_url) as uow:
        rows = [{"node": f"{n}", "seen_at": NOW} for n in range(999)]

        async def fill() -> None:
            async with uow.begin() as tx:
                await tx.execute(text("PRAGMA max_page_count = 1"))
                await tx.insert_new(health, rows)

        with pytest.raises(StoreUnavailable):
            await fill()
        async with uow.begin() as tx:
            await tx.execute(text("PRAGMA max_page_count = 4294967294"))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda file: file.mkdir(), StoreUnavailable),
        (lambda file: file.write_bytes(b"no database" * 1000), StoreFailed),
    ],
    ids=["a directory", "another kind of file"],
)
async def test_what_is_no_database_is_told(
    tmp_path: Path, make: Callable[[Path], object], expected: type[OnefoldError]
) -> None:
    """A path that leads elsewhere."""
    make(tmp_path / "x.db")
    uow = SqlUnitOfWork(Database(f"sqlite:///{tmp_path / 'x.db'}"))
    try:
        with pytest.raises(expected):
            async with uow.begin():
                pass
    finally:
        await uow.aclose()


@pytest.mark.parametrize(
    ("file", "advice"),
    [
        ("none/at/x.db", "{file} is in a folder that does not exist: create it, or name"),
        (".", "{file} is a folder: name a file"),
        ("locked.db", "{file}: let this process read and write it and its folder"),
    ],
    ids=["no folder", "a folder", "of somebody else"],
)
@pytest.mark.parametrize("call", ["begin", "read"])
async def test_a_file_that_cannot_be_opened_is_named(
    tmp_path: Path, file: str, advice: str, call: str
) -> None:
    """With its whole path, though the URL has a relative one, and with what to do about it."""
    (tmp_path / "locked.db").symlink_to(tmp_path / "locked.db")  # root may open all but this
    with chdir(tmp_path):
        uow = SqlUnitOfWork(Database(f"sqlite:///{file}"))

        with pytest.raises(StoreUnavailable) as told:
            async with getattr(uow, call)():
                pass

    await uow.aclose()
    assert told.value.reason == "unable to open database file"
    assert advice.format(file=tmp_path / file) in str(told.value)
