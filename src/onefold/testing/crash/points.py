"""Where a process can die: before and after every call across a port, by name."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


class Crash(BaseException):
    """The process dies here. A BaseException, so that no `except Exception` survives it."""


@dataclass
class Reaper:
    """
    Counts the calls of one run, and kills it at the chosen one.

    Attributes:
        fatal: The name of the death, such as `outbox.mark#3:after`; None to let it live.
        seen: The names of all deaths that this run passed by, in order.
    """

    fatal: str | None = None
    seen: list[str] = field(default_factory=list)
    _calls: dict[str, int] = field(default_factory=dict)

    def number(self, call: str) -> str:
        """The name of this call: its port and method and how often it came."""
        self._calls[call] = self._calls.get(call, 0) + 1
        return f"{call}#{self._calls[call]}"

    def pass_by(self, death: str) -> None:
        """Die here if this is the death that was chosen."""
        self.seen.append(death)
        if death == self.fatal:
            raise Crash(death)


class Mortal:
    """
    A port whose calls a process can die in: before they run, or after their effect.

    Everything but coroutine methods passes through. A method that opens a transaction is
    not a coroutine: see `MortalUnitOfWork`.
    """

    def __init__(self, inner: Any, reaper: Reaper, name: str) -> None:
        self._inner, self._reaper, self._name = inner, reaper, name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._inner, attribute)
        if not callable(found):
            return found
        return self._mortal(attribute, found)

    def _mortal(self, attribute: str, method: Callable[..., Awaitable[Any]]) -> Any:
        async def call(*args: object, **named: object) -> Any:
            name = self._reaper.number(f"{self._name}.{attribute}")
            self._reaper.pass_by(f"{name}:before")
            result = await method(*map(_bare, args), **named)
            self._reaper.pass_by(f"{name}:after")
            return result

        return call


def _bare(argument: object) -> object:
    """A port that takes another one, as a ledger takes a transaction, gets the real one."""
    return argument._inner if isinstance(argument, Mortal) else argument  # noqa: SLF001 (ours)


class MortalUnitOfWork:
    """A unit of work whose begin, whose every call inside, and whose commit can be deadly."""

    def __init__(self, inner: Any, reaper: Reaper) -> None:
        self._inner, self._reaper = inner, reaper

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._inner, attribute)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        """As the inner one's; dying before the commit rolls back, dying after it does not."""
        name = self._reaper.number("transaction")
        self._reaper.pass_by(f"{name}.begin:before")
        async with self._inner.begin() as tx:
            yield _MortalTransaction(tx, self._reaper, name)
            self._reaper.pass_by(f"{name}.commit:before")
        self._reaper.pass_by(f"{name}.commit:after")


class _MortalTransaction(Mortal):
    """Passes `records` of the memory adapter through, which a handler's effect needs."""

    @property
    def records(self) -> Any:
        return self._inner.records
