"""
The application under chaos with one fault in it, which `CHAOS_TWIN` names; honest without.

Its handler also takes the process with it, once, at a moment that brings each fault out: the
effect of one event is written, and its transaction has not been committed.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.acceptance.chaos.app import app, apply, effect
from tests.acceptance.chaos.brokers import APPLIED

from onefold import Event
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.engine.consumer import Consumer
from onefold.engine.delivery import Delivery, HandlerTransaction

FATAL: Final = "k1-1"
_died = Path(os.environ["CHAOS_HOME"]) / "died"
_beside = SqlUnitOfWork(Database(os.environ["CHAOS_DATABASE"]))

Handler = Callable[[Event, HandlerTransaction], Awaitable[None]]


async def commits_beside(event: Event, tx: HandlerTransaction) -> None:
    """Twin: the effect is committed in a transaction of its own, beside the inbox's."""
    async with _beside.begin() as own:
        await own.execute(effect(event))
    await tx.publish(APPLIED, {"number": event.data["number"]})


class SettlesFirst(Consumer):
    """Twin: the broker is told before the commit."""

    async def _apply(self, batch: Sequence[Delivery]) -> list[Delivery]:
        await self._settle(batch)
        return await super()._apply(batch)


class ForgetsOrder(Consumer):
    """Twin: what comes after a failed event of its key does not wait for it."""

    def _must_wait(self, delivery: Delivery) -> bool:
        return False


def dying(handler: Handler) -> Handler:
    """*handler*, and then death, the first time that it handles the fatal event."""

    async def run(event: Event, tx: HandlerTransaction) -> None:
        await handler(event, tx)
        if event.id == FATAL and not _died.exists():
            _died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return run


def _joining(
    honest: Callable[[], Coroutine[Any, Any, Consumer]], kind: type[Consumer]
) -> Callable[[], Coroutine[Any, Any, Consumer]]:
    async def join() -> Consumer:
        one = await honest()
        one.__class__ = kind
        return one

    return join


def working_with(kind: type[Consumer]) -> None:
    """Let every consumer of the application be of that kind."""
    make = app.worker

    def worker() -> Any:
        made = make()
        for consumer in made.consumers:
            consumer._join = _joining(consumer._join, kind)  # type: ignore[method-assign]
        return made

    app.worker = worker  # type: ignore[method-assign]


handler: Handler = apply
match os.environ.get("CHAOS_TWIN"):
    case "commits beside":
        handler = commits_beside
    case "settles first":
        working_with(SettlesFirst)
    case "forgets order":
        working_with(ForgetsOrder)
app.specs["apply"] = replace(app.specs["apply"], handler=dying(handler))
