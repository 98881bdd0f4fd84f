"""
Where a process can die: before and after every call across a port, by name.

A death is named after its call: `outbox.mark#3:after` is the third call of `outbox.mark`,
its effect durable, its answer never heard. What else can happen at a boundary has a name of
the same form: `transaction#1.commit:unknown` lets the process live and loses the answer,
`guard.confirm#1:before:stalled` stops the process for longer than its leases last, lets
another one do all the work, and then lets it go on.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event

from onefold.errors import CommitUnknown


class Crash(BaseException):
    """The process dies here. A BaseException, so that no `except Exception` survives it."""


@dataclass
class Reaper:
    """
    Counts the calls of one process, and kills it at the chosen one.

    The dead stay dead: after its death every further call raises `Crash` without an
    effect, so that no `finally` of the process tidies up what a real death would leave.

    Attributes:
        fatal: The name of the death, such as `outbox.mark#3:after`; None to let it live.
        seen: The names of all fates that this process passed by, in order.
        struck: Whether the fatal boundary was reached.
        dead: Whether it died there.
        overtaken: What happens to the world while the process is stalled.
        meet: Awaited with the call's name ahead of each: where others may come between.
    """

    fatal: str | None = None
    seen: list[str] = field(default_factory=list)
    struck: bool = False
    dead: bool = False
    overtaken: Callable[[], Awaitable[None]] | None = None
    meet: Callable[[str], Awaitable[None]] | None = None
    _calls: dict[str, int] = field(default_factory=dict)
    _transactions: int = 0

    def mortal(self, inner: Any, name: str) -> Any:
        """*inner* as this process has it: a port, or a unit of work."""
        begins = getattr(inner, "begin", None)
        if begins is not None and not inspect.iscoroutinefunction(begins):
            return MortalUnitOfWork(inner, self)
        return Mortal(inner, self, name)

    def number(self, call: str) -> str:
        """The name of this call: its port and method and how often it came."""
        self._calls[call] = self._calls.get(call, 0) + 1
        return f"{call}#{self._calls[call]}"

    def strike(self, death: str) -> None:
        """Die here if this is the death that was chosen, or if the process is dead."""
        if self.dead:
            raise Crash(f"{self.fatal}, and called on")
        self.seen.append(death)
        if death == self.fatal:
            self.struck = self.dead = True
            raise Crash(death)

    async def pass_by(self, death: str) -> None:
        """As `strike`; a process that holds no transaction may also be stalled here."""
        if self.meet is not None and death.endswith(":before"):
            await self.meet(death.removesuffix(":before"))
        self.strike(death)
        if self.overtaken is None or self._transactions:
            return  # what it holds locked, others wait for: nobody overtakes it
        self.seen.append(f"{death}:stalled")
        if self.fatal == f"{death}:stalled":
            self.struck = True
            await self.overtaken()

    def lose(self, answer: str, *, error: Exception) -> None:
        """Raise *error* if this is the answer that gets lost; the process lives."""
        self.seen.append(answer)
        if answer == self.fatal:
            self.struck = True
            raise error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The process holds what others may wait for."""
        self._transactions += 1
        try:
            yield
        finally:
            self._transactions -= 1


class Mortal:
    """
    A port whose calls a process can die in: before they run, or after their effect.

    A call that gives an awaitable is deadly, all others pass through. A batch handed to
    `publish` can also be cut between the broker's acknowledgements of two messages. A
    subscription that `subscribe` gives is as mortal as the transport.
    """

    def __init__(self, inner: Any, reaper: Reaper, name: str) -> None:
        self._inner, self._reaper, self._name = inner, reaper, name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._inner, attribute)
        if not callable(found):
            return found

        def call(*args: Any, **named: Any) -> Any:
            if attribute == "publish" and args and isinstance(args[0], list) and len(args[0]) > 1:
                return self._passed(attribute, self._acknowledged(found, args[0]))
            given = found(*args, **named)
            return self._passed(attribute, given) if inspect.isawaitable(given) else given

        async def begun(*args: Any, **named: Any) -> Any:  # as plain to see as what it wraps
            return await call(*args, **named)

        return begun if inspect.iscoroutinefunction(found) else call

    async def _passed(self, attribute: str, work: Awaitable[Any]) -> Any:
        name = self._reaper.number(f"{self._name}.{attribute}")
        try:
            await self._reaper.pass_by(f"{name}:before")
        except BaseException:
            if inspect.iscoroutine(work):
                work.close()
            raise
        result = await work
        await self._reaper.pass_by(f"{name}:after")
        if attribute == "subscribe":
            return Mortal(result, self._reaper, f"{self._name}.subscription")
        return result

    async def _acknowledged(
        self, publish: Callable[..., Awaitable[Any]], messages: Sequence[Any]
    ) -> Sequence[Any]:
        """Publish one by one: a process can die when some are durable and others are not."""
        answers: list[Any] = []
        refused: dict[Any, Any] = {}
        for message in messages:
            key = getattr(message, "key", None)
            if key in refused and key is not None:
                answers.append(refused[key])
                continue
            (answer,) = await publish([message])
            answers.append(answer)
            if answer is not None:
                refused[key] = answer
            self._reaper.strike(f"{self._reaper.number(f'{self._name}.ack')}:after")
        return answers


class MortalUnitOfWork:
    """A unit of work whose begin, whose every call inside, and whose commit can be deadly."""

    def __init__(self, inner: Any, reaper: Reaper) -> None:
        self._inner, self._reaper = inner, reaper

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._inner, attribute)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        """As the inner one's; dying before the commit rolls back, dying after it does not."""
        reaper = self._reaper
        name = reaper.number("transaction")
        await reaper.pass_by(f"{name}.begin:before")
        with reaper.transaction():
            async with self._inner.begin() as tx:
                yield _MortalTransaction(tx, reaper, name)
                await reaper.pass_by(f"{name}.commit:before")
        await reaper.pass_by(f"{name}.commit:after")
        reaper.lose(f"{name}.commit:unknown", error=CommitUnknown("its answer was lost"))

    async def fetch(self, *said: Any) -> Any:
        """A statement that is a transaction by itself, where the inner one has such."""
        return await Mortal(self._inner, self._reaper, "statement").fetch(*said)


class _MortalTransaction(Mortal):
    """Passes `records` of the memory adapter through, which a handler's effect needs."""

    @property
    def records(self) -> Any:
        return self._inner.records


@contextmanager
def deadly_statements(engine: Any, reaper: Reaper, name: str = "sql") -> Iterator[None]:
    """
    Let the process die before and after every statement that SQLAlchemy sends.

    Deaths are named `sql.insert#2:after`; `sql.commit#1:after` is a commit whose answer
    nobody heard. A ROLLBACK is none: for a dead client the database says it by itself.
    Processes that share an engine, as one that is stalled and one that overtakes it, each
    die of their own statements alone.

    Args:
        engine: An `Engine` or `AsyncEngine`.
        reaper: Of the process that uses it, in this task and those that it starts.
        name: What the deaths are called after.
    """
    target = getattr(engine, "sync_engine", engine)
    watch = _watched.get(target) or _Watch(target)
    token = _at_work.set(reaper)
    watch.add(reaper, name)
    try:
        yield
    finally:
        watch.remove(reaper)
        _at_work.reset(token)


_at_work: ContextVar[Reaper | None] = ContextVar("onefold_at_work", default=None)
_statement: ContextVar[str] = ContextVar("onefold_statement", default="")
_watched: dict[Any, "_Watch"] = {}


class _Watch:
    """One engine's listeners, for as long as a process is watched on it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._names: dict[int, str] = {}  # by the identity of the reaper
        self._only: list[Reaper] = []

    def add(self, reaper: Reaper, name: str) -> None:
        if not self._only:
            _watched[self._engine] = self
            event.listen(self._engine, "before_cursor_execute", self._before)
            event.listen(self._engine, "after_cursor_execute", self._after)
            self._engine.dialect.do_commit = self._commit
        self._only.append(reaper)
        self._names[id(reaper)] = name

    def remove(self, reaper: Reaper) -> None:
        self._only.remove(reaper)
        del self._names[id(reaper)]
        if not self._only:
            del _watched[self._engine], self._engine.dialect.do_commit
            event.remove(self._engine, "before_cursor_execute", self._before)
            event.remove(self._engine, "after_cursor_execute", self._after)

    def _process(self) -> Reaper | None:
        """Whose statement it is; a thread that was told nothing belongs to the only one."""
        reaper = _at_work.get()
        if reaper is None and len(self._only) == 1:
            return self._only[0]
        return reaper if id(reaper) in self._names else None

    def _pass(self, reaper: Reaper, word: str) -> str:
        name = reaper.number(f"{self._names[id(reaper)]}.{word}")
        reaper.strike(f"{name}:before")
        return name

    def _before(self, _c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        reaper, word = self._process(), _word(statement)
        if reaper is not None and word not in _HARMLESS:
            _statement.set(self._pass(reaper, word))

    def _after(self, _c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        reaper = self._process()
        if reaper is not None and _word(statement) not in _HARMLESS:
            reaper.strike(f"{_statement.get()}:after")

    def _commit(self, connection: Any) -> None:  # where the driver commits there is no statement
        reaper, dialect = self._process(), self._engine.dialect
        name = None if reaper is None else self._pass(reaper, "commit")
        type(dialect).do_commit(dialect, connection)
        if reaper is not None:
            reaper.strike(f"{name}:after")


_HARMLESS = {"rollback", "pragma"}


def _word(statement: str) -> str:
    return statement.split(None, 1)[0].lower()
