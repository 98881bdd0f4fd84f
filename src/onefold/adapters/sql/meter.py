"""What waits in the database: how much, and for how long."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import and_, func, select

from onefold.adapters.sql.message_tables import partitions, shares
from onefold.adapters.sql.schema import dead_letters, outbox
from onefold.core.clock import Clock
from onefold.ports.meter import Measure, Meter
from onefold.ports.unit_of_work import UnitOfWork


def sql_meter(uow: UnitOfWork, clock: Clock) -> Meter:
    """Outbox depth and age, dead letters, and messages of our own broker by consumer."""

    async def meter() -> Sequence[Measure]:
        async with uow.read() as tx:
            waits = outbox.c.sent_at.is_(None) & outbox.c.dead_at.is_(None)
            depth = select(
                func.count().label("events"), func.min(outbox.c.published_at).label("oldest")
            ).where(waits)
            unsent = (await tx.execute(depth)).mappings().one()
            dead = select(func.count()).where(
                outbox.c.sent_at.is_(None), outbox.c.dead_at.is_not(None)
            )
            dead_events = (await tx.execute(dead)).scalar_one()
            letters = list(await tx.execute(_LETTERS))
            owed = list(await tx.execute(_OWED))
        now = clock.now()
        age = max(timedelta(0), now - (unsent["oldest"] or now))
        return [
            Measure(
                name="onefold_outbox_unsent",
                help="Events that wait for a relay",
                value=unsent["events"],
            ),
            Measure(
                name="onefold_outbox_dead", help="Events that relays gave up", value=dead_events
            ),
            Measure(
                name="onefold_outbox_oldest_age_seconds",
                help="For how long the oldest unsent event has waited",
                value=age.total_seconds(),
            ),
            *(
                Measure(
                    name="onefold_dead_letters",
                    help="Messages that were given up, and are kept",
                    value=row.letters,
                    labels={"consumer": row.consumer, "state": row.state},
                )
                for row in letters
            ),
            *(
                Measure(
                    name="onefold_consumer_lag_messages",
                    help="Messages in the database's own broker that are not settled",
                    value=int(row.owed),
                    labels={"consumer": row.group_name, "topic": row.topic},
                )
                for row in owed
            ),
        ]

    return meter


_LETTERS = select(dead_letters.c.consumer, dead_letters.c.state, func.count().label("letters"))
_LETTERS = _LETTERS.group_by(dead_letters.c.consumer, dead_letters.c.state)
_OWED = (
    select(
        shares.c.group_name,
        shares.c.topic,
        func.sum(partitions.c.next_position - shares.c.settled_to).label("owed"),
    )
    .join(
        partitions,
        and_(partitions.c.topic == shares.c.topic, partitions.c.number == shares.c.number),
    )
    .group_by(shares.c.group_name, shares.c.topic)
)
