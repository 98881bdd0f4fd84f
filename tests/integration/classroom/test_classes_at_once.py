"""A class that is created by two at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_bytes
from typing import Any, cast
from uuid import uuid4

from tests.support_classroom import Room

from onefold.domains.classroom.classes import ClassService
from onefold.errors import ConstraintViolated
from onefold.ports.unit_of_work import UnitOfWork


class Overtaken:
    """
    A unit of work that is overtaken by another's creation at its first insert.

    PostgreSQL then answers with a violation of whichever unique index it looks at first: 16 of
    16,000 inserts of the same new class by eight connections (2026-11-28).
    """

    def __init__(self, inner: UnitOfWork, other: Any) -> None:
        self._inner, self._other, self._met = inner, other, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        if not self._met:
            self._met = True
            await self._other()
            raise ConstraintViolated("ix_classroom_classes_id")
        async with self._inner.begin() as tx:
            yield tx


async def test_creating_a_class_at_once_with_another_is_creating_it_once(room: Room) -> None:
    """Both are answered with the class; it is nobody else's."""
    classes, uow, id_ = room.onefold.classroom.classes, room.onefold.uow, uuid4()

    async def create(by: ClassService) -> Any:
        return await by.create(room.teacher, "SA24D", "ENG5", class_id=id_)

    overtaken = cast("UnitOfWork", Overtaken(uow, lambda: create(classes)))
    second = ClassService(overtaken, clock=room.onefold.clock, random=token_bytes)

    assert (await create(second))["class_id"] == (await create(classes))["class_id"]
