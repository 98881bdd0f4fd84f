"""
Tells relays in other processes that there is something to send: PostgreSQL's NOTIFY.

A hint and no more: whoever listens polls as well, and a lost notification costs one interval.
Rung after the commit and outside of it: a NOTIFY inside makes PostgreSQL's commits wait for
each other (its `async.c`, "PreCommit_Notify"), and would tell a relay too early.
"""

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.errors import at_the_border
from onefold.errors import OnefoldError

log = logging.getLogger("onefold.news")

_CHANNEL = "onefold_outbox"


class Notifier:
    """Rings for the relays of other processes; many rings in one moment are one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted = False
        self._ringing: asyncio.Task[None] | None = None

    def ring(self) -> None:
        """Ring soon; returns at once, and never fails."""
        self._wanted = True
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.create_task(self._ring())

    async def aclose(self) -> None:
        """Wait for the last ring."""
        if self._ringing is not None:
            await asyncio.wait((self._ringing,))

    async def _ring(self) -> None:
        database = self._database
        while self._wanted:
            self._wanted = False
            try:
                async with database.transaction(
                    database.writer, database.dialect.BEGIN, at_the_border
                ) as connection:
                    with at_the_border():
                        await connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")
            except OnefoldError as error:
                log.info("could not ring, the relays will poll: %s", error)


async def listen(database: Database, heard: Callable[[], None]) -> None:
    """
    Call *heard* at once and whenever a bell rings; returns when the connection is lost.

    Holds a connection of its own, beside the pool's. At once, because what was rung while
    nobody listened is not told again.

    Raises:
        StoreUnavailable: no connection could be had.
    """
    lost = asyncio.Event()
    engine = create_async_engine(
        database.writer.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
    )
    try:
        with at_the_border():
            connection = await engine.connect()
        try:
            with at_the_border():
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None  # noqa: S101 (a checked-out connection has its driver's)
                driver.add_termination_listener(lambda _: lost.set())
                await driver.add_listener(_CHANNEL, lambda *_: heard())
            heard()
            await lost.wait()
        finally:
            await connection.invalidate()
    finally:
        await engine.dispose()


def can_listen(database: Database) -> bool:
    """Whether other processes can be told at all; on SQLite they poll."""
    return bool(database.dialect.FEATURES.name == "postgresql")
