"""What is particular to deadlines on PostgreSQL: places of rows, whatever the planner thinks."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta, timezone

import asyncpg
import pytest
from sqlalchemy import text

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.adapters.sql.dialects import deadlines_postgres as postgres
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.errors import ConstraintViolated, IllegalTransition
from onefold.ports.deadlines import Deadline
from onefold.testing.clock import ManualClock

NOW = ManualClock().now()
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def uow(postgres_url: str) -> AsyncIterator[SqlUnitOfWork]:
    made = SqlUnitOfWork(Database(postgres_url))
    yield made
    await made.aclose()


def _some(count: int, kind: str = "job") -> list[Deadline]:
    return [Deadline(kind=kind, key=f"{n:05}", due_at=NOW, payload={"n": n}) for n in range(count)]


async def _plan(uow: SqlUnitOfWork, statement: str, values: str, *types: str) -> str:
    """As a prepared statement is planned when its values are not looked at any more."""
    async with uow.begin() as tx:
        await tx.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        await tx.execute(text(f"PREPARE asked ({', '.join(types)}) AS {_quoted(statement)}"))
        rows = (await tx.execute(text(f"EXPLAIN EXECUTE asked ({_quoted(values)})"))).all()
        await tx.execute(text("DEALLOCATE asked"))
        return "\n".join(line for (line,) in rows)


def _quoted(sql: str) -> str:
    return sql.replace(":", "\\:")


@pytest.mark.timeout(60)
async def test_no_call_reads_the_table_as_a_whole(uow: SqlUnitOfWork) -> None:
    """Nor compares all with all; neither before the table was analysed nor after."""
    deadlines = SqlDeadlines(uow)
    for start in range(0, 10_000, 500):
        await deadlines.arm(_some(10_000)[start : start + 500])
    claim = "'job', now(), now() + interval '1 minute', 500, 1"
    settle = f"'{postgres.settled(_some(500))}'"
    for analysed in (False, True):
        if analysed:
            async with uow.begin() as tx:
                await tx.execute(text("ANALYZE onefold_deadlines"))
        kinds = "text", "timestamptz", "timestamptz", "bigint", "bigint"
        taken = await _plan(uow, postgres.CLAIM, claim, *kinds)
        ended = await _plan(uow, postgres.COMPLETE, settle, "text")

        for plan in (taken, ended):
            assert "Seq Scan" not in plan, plan
            assert "Tid Scan" in plan, plan
            assert "hashed SubPlan" in plan, plan
        assert "Join" not in taken, taken
        assert "Nested Loop" not in taken, taken
        assert ended.count("Nested Loop") == 1, ended  # the look-ups, each in the index


@pytest.mark.timeout(60)
async def test_many_claim_move_and_settle_at_once(uow: SqlUnitOfWork) -> None:
    """On connections of their own: nobody waits for ever, no claim is shared, none is lost."""
    deadlines, held, done = SqlDeadlines(uow), set[tuple[str, int]](), list[str]()
    await deadlines.arm(_some(400))

    def take(claimed: Sequence[Deadline]) -> None:
        for one in claimed:
            assert (one.key, one.fence) not in held, "claimed twice under one fence"
            held.add((one.key, one.fence))

    async def work(step: int) -> None:
        while len(done) < 400:
            claimed = await deadlines.claim("job", now=NOW, lease=MINUTE, limit=23)
            take(claimed)
            back, over = claimed[:step], claimed[step:]
            moved = await deadlines.postpone([(one, NOW) for one in reversed(back)])
            assert len(moved) == len(back)
            ended = await deadlines.complete(over[::-1])
            assert all(ended), "a claim nobody took was lost"
            done.extend(one.key for one in over)

    async def disturb() -> None:
        while len(done) < 400:  # what is armed again has a new fence, and ends its lease
            await deadlines.arm([Deadline(kind="other", key="x", due_at=NOW, payload={})])
            (one,) = await deadlines.claim("other", now=NOW, lease=MINUTE, limit=1)
            await deadlines.arm([one])
            assert await deadlines.complete([one, one]) == [False, False]

    await asyncio.gather(*(work(step) for step in range(5)), disturb())

    assert sorted(done) == [f"{n:05}" for n in range(400)]
    assert await deadlines.next_due(["job"]) == {}


async def test_one_given_twice_is_settled_once_and_told_twice(uow: SqlUnitOfWork) -> None:
    """As on SQLite: both answers are about the same claim."""
    deadlines = SqlDeadlines(uow)
    await deadlines.arm(_some(2))
    one, other = await deadlines.claim("job", now=NOW, lease=MINUTE, limit=2)

    assert await deadlines.complete([one, one]) == [True, True]
    assert await deadlines.complete([other, one]) == [True, False]


async def test_an_instant_is_exact_whatever_its_offset(uow: SqlUnitOfWork) -> None:
    """Some zones are off by seconds, and their JSON would say minutes."""
    deadlines = SqlDeadlines(uow)
    odd = timezone(timedelta(hours=-4, minutes=-56, seconds=-2))  # New York before 1883
    at = NOW.replace(microsecond=123_457)
    await deadlines.arm([Deadline(kind="job", key="x", due_at=at.astimezone(odd), payload={})])

    assert await deadlines.next_due(["job"]) == {"job": at}
    (one,) = await deadlines.claim("job", now=at, lease=MINUTE, limit=1)
    assert await deadlines.postpone([(one, (at + MINUTE).astimezone(odd))]) == [True]
    assert await deadlines.next_due(["job"]) == {"job": at + MINUTE}


async def test_what_is_no_json_is_refused(uow: SqlUnitOfWork) -> None:
    """As in a transaction; nothing of the call is armed."""
    deadlines = SqlDeadlines(uow)
    wrong = Deadline(kind="job", key="y", due_at=NOW, payload={"n": object()})
    with pytest.raises(ConstraintViolated):
        await deadlines.arm([*_some(1), wrong])
    with pytest.raises(ConstraintViolated):
        await deadlines.arm([Deadline(kind="job", key="y", due_at=NOW, payload={"n": "\0"})])

    assert await deadlines.next_due(["job"]) == {}


async def test_no_call_slips_past_the_transaction_of_its_task(uow: SqlUnitOfWork) -> None:
    """It would be committed though the transaction around it is rolled back."""
    deadlines = SqlDeadlines(uow)
    async with uow.begin():
        with pytest.raises(IllegalTransition):
            await deadlines.arm(_some(1))

    assert await deadlines.next_due(["job"]) == {}


async def test_a_call_goes_on_where_the_pooled_connections_have_died(
    uow: SqlUnitOfWork, postgres_url: str
) -> None:
    """Nothing was said on them: on a fresh one."""
    deadlines = SqlDeadlines(uow)
    await asyncio.gather(*(deadlines.arm(_some(2)) for _ in range(3)))
    admin = await asyncpg.connect(postgres_url)
    try:
        killed = await admin.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'onefold'"
        )
    finally:
        await admin.close()
    assert len(killed) == 3

    assert len(await deadlines.claim("job", now=NOW, lease=MINUTE, limit=9)) == 2


async def test_a_call_that_is_cancelled_leaves_its_connection_usable(uow: SqlUnitOfWork) -> None:
    """Whichever await it hits; what it was about is armed as a whole, or not at all."""
    deadlines = SqlDeadlines(uow)
    for turns in range(12):
        call = asyncio.create_task(deadlines.arm(_some(2, kind=f"k{turns:02}")))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        found = await deadlines.due(f"k{turns:02}", now=NOW, limit=9)
        assert len(found) in {0, 2}, found

    await asyncio.gather(*(deadlines.arm(_some(1, kind=f"z{n}")) for n in range(20)))
    assert len(await deadlines.next_due([f"z{n}" for n in range(20)])) == 20
