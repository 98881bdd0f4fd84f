"""
A Redis client for code that talks to redis-py directly: fakeredis, under our clock and network.

Held against a real Valkey, command by command, by `tests/property/test_fake_redis.py`; what
differs stands there in `DIFFERENCES`.
"""

import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from fakeredis import FakeAsyncRedis, FakeServer
from redis.exceptions import ConnectionError as ConnectionLost

from onefold.core.clock import Clock
from onefold.testing.faults import Faults

__all__ = ["FakeServer", "fake_redis", "under_clock"]


@asynccontextmanager
async def fake_redis(
    clock: Clock, *, server: FakeServer | None = None, faults: Faults | None = None
) -> AsyncIterator[Any]:
    """
    A `redis.asyncio.Redis` whose keys expire by *clock* and whose network has *faults*.

    Args:
        clock: Of everything that expires in the block, in every fake of this process.
        server: What several clients share; one of its own if not given.
        faults: What gets lost, cut, repeated or delayed; the errors are redis-py's.
    """
    client: Any = _FaultyRedis(faults or Faults(), server or FakeServer(server_type="valkey"))
    with under_clock(clock):
        try:
            yield client
        finally:
            await client.aclose()


class _FaultyRedis(FakeAsyncRedis):
    def __init__(self, faults: Faults, server: FakeServer) -> None:
        super().__init__(server=server)
        self._faults = faults
        faults.error = ConnectionLost

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        name = f"redis.{str(args[0]).lower()}"
        return await self._faults.call(name, super().execute_command, *args, **options)


@contextmanager
def under_clock(clock: Clock) -> Iterator[None]:
    """
    Let fakeredis read *clock*: it takes no clock of its own, and asks the machine's.

    In the block its modules find ours where they look for `time`; nothing else does.
    """
    ours: Any = SimpleNamespace(**{name: getattr(time, name) for name in dir(time)})
    ours.time = lambda: clock.now().timestamp()
    changed: list[ModuleType] = [
        module
        for name, module in tuple(sys.modules.items())
        if name.startswith("fakeredis.") and getattr(module, "time", None) is time
    ]
    for module in changed:
        module.time = ours  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in changed:
            module.time = time  # type: ignore[attr-defined]
