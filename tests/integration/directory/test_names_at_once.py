"""Names that are taken by another process between the look and the insert."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from secrets import token_bytes
from typing import Any

import pytest
from sqlalchemy import Table
from tests.support import School, WatchedUnitOfWork, another_server, new_school

from onefold.errors import Conflict
from onefold_server.domains.directory.rules import Role
from onefold_server.domains.directory.service import DirectoryService
from onefold_server.domains.directory.tables import schools, users
from onefold_server.installation import Installation

Meanwhile = Callable[[DirectoryService], Awaitable[Any]]


class Plain:
    """Passwords that cost nothing."""

    async def hash(self, password: str) -> str:
        return password

    async def verify(self, password: str, hashed: str) -> bool:
        return password == hashed


@asynccontextmanager
async def overtaken(
    onefold: Installation, table: Table, meanwhile: Meanwhile
) -> AsyncIterator[DirectoryService]:
    """A directory that *meanwhile* overtakes once: before its insert, or before it begins."""
    met = list[str]()
    async with another_server(onefold) as other:

        async def before(name: str, args: tuple[Any, ...]) -> None:
            if name == "insert_new" and args[0] is table and not met:
                met.append(name)
                await meanwhile(other.directory)

        if not onefold.uow.features.parallel_writers:
            met.append("one writer at a time")
            await meanwhile(other.directory)
        watched = WatchedUnitOfWork(onefold.uow, before)
        yield DirectoryService(watched, clock=onefold.clock, random=token_bytes, passwords=Plain())
        assert met, "nobody overtook it"


async def test_a_school_of_that_name_made_meanwhile_is_the_answer(onefold: Installation) -> None:
    """Creating it at once with another gives both the same id."""
    made = []

    async def create(directory: DirectoryService) -> None:
        made.append(await directory.create_school("Lovelace"))

    async with overtaken(onefold, schools, create) as directory:
        await create(directory)

    assert made[0] == made[1]
    assert [row["name"] for row in await onefold.directory.schools()].count("Lovelace") == 1


async def test_a_user_made_meanwhile_gets_the_later_password(
    onefold: Installation, school: School
) -> None:
    """The same user of the same school is a repetition: the second overwrites."""

    async def first(directory: DirectoryService) -> None:
        await directory.set_password(school.id, "ada", "the first one", role=Role.TEACHER)

    async with overtaken(onefold, users, first) as directory:
        await directory.set_password(school.id, "ada", "the second one", role=Role.TEACHER)
        principal = await directory.log_in("ada", "the second one")

    assert principal.school_id == school.id


async def test_a_user_of_another_school_made_meanwhile_is_a_conflict(
    onefold: Installation, school: School
) -> None:
    """The name is taken: it is told as if the other had come before."""
    elsewhere = await new_school(onefold, "Elsewhere")

    async def first(directory: DirectoryService) -> None:
        await directory.set_password(elsewhere.id, "ada", "the first one", role=Role.TEACHER)

    async with overtaken(onefold, users, first) as directory:
        with pytest.raises(Conflict):
            await directory.set_password(school.id, "ada", "the second one", role=Role.TEACHER)
