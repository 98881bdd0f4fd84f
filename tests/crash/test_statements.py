"""Deaths in statements: whose they are, and what exploring a database costs."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from onefold.testing.crash.points import Crash, Reaper, deadly_statements
from onefold.testing.sql import threadless


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """SQLite, without its thread."""
    made = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    with threadless(made):
        async with made.begin() as connection:
            await connection.execute(text("CREATE TABLE t (n INTEGER)"))
        yield made
        await made.dispose()


async def insert(engine: AsyncEngine, number: int) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})


async def fail(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO t VALUES (2)"))
        await connection.execute(text("SELECT n FROM absent"))


async def numbers(engine: AsyncEngine) -> list[int]:
    async with engine.connect() as connection:
        return list((await connection.execute(text("SELECT n FROM t ORDER BY n"))).scalars())


async def test_a_process_dies_of_its_own_statements_alone(engine: AsyncEngine) -> None:
    """What overtakes a stalled process on the same engine is not counted for it."""
    fates = [
        f"sql.{word}#1:{when}" for word in ("insert", "commit") for when in ("before", "after")
    ]
    stalled = Reaper(fatal="sql.insert#2:before")
    overtaking = Reaper()

    with deadly_statements(engine, stalled):
        await insert(engine, 1)
        with deadly_statements(engine, overtaking):
            await insert(engine, 2)
        with pytest.raises(Crash):
            await insert(engine, 3)

    assert overtaking.seen == fates
    assert stalled.seen == [*fates, "sql.insert#2:before"]
    assert await numbers(engine) == [1, 2]


async def test_nobody_listens_when_all_processes_have_ended(engine: AsyncEngine) -> None:
    """Else each run would be slower than the one before, and count the dead ones' calls."""
    for _ in range(3):
        with deadly_statements(engine, Reaper()), deadly_statements(engine, Reaper()):
            await insert(engine, 1)

    assert not list(engine.sync_engine.dispatch.before_cursor_execute)
    assert not list(engine.sync_engine.dispatch.after_cursor_execute)
    assert "do_commit" not in vars(engine.sync_engine.dialect)


@contextmanager
def counted_threads() -> Iterator[list[str]]:
    """The names of the threads that are started in the block."""
    before, started = set(threading.enumerate()), list[str]()
    yield started
    started += [thread.name for thread in set(threading.enumerate()) - before]


async def test_a_database_without_its_thread_commits_and_rolls_back(engine: AsyncEngine) -> None:
    """The same statements, the same errors, the same transactions; two hops a call less."""
    with counted_threads() as started:
        await insert(engine, 1)
        with pytest.raises(OperationalError, match="no such table"):
            await fail(engine)

    assert await numbers(engine) == [1]
    assert started == []
