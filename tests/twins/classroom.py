"""The classroom as the earlier service did it: row by row, swallowing, publishing afterwards."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Self
from uuid import UUID, uuid4

from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from onefold.adapters.sql.connection import Database
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import UnitOfWork, in_transaction
from onefold_server.domains.classroom import batches_store as store
from onefold_server.domains.classroom import events
from onefold_server.domains.classroom.batches import BY_DEADLINE, BatchService
from onefold_server.domains.classroom.tables import associations, batches, enrolments
from onefold_server.domains.directory.tables import students
from onefold_server.installation import Installation

Pause = Callable[[], Awaitable[object]]


async def _no_pause() -> None:
    return None


class RowByRow:
    """
    The handler of the research note, section 3.5.

    For each essay, for each suggestion in the order of the event: look the pupil up on a
    connection of its own (three statements: pupil, classes, history), look whether the essay
    is there, insert. An error of an essay is counted and swallowed, inside one transaction.

    Args:
        database: Its engines are in autocommit.
        school_id: Whose pupils they are.
        between: Awaited between the look and the insert.
    """

    def __init__(self, database: Database, school_id: UUID, *, between: Pause = _no_pause) -> None:
        self._database, self._school_id, self._between = database, school_id, between
        self.statements = self._added = 0

    async def handle(self, data: Mapping[str, Any], *, now: Any) -> bool:
        """True when anything was stored or nothing failed."""
        failed = 0
        async with self._database.writer.connect() as connection:
            await connection.exec_driver_sql("BEGIN")
            await self._batch(connection, data, now)
            for essay in data["match_results"]:
                try:
                    await self._essay(connection, data, essay, now)
                except (DBAPIError, ValueError):
                    failed += 1
            # What PostgreSQL answers to COMMIT in an aborted transaction is a silent rollback.
            await connection.exec_driver_sql("COMMIT")
        return self._added > 0 or failed == 0

    async def _batch(self, connection: AsyncConnection, data: Mapping[str, Any], now: Any) -> None:
        # It had no batches; ours want one for their foreign key.
        row = {
            "school_id": self._school_id, "id": UUID(data["batch_id"]),
            "class_id": UUID(data["class_id"]), "total": len(data["match_results"]),
            "received_at": now, "deadline": now + timedelta(days=1),
            "due_at": None, "failures": 0, "closed_at": None, "revision": 1,
        }  # fmt: skip
        await connection.execute(insert(batches).values(**row))

    async def _essay(
        self, connection: AsyncConnection, data: Mapping[str, Any], essay: Row, now: Any
    ) -> None:
        for suggestion in essay["suggestions"]:
            student_id, essay_id = UUID(suggestion["student_id"]), UUID(essay["essay_id"])
            if not await self._pupil(student_id):
                continue
            self.statements += 1
            there = select(associations).where(associations.c.essay_id == essay_id)
            if (await connection.execute(there)).first():
                continue
            await self._between()
            self.statements += 1
            self._added += 1  # before the database has said anything: their flush came later
            await connection.execute(
                insert(associations).values(
                    school_id=self._school_id,
                    essay_id=essay_id,
                    batch_id=UUID(data["batch_id"]),
                    class_id=UUID(data["class_id"]),
                    source="nlp_service_phase1",
                    suggested_at=now,
                    suggested_student_id=student_id,
                    score=suggestion["confidence_score"],
                    ambiguous=False,
                    reasons=suggestion["match_reasons"],
                    alternatives=[],
                    revision=1,
                    status="pending_validation",
                )
            )
            return

    async def _pupil(self, student_id: UUID) -> bool:
        async with self._database.reader.connect() as connection:
            await connection.exec_driver_sql("BEGIN")
            found = await connection.execute(select(students).where(students.c.id == student_id))
            theirs = enrolments.c.student_id == student_id
            await connection.execute(select(enrolments).where(theirs))
            mine = associations.c.suggested_student_id == student_id
            (await connection.execute(select(associations).where(mine))).all()
            self.statements += 3
            await connection.exec_driver_sql("COMMIT")
        return found.first() is not None


class FailsOpen:
    """The wrapper of the research note, section 3.2: a key with a time to live, no transaction."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}

    async def __call__(self, event_id: str, handler: Callable[[], Awaitable[bool]]) -> bool | None:
        """None for what it takes for a duplicate: its caller then commits the offset."""
        if event_id in self.keys:
            return None
        self.keys[event_id] = "processing"
        try:
            try:
                result = await handler()
            except Exception:
                del self.keys[event_id]
                raise
            self.keys[event_id] = "completed"  # whatever the handler said
        except Exception:  # noqa: BLE001 (the fault itself) taken for the key store's own trouble: without idempotency then
            return await handler()
        return result


class ConfirmsThenPublishes(BatchService):
    """The monitor of the research note: commits the rows, then publishes in another commit."""

    @classmethod
    def over(cls, onefold: Installation, uow: UnitOfWork) -> Self:
        return cls(
            uow,
            clock=onefold.clock,
            random=lambda n: uuid4().bytes[:n],
            deadline=onefold.settings.classroom_deadline,
        )

    async def _time_out(self, tx: Any, claimed: Row) -> None:
        now = self._clock.now()
        batch = await store.lock_batch(tx, claimed["school_id"], claimed["id"])
        assert batch is not None
        await store.time_out(tx, batch, by=BY_DEADLINE, at=now)
        await store.close(tx, batch, at=now)
        self._left = events.confirmed(batch, await store.essays(tx, batch), at=now, timeout=True)

    async def close_due(self) -> bool:
        more = await super().close_due()
        left = self.__dict__.pop("_left", None)
        if left is not None:
            await in_transaction(self._uow, lambda tx: tx.publish(left, now=self._clock.now()))
        return more


def barrier(parties: int) -> Pause:
    """Everybody waits until so many have come."""
    return asyncio.Barrier(parties).wait
