"""
The application under chaos, as a user would write it; a worker runs `app` of this module.

Its effect is a row without any constraint that would hide a second one. Each row says which
was the last of its key that it could see, so that order is judged by what was committed.
"""

import asyncio
import os
from random import Random
from typing import Any, Final

from sqlalchemy import text
from tests.acceptance.chaos.brokers import APPLIED, LEASE, ORDERS, transport_of

from onefold import Event, Onefold
from onefold.core.backoff import Backoff
from onefold.engine.delivery import HandlerTransaction

# The subquery sees what was committed when the statement began, and this transaction's own.
EFFECT: Final = text(
    "INSERT INTO effects (consumer, event_id, key, number, last) SELECT :consumer, :event_id,"
    " :key, :number, (SELECT max(number) FROM effects WHERE consumer = :consumer AND key = :key)"
)
HARDLY_ANY: Final = Backoff(first_s=0.05, most_s=0.4)

app = Onefold(
    os.environ["CHAOS_DATABASE"],
    transport=transport_of(os.environ["CHAOS_BROKER"]),
    relay_lease=LEASE,
)
_failed: set[str] = set()
_moods = Random()


@app.consumer(ORDERS, name="apply", concurrency=2, max_attempts=10, backoff=HARDLY_ANY)
async def apply(event: Event, tx: HandlerTransaction) -> None:
    """One effect and one follow-up; a flaky event fails once in each process, a poisoned one ever."""
    await tx.execute(effect(tx.consumer, event.id, event))
    await tx.publish(APPLIED, {"number": event.data["number"]})
    await asyncio.sleep(_moods.uniform(0, 0.004))  # so that signals find it in the middle
    if event.data["mood"] == "poisoned":
        raise ValueError("never")
    if event.data["mood"] == "flaky" and event.id not in _failed:
        _failed.add(event.id)
        raise ValueError("not yet")


@app.consumer(APPLIED, name="tell", max_attempts=10, backoff=HARDLY_ANY)
async def tell(event: Event, tx: HandlerTransaction) -> None:
    """What was published comes out at another consumer, once."""
    assert event.causation_id
    await tx.execute(effect(tx.consumer, event.causation_id, event))


def effect(consumer: str, id_: str, event: Event) -> Any:
    """The statement that is the effect of the event with that id."""
    facts = {"event_id": id_, "key": event.key, "number": event.data["number"]}
    return EFFECT.bindparams(consumer=consumer, **facts)
