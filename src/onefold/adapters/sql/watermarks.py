"""Watermarks in the table `onefold_watermarks`."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import and_, or_, select, update

from onefold.adapters.sql.schema import watermarks
from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Transaction


class SqlWatermarks:
    """See `ports.watermarks.Watermarks`."""

    async def held(
        self, tx: Transaction, consumer: str, partitions: Collection[Partition]
    ) -> Mapping[Partition, int]:
        places = [
            and_(watermarks.c.topic == topic, watermarks.c.partition == number)
            for topic, number in sorted(partitions)
        ]
        mine = and_(watermarks.c.consumer == consumer, or_(*places))
        found = await tx.execute(select(watermarks).where(mine))
        return {Partition(row.topic, row.partition): row.position for row in found}

    async def advance(
        self,
        tx: Transaction,
        consumer: str,
        partition: Partition,
        *,
        seen: int | None,
        to: int,
        now: datetime,
    ) -> bool:
        place = {"consumer": consumer, "topic": partition.topic, "partition": partition.number}
        if seen is None:
            row = place | {"position": to, "advanced_at": now}
            return bool(await tx.insert_new(watermarks, [row]))
        here = [watermarks.c[name] == value for name, value in place.items()]
        # The condition is the fence between two workers that both think the partition theirs.
        move = update(watermarks).where(*here, watermarks.c.position == seen)
        return (await tx.execute(move.values(position=to, advanced_at=now))).rowcount == 1
