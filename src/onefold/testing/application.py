"""One process of an `Onefold` application that works until nothing is left, or dies."""

from contextlib import AsyncExitStack
from random import Random
from typing import Any

from onefold.application import Onefold
from onefold.core.envelope import Event
from onefold.engine.consumer import Consumer
from onefold.engine.delivery import Environment
from onefold.engine.relay import Relay
from onefold.testing.clock import ManualClock
from onefold.testing.crash.points import Reaper, deadly_statements
from onefold.testing.sql import unsynced

__all__ = ["send", "work_off"]


async def send(
    app: Onefold,
    type: str,  # noqa: A002 (the field's name)
    data: Any,
    *,
    id: str,  # noqa: A002 (the field's name)
    key: str | None = None,
) -> Event:
    """
    Put an event into the broker of *app*, as some relay would have done.

    Args:
        type: What happened; says the topic, as `Routes` have it.
        data: A JSON value.
        id: The event's; sent again under the same id it is the same event.
        key: What it is about.
    """
    event = Event(
        id=id,
        type=type,
        source="onefold.testing",
        occurred_at=ManualClock().now(),
        data=data,
        key=key,
    )
    (error,) = await app.transport.publish([app.routes.outgoing(event)])
    if error is not None:
        raise error
    return event


async def work_off(app: Onefold, process: Reaper, *, clock: ManualClock | None = None) -> None:
    """
    Run all consumers of *app* and its relay in turns, until none has anything to do.

    A process starts anew at every call: it joins its groups, and leaves them without a
    goodbye. It can die in every statement, commit and call of the broker.

    Args:
        app: Over a migrated database, with a broker that survives the process, such as a
            `MemoryTransport` that the scenario keeps.
        process: Whose deaths these are.
        clock: Moves when something waits; one of its own if not given.
    """
    clock = clock or ManualClock()
    chance = Random(process.fatal or "")  # noqa: S311 (chance that can be repeated)
    env = Environment(clock=clock, random=chance.randbytes, jitter=chance.random, sleep=clock.sleep)
    broker = process.mortal(app.transport, "broker")
    relay = Relay(app.outbox, broker, owner="tested", env=env, routes=app.routes)
    async with AsyncExitStack() as ends:
        ends.enter_context(deadly_statements(app.database.writer, process))
        ends.enter_context(unsynced(app.database.writer))
        consumers = []
        for spec in app.specs.values():
            subscription = await app.transport.subscribe(spec.name, spec.topics)
            ends.push_async_callback(_end_of(subscription))
            consumers.append(
                Consumer(
                    spec,
                    subscription=process.mortal(subscription, f"subscription of {spec.name}"),
                    uow=process.mortal(app.uow, "uow"),
                    ledger=app.ledger,
                    env=env,
                    poll_s=0,
                )
            )
        while any([*[await consumer.step() for consumer in consumers], await relay.step()]):
            pass


def _end_of(subscription: Any) -> Any:
    """Dying without a goodbye where the transport can be told to; else leaving."""
    return getattr(subscription, "kill", subscription.close)
