"""A port behind a bad network: requests and answers get lost, repeated, late, out of order."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from onefold.errors import CommitUnknown, StoreUnavailable

__all__ = ["Faults"]


def _unavailable(what: str) -> Exception:
    return StoreUnavailable(what)


@dataclass(kw_only=True)
class Faults:
    """
    Chances between 0 and 1 for each call of a port; the same seed does the same again.

    Attributes:
        seed: Of all chance.
        lose: The request never arrives: nothing happens, and an error is raised.
        cut: The request is done and its answer lost: the same error is raised.
        repeat: The request arrives twice, as a retransmission does; of what is received,
            one message comes again.
        reorder: What is received comes in another order, within each key in the same.
        delay: The call takes up to `delay_s` seconds by `sleep`, so that others overtake it.
        delay_s: How long at the most.
        sleep: What a delay waits with.
        error: What a lost request or answer looks like.
        most: How many faults at the most: a test must end.
        done: What was done to which call: `guard.claim#3:lost`.
    """

    seed: object = 0
    lose: float = 0.0
    cut: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    delay_s: float = 1.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    error: Callable[[str], Exception] = _unavailable
    most: int = 1000
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(str(self.seed))  # noqa: S311 (chance that can be repeated)
        self._calls = 0

    def around(self, port: Any, name: str) -> Any:
        """
        *port* behind this network: every call that gives an awaitable can go wrong.

        Of a unit of work these are the begin, which may never arrive, and the commit, whose
        answer may be cut: `CommitUnknown`, whatever `error` is. A subscription that
        `subscribe` gives is behind the same network.
        """
        return _Faulty(port, name, self)

    async def call(
        self, name: str, method: Callable[..., Awaitable[Any]], *args: Any, **named: Any
    ) -> Any:
        """One call over the network."""
        self._calls += 1
        call = f"{name}#{self._calls}"
        if self._happens(self.delay, f"{call}:delayed"):
            await self.sleep(self._random.random() * self.delay_s)
        if self._happens(self.lose, f"{call}:lost"):
            raise self.error(f"{call} never arrived")
        answer = await method(*args, **named)
        receives = name.endswith(".receive")
        once = receives or name.endswith(".subscribe")  # who joins twice is another member
        if not once and self._happens(self.repeat, f"{call}:repeated"):
            answer = await method(*args, **named)
        if self._happens(self.cut, f"{call}:cut"):
            raise self.error(f"the answer of {call} was lost")
        return self._mixed(call, answer) if receives else answer

    @asynccontextmanager
    async def transaction(self, name: str, transaction: Any) -> AsyncIterator[Any]:
        """One transaction over the network, its begin and its commit."""
        self._calls += 1
        call = f"{name}#{self._calls}"
        if self._happens(self.delay, f"{call}:delayed"):
            await self.sleep(self._random.random() * self.delay_s)
        if self._happens(self.lose, f"{call}:lost"):
            raise self.error(f"{call} never arrived")
        async with transaction as begun:
            yield begun
        if self._happens(self.cut, f"{call}.commit:cut"):
            raise CommitUnknown(f"the answer of {call}'s commit was lost")

    def _mixed(self, call: str, received: Sequence[Any]) -> Sequence[Any]:
        messages = list(received)
        if messages and self._happens(self.repeat, f"{call}:repeated"):
            messages.append(self._random.choice(messages))
        if len(messages) > 1 and self._happens(self.reorder, f"{call}:reordered"):
            keys = [message.key for message in messages]
            self._random.shuffle(keys)
            queues = {key: [m for m in messages if m.key == key] for key in keys}
            messages = [queues[key].pop(0) for key in keys]
        return messages

    def _happens(self, chance: float, fault: str) -> bool:
        if not chance or len(self.done) >= self.most or self._random.random() >= chance:
            return False
        self.done.append(fault)
        return True


class _Faulty:
    def __init__(self, inner: Any, name: str, faults: Faults) -> None:
        self._inner, self._name, self._faults = inner, name, faults

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._inner, attribute)
        if not callable(found):
            return found
        name, faults = f"{self._name}.{attribute}", self._faults

        async def call(method: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
            answer = await faults.call(name, method, *args, **named)
            return faults.around(answer, self._name) if attribute == "subscribe" else answer

        if inspect.iscoroutinefunction(found):
            return partial(call, found)

        def maybe(*args: Any, **named: Any) -> Any:  # those of redis-py and `Mortal` are plain
            given = found(*args, **named)
            if attribute == "begin" and hasattr(given, "__aenter__"):
                return faults.transaction(name, given)
            if not inspect.isawaitable(given):
                return given
            return call(_Begun(found, given).again, *args, **named)

        return maybe


class _Begun:
    """A call that was made to see what it gives: awaited first, and made anew after that."""

    def __init__(self, found: Callable[..., Any], given: Awaitable[Any]) -> None:
        self._found = found
        self._given: list[Awaitable[Any]] = [given]

    async def again(self, *args: Any, **named: Any) -> Any:
        return await (self._given.pop() if self._given else self._found(*args, **named))

    def __del__(self) -> None:
        for given in self._given:
            if inspect.iscoroutine(given):
                given.close()  # the request was lost: it is never begun
