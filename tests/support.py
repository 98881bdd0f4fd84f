"""What many tests need: schools, callers, events that are right unless told otherwise."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid4

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy import Table, select, update

from onefold.ports.features import Features
from onefold.ports.tables import Row, rows_of
from onefold.ports.unit_of_work import Transaction, UnitOfWork
from onefold_server.domains.directory.rules import SCOPES_OF, Principal, Role
from onefold_server.domains.directory.tables import enrolments
from onefold_server.domains.telemetry.service import Policy, TelemetryService
from onefold_server.installation import Installation, build


async def turn_of_the_loop() -> None:
    """Let happen what was put off until the loop's next turn: connections are given back."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned


@dataclass(frozen=True)
class School:
    """A school that enrols unknown pupils, and those who may act in it."""

    id: UUID
    service: Principal
    teacher: Principal
    admin: Principal


def principal(school_id: UUID, role: Role, student_id: UUID | None = None) -> Principal:
    """A caller of that role in that school, with all of the role's scopes."""
    return Principal(
        school_id=school_id,
        role=role,
        scopes=SCOPES_OF[role],
        name=f"test {role}",
        student_id=student_id,
    )


async def new_school(
    onefold: Installation, name: str = "Test School", *, auto_enrol: bool = True
) -> School:
    """A fresh school."""
    id_ = await onefold.directory.create_school(name, auto_enrol=auto_enrol)
    return School(
        id_,
        principal(id_, Role.SERVICE),
        principal(id_, Role.TEACHER),
        principal(id_, Role.ADMIN),
    )


def telemetry_event(now: datetime, **fields: Any) -> dict[str, Any]:
    """A fresh event as a game would send it at *now*; *fields* override."""
    return {
        "event_id": str(uuid4()),
        "student_id": str(uuid4()),
        "session_id": str(uuid4()),
        "event_type": "mission_start",
        "timestamp": now.isoformat(),
        "data": {"level": 1},
    } | fields


async def rows(onefold: Installation, table: Table) -> list[Row]:
    """All rows of *table*, as committed."""
    async with onefold.uow.read() as tx:
        return rows_of(await tx.execute(select(table)))


async def leave(onefold: Installation, school_id: UUID, student_id: UUID) -> None:
    """The pupil leaves the school."""
    theirs = (enrolments.c.school_id == school_id) & (enrolments.c.student_id == student_id)
    async with onefold.uow.begin() as tx:
        await tx.execute(update(enrolments).where(theirs).values(left_at=onefold.clock.now()))


@asynccontextmanager
async def another_server(onefold: Installation) -> AsyncIterator[Installation]:
    """A second process over the same database, under the same clock."""
    other = build(onefold.settings, clock=onefold.clock)
    try:
        yield other
    finally:
        await other.aclose()


@asynccontextmanager
async def client_of(app: FastAPI, key: object | None = None) -> AsyncIterator[AsyncClient]:
    """A client of *app* that sends *key*; an error inside comes as the answer a client gets."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(
        transport=transport, base_url="http://onefold.test", headers=headers
    ) as client:
        yield client


Before = Callable[[str, tuple[Any, ...]], Awaitable[None]]


class WatchedUnitOfWork:
    """Awaits *before*, with name and arguments, ahead of each call of a writing transaction."""

    def __init__(self, inner: UnitOfWork, before: Before) -> None:
        self._inner, self._before = inner, before

    @property
    def features(self) -> Features:
        return self._inner.features

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        async with self._inner.begin() as tx:
            yield cast("Transaction", _Watched(tx, self._before))

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        return self._inner.read()

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Watched:
    def __init__(self, tx: Transaction, before: Before) -> None:
        self._tx, self._before = tx, before

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._tx, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._before(name, args)
            return await method(*args, **kwargs)

        return call


def telemetry_over(onefold: Installation, uow: UnitOfWork) -> Installation:
    """The same parts, but telemetry is kept through *uow*."""
    telemetry = TelemetryService(uow, clock=onefold.clock, policy=Policy())
    return replace(onefold, telemetry=telemetry)
