"""What tests of the classroom share: a class with pupils, events about its essays."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import event
from tests.support import Before, School, WatchedUnitOfWork, rows

from onefold.adapters.sql.outbox import SqlOutbox
from onefold.core.envelope import Event
from onefold.ports.tables import Row
from onefold.ports.unit_of_work import UnitOfWork
from onefold_server.domains.classroom import events
from onefold_server.domains.classroom.batches import BatchService
from onefold_server.domains.classroom.rules import Taken
from onefold_server.domains.classroom.tables import associations, batches
from onefold_server.domains.directory.rules import Principal
from onefold_server.installation import Installation

PUPILS = (
    ("Anna", "Andersson"),
    ("Björn", "Svartling"),
    ("Märta", "von Essen"),
    ("Omar", "Haddad"),
    ("Li", "Taskinen"),
)


@dataclass
class Room:
    """A class of `teacher`'s, with its pupils."""

    onefold: Installation
    school: School
    teacher: Principal
    id: UUID
    pupils: list[UUID] = field(default_factory=list)

    @property
    def service(self) -> Principal:
        return self.school.service

    def event(self, essays: Sequence[Row], **fields: Any) -> Event:
        """An event that suggests authors of *essays* of a fresh batch."""
        data = {"batch_id": str(uuid4()), "class_id": str(self.id), "match_results": list(essays)}
        at = fields.pop("at", None) or self.onefold.clock.now()
        return matches(data | fields, at=at)

    async def take(self, event: Event) -> Taken:
        """Apply *event* as the language service's POST does."""
        batch_id = UUID(event.data["batch_id"])
        return await self.onefold.classroom.batches.post(self.service, batch_id, event)

    async def batch(self, *essays: Row, **fields: Any) -> UUID:
        """A batch of those essays."""
        event = self.event(essays, **fields)
        await self.take(event)
        return UUID(event.data["batch_id"])

    async def essays(self, batch_id: UUID | None = None) -> dict[str, Row]:
        """What is stored of essays, by their ids."""
        found = await rows(self.onefold, associations)
        return {
            str(row["essay_id"]): row
            for row in found
            if row["school_id"] == self.school.id and batch_id in {None, row["batch_id"]}
        }

    async def batch_row(self, batch_id: UUID) -> Row:
        (found,) = [row for row in await rows(self.onefold, batches) if row["id"] == batch_id]
        return found

    async def facts(self, type_: str, batch_id: UUID | None = None) -> list[Event]:
        """What the outbox holds of *type_*."""
        return [
            fact
            for fact in await SqlOutbox(self.onefold.uow).unsent(limit=100_000)
            if fact.type == type_ and batch_id in {None, UUID(fact.key or "")}
        ]

    async def confirmed(self, batch_id: UUID) -> list[Event]:
        """How often, and with what, the end of a batch was published."""
        return await self.facts(events.CONFIRMED, batch_id)


def matches(data: Any, *, at: datetime, id_: str | None = None, source: str = "nlp") -> Event:
    """An event of the language service."""
    return Event(
        id=id_ or str(uuid4()), type=events.SUGGESTED, source=source, occurred_at=at, data=data
    )


def essay(*suggested: tuple[object, float], essay_id: object = None, **fields: Any) -> Row:
    """One essay of an event: pupils and scores, in their order."""
    suggestions = [
        {"student_id": str(id_), "confidence_score": score, "match_reasons": ["name_exact"]}
        for id_, score in suggested
    ]
    return {"essay_id": str(essay_id or uuid4()), "suggestions": suggestions} | fields


async def new_room(
    onefold: Installation,
    school: School,
    *,
    teacher: Principal | None = None,
    pupils: Sequence[tuple[str, str]] = PUPILS,
) -> Room:
    """A fresh class."""
    who = teacher or school.teacher
    made = await onefold.classroom.classes.create(who, "SA24D", "ENG5")
    room = Room(onefold, school, who, made["class_id"])
    for first, last in pupils:
        given = {"first_name": first, "last_name": last, "class_ids": [room.id]}
        student = await onefold.classroom.classes.create_student(who, given)
        room.pupils.append(student["student_id"])
    return room


def batches_over(onefold: Installation, uow: UnitOfWork) -> BatchService:
    """A freshly started process' service over *uow*."""
    return BatchService(
        uow,
        clock=onefold.clock,
        random=lambda n: uuid4().bytes[:n],
        deadline=onefold.settings.classroom_deadline,
    )


def watched(onefold: Installation, before: Before) -> BatchService:
    """Batches whose every call of a transaction *before* sees."""
    return batches_over(onefold, cast("UnitOfWork", WatchedUnitOfWork(onefold.uow, before)))


@asynccontextmanager
async def counted_statements(onefold: Installation) -> AsyncIterator[list[str]]:
    """Every statement that reaches the database in the block, by the driver's own account."""
    seen: list[str] = []
    async with onefold.database.writer.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
    if onefold.uow.features.name == "sqlite":
        await driver.set_trace_callback(seen.append)  # type: ignore[union-attr]
        yield seen
        await driver.set_trace_callback(None)  # type: ignore[union-attr]
    else:
        engine, watch = onefold.database.writer.sync_engine, _watch(seen)
        event.listen(engine, "before_cursor_execute", watch)
        yield seen
        event.remove(engine, "before_cursor_execute", watch)


def _watch(seen: list[str]) -> Callable[..., None]:
    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    return note
