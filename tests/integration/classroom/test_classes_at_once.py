"""What two write at once is what they would have written one after the other."""

import asyncio
from contextlib import AsyncExitStack
from secrets import token_bytes
from typing import Any
from uuid import uuid4

import pytest
from tests.support import WatchedUnitOfWork, another_server, new_school
from tests.support_classroom import Room, essay

from onefold.errors import Conflict
from onefold_server.domains.classroom.classes import ClassService
from onefold_server.domains.directory.tables import students


async def test_creating_a_class_at_once_is_creating_it_once(room: Room) -> None:
    """Four servers are all answered with the class; it is nobody else's."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(another_server(room.onefold)) for _ in range(4)]
        for _ in range(20):
            id_ = uuid4()
            made = await asyncio.gather(
                *(
                    one.classroom.classes.create(room.teacher, "SA24D", "ENG5", class_id=id_)
                    for one in servers
                )
            )

            assert made == [made[0]] * 4
            assert made[0]["class_id"] == id_


async def test_a_batch_that_two_events_open_at_once_is_opened_once(room: Room) -> None:
    """Four servers take parts of one batch; none is told that another was at it."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(another_server(room.onefold)) for _ in range(4)]
        for _ in range(20):
            batch_id = uuid4()
            parts = [room.event([essay()], batch_id=str(batch_id)) for _ in servers]
            await asyncio.gather(
                *(
                    one.classroom.batches.post(room.service, batch_id, part)
                    for one, part in zip(servers, parts, strict=True)
                )
            )

            assert len(await room.essays(batch_id)) == len(parts)
            assert (await room.batch_row(batch_id))["revision"] == 1


async def test_the_id_of_another_schools_class_is_a_conflict(room: Room) -> None:
    """A true conflict: the key is new, and the id is taken."""
    other = await new_school(room.onefold, "Elsewhere")

    with pytest.raises(Conflict):
        await room.onefold.classroom.classes.create(
            other.teacher, "SA24D", "ENG5", class_id=room.id
        )


async def test_an_e_mail_taken_between_look_and_insert_is_a_conflict(room: Room) -> None:
    """As if the other pupil had been there before; of the two only one is."""
    given = {"first_name": "Ada", "last_name": "L", "email": "ada@example.org"}
    met = list[str]()
    async with another_server(room.onefold) as other:

        async def before(name: str, args: tuple[Any, ...]) -> None:
            parallel = room.onefold.uow.features.parallel_writers
            if name == "insert_new" and args[0] is students and parallel and not met:
                met.append(name)
                await other.classroom.classes.create_student(room.teacher, given)

        if not room.onefold.uow.features.parallel_writers:
            await other.classroom.classes.create_student(room.teacher, given)
        watched = WatchedUnitOfWork(room.onefold.uow, before)
        classes = ClassService(watched, clock=room.onefold.clock, random=token_bytes)

        with pytest.raises(Conflict):
            await classes.create_student(room.teacher, given)

    everybody = await room.onefold.directory.students(room.school.id)
    assert [row["email"] for row in everybody].count("ada@example.org") == 1
