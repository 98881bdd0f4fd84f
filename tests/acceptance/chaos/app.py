"""
The application under chaos, as a user would write it; a worker runs `app` of this module.

Its effect is a row without any constraint that would hide a second one. Each row says which
was the last of its key that it could see, so that order is judged by what was committed.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

from sqlalchemy import Executable, text
from tests.acceptance.chaos.brokers import APPLIED, LEASE, ORDERS, transport_of

from onefold import Event, Onefold
from onefold.core.backoff import Backoff
from onefold.engine.delivery import HandlerTransaction

# The subquery sees what was committed when the statement began, and this transaction's own.
EFFECT: Final = text(
    "INSERT INTO effects (consumer, event_id, key, number, last) SELECT 'apply', :event_id,"
    " :key, :number, (SELECT max(number) FROM effects WHERE consumer = 'apply' AND key = :key)"
)
LAST: Final = text(
    "SELECT key, max(number) FROM effects WHERE consumer = 'tell' AND key = ANY(:keys) GROUP BY key"
)
TOLD: Final = text(
    "INSERT INTO effects (consumer, event_id, key, number, last)"
    " VALUES ('tell', :event_id, :key, :number, :last)"
)
HARDLY_ANY: Final = Backoff(first_s=0.05, most_s=0.4)

app = Onefold(
    os.environ["CHAOS_DATABASE"],
    transport=transport_of(os.environ["CHAOS_BROKER"]),
    relay_lease=LEASE,
)
_home = Path(os.environ["CHAOS_HOME"])
_chance = Random()


@app.consumer(ORDERS, name="apply", concurrency=2, max_attempts=10, backoff=HARDLY_ANY)
async def apply(event: Event, tx: HandlerTransaction) -> None:
    """One effect and one follow-up; a flaky event fails twice: in company, and then alone."""
    await tx.execute(effect(event))
    await tx.publish(APPLIED, {"number": event.data["number"]})
    if _chance.random() < 0.1:
        await asyncio.sleep(_chance.uniform(0, 0.005))  # so that signals find it in the middle
    if event.data["mood"] == "poisoned":
        raise ValueError("never")
    if event.data["mood"] == "flaky" and _fails_again(event.id):
        raise ValueError("not yet")


@app.batch_consumer(APPLIED, name="tell", max_attempts=10, backoff=HARDLY_ANY)
async def tell(events: Sequence[Event], tx: HandlerTransaction) -> None:
    """What was published comes out at another consumer, once; written set-based."""
    found = await tx.execute(LAST.bindparams(keys=[event.key for event in events]))
    last = {row.key: row.max for row in found}
    rows = []
    for event in events:
        row = {"event_id": event.causation_id, "key": event.key, "number": event.data["number"]}
        rows.append(row | {"last": last.get(event.key)})
        last[event.key] = event.data["number"]
    await tx.execute(TOLD, rows)


def _fails_again(event_id: str) -> bool:
    """True twice for each event, whichever processes ask and die."""
    for number in (1, 2):
        with suppress(FileExistsError):
            (_home / f"{event_id}.failed-{number}").touch(exist_ok=False)
            return True
    return False


def effect(event: Event) -> Executable:
    """The statement that is the effect of *event*."""
    return EFFECT.bindparams(event_id=event.id, key=event.key, number=event.data["number"])
