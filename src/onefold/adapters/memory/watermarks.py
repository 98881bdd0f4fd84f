"""Watermarks in memory."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Transaction


class MemoryWatermarks:
    """See `ports.watermarks.Watermarks`. They live in the transaction's records."""

    async def held(
        self, tx: Transaction, consumer: str, partitions: Collection[Partition]
    ) -> Mapping[Partition, int]:
        marks = _marks(tx)
        return {p: marks[consumer, p] for p in partitions if (consumer, p) in marks}

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
        marks = _marks(tx)
        if marks.get((consumer, partition)) != seen:
            return False
        marks[consumer, partition] = to
        return True


def _marks(tx: Any) -> dict[tuple[str, Partition], int]:
    marks: dict[tuple[str, Partition], int] = tx.records.setdefault("watermarks", {})
    return marks
