"""A guard for a loop of one's own, over the store that a URL names."""

from collections.abc import Awaitable, Callable
from typing import Final, Self

from onefold.errors import InvalidSetting
from onefold.ports.guard import Guard

__all__ = ["OpenGuard", "open_guard"]

_SQL: Final = ("sqlite", "postgresql")
_VALKEY: Final = ("valkey", "valkeys", "redis", "rediss", "unix")
_EXPECTED: Final = (
    "expected sqlite:///file.db, postgresql://user:password@host/name, valkey://host:port "
    "or memory:"
)


class OpenGuard:
    """
    A `ports.guard.Guard`, and what it holds open.

    `async with` prepares the store and lets go of it at the end; `prepare` and `aclose` do so
    one by one. One that confirms in the caller's SQL transaction does so here too.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        prepare: Callable[[], Awaitable[None]],
        aclose: Callable[[], Awaitable[None]],
    ) -> None:
        self.features = guard.features
        self.claim, self.renew, self.confirm = guard.claim, guard.renew, guard.confirm
        self.release, self.forget = guard.release, guard.forget
        for inside in ("confirm_in", "confirm_in_sync"):
            if hasattr(guard, inside):
                setattr(self, inside, getattr(guard, inside))
        self._prepare, self._aclose = prepare, aclose

    async def prepare(self) -> None:
        """
        Make the store fit: Onefold's tables in a database; in Valkey, nothing is evicted.

        Raises:
            InvalidSetting: that Valkey would forget claims; nothing was changed.
            StoreUnavailable, SchemaOutdated, others: as `onefold migrate`.
        """
        await self._prepare()

    async def aclose(self) -> None:
        """Close what was connected. Safe twice."""
        await self._aclose()

    async def __aenter__(self) -> Self:
        try:
            await self.prepare()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def open_guard(url: str) -> OpenGuard:
    """
    The guard that keeps its claims at *url*; nothing is connected yet.

    Args:
        url: `sqlite:///file.db`, `postgresql://user:password@host/name`, `valkey://host:port`
            (`redis:`, `valkeys:`, `rediss:`, `unix:`; a cluster with `cluster+` before it), or
            `memory:`, of which nothing survives the process.

    Raises:
        InvalidSetting: no such URL; nothing was opened.
    """
    kind = url.partition(":")[0].removeprefix("cluster+")
    if url == "memory:":
        return _in_memory()
    if kind in _SQL:
        return _in_sql(url)
    if kind in _VALKEY:
        return _in_valkey(url)
    raise InvalidSetting("guard", _EXPECTED)


def _in_memory() -> OpenGuard:
    from onefold.adapters.memory.guard import MemoryGuard  # noqa: PLC0415 (not always needed)

    return OpenGuard(MemoryGuard(), prepare=_nothing, aclose=_nothing)


def _in_sql(url: str) -> OpenGuard:
    from onefold.adapters.sql.connection import Database  # noqa: PLC0415 (an extra)
    from onefold.adapters.sql.guard import sql_guard  # noqa: PLC0415 (an extra)
    from onefold.adapters.sql.migrate import migrate  # noqa: PLC0415 (an extra)

    database = Database(url)

    async def prepare() -> None:
        await migrate(database)

    return OpenGuard(sql_guard(database), prepare=prepare, aclose=database.aclose)


def _in_valkey(url: str) -> OpenGuard:
    from onefold.adapters.valkey.connection import connect  # noqa: PLC0415 (an extra)
    from onefold.adapters.valkey.guard import ValkeyGuard  # noqa: PLC0415 (an extra)

    server = connect(url)
    guard = ValkeyGuard(server)
    return OpenGuard(guard, prepare=guard.check, aclose=server.aclose)


async def _nothing() -> None:
    """What memory needs, before and after."""
