"""What is particular to deadlines on PostgreSQL: places of rows, whatever the planner thinks."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.adapters.sql.dialects import deadlines_postgres as postgres
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
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


async def _plan(uow: SqlUnitOfWork, statement: Any, **values: Any) -> str:
    explained = text(f"EXPLAIN {statement.text}").bindparams(*statement._bindparams.values())
    async with uow.begin() as tx:
        rows = await tx.execute(explained.bindparams(**values))
        return "\n".join(line for (line,) in rows.all())


@pytest.mark.timeout(60)
async def test_no_call_reads_the_table_as_a_whole(uow: SqlUnitOfWork) -> None:
    """Nor compares all with all; neither before the table was analysed nor after."""
    deadlines = SqlDeadlines(uow)
    for start in range(0, 10_000, 500):
        await deadlines.arm(_some(10_000)[start : start + 500])
    keys = [f"{n:05}" for n in range(500)]
    claim = {"kind": "job", "now": NOW, "until": NOW + MINUTE, "most": 500, "least": 1}
    settle: dict[str, Any] = {"kinds": ["job"] * 500, "keys": keys, "fences": [0] * 500}
    for analysed in (False, True):
        if analysed:
            async with uow.begin() as tx:
                await tx.execute(text("ANALYZE onefold_deadlines"))
        taken = await _plan(uow, postgres.CLAIM.element, **claim)
        ended = await _plan(uow, postgres.COMPLETE, **settle)

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
