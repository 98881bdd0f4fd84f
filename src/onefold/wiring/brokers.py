"""The way of events out of a database, of an application and of the server alike."""

import asyncio
import random as chance
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.guard import sql_guard
from onefold.adapters.sql.notify import Notifier, can_listen, listen
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.core.clock import Clock
from onefold.core.ids import Random
from onefold.engine.delivery import Environment
from onefold.ports.guard import Guard
from onefold.ports.retention import BrokerRetention
from onefold.ports.transport import Transport

__all__ = [
    "Broker",
    "Notifier",
    "broker_of",
    "environment",
    "guard_of",
    "listener_of",
    "notify_others",
    "worker_name",
]


class Broker(Transport, BrokerRetention, Protocol):
    """A transport that can tell what it keeps."""


def broker_of(uow: SqlUnitOfWork, *, kafka: str | None, valkey: str | None) -> Broker:
    """
    The broker that is named; without any, the database itself.

    Args:
        uow: Of the database.
        kafka: Bootstrap servers.
        valkey: URL of a Valkey or Redis server whose streams are the broker.
    """
    if kafka is not None:
        from onefold.adapters.kafka.transport import KafkaTransport  # noqa: PLC0415 (an extra)

        return KafkaTransport(kafka)
    if valkey is not None:
        from onefold.adapters.valkey.transport import ValkeyTransport  # noqa: PLC0415 (an extra)

        return ValkeyTransport(valkey)
    from onefold.adapters.sql.transport import SqlTransport  # noqa: PLC0415 (not always needed)

    return SqlTransport(uow)


@asynccontextmanager
async def guard_of(database: Database, *, valkey: str | None) -> AsyncIterator[Guard]:
    """The guard in the Valkey that is named; without any, in the database."""
    if valkey is None:
        yield sql_guard(database)
        return
    from onefold.adapters.valkey.connection import connect  # noqa: PLC0415 (an extra)
    from onefold.adapters.valkey.guard import ValkeyGuard  # noqa: PLC0415 (an extra)

    server = connect(valkey)
    try:
        yield ValkeyGuard(server)
    finally:
        await server.aclose()


def listener_of(database: Database) -> Callable[[Callable[[], None]], Awaitable[None]] | None:
    """How a relay over *database* hears of other processes' events; None: it polls."""
    return partial(listen, database) if can_listen(database) else None


def notify_others(uow: SqlUnitOfWork, database: Database) -> Notifier | None:
    """Let commits that publish ring for the relays of other processes, where that can be."""
    if not can_listen(database):
        return None
    bell = Notifier(database)
    uow.on_published = bell.ring
    return bell


def worker_name() -> str:
    """A name that no other relay has."""
    return f"{socket.gethostname()[:40]}-{secrets.token_hex(6)}"


def environment(clock: Clock, random: Random = secrets.token_bytes) -> Environment:
    """The real world, at the time of *clock*."""
    return Environment(clock=clock, random=random, jitter=chance.random, sleep=asyncio.sleep)
