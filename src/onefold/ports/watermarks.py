"""How far into each partition a consumer's effects have come."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Transaction


class Watermarks(Protocol):
    """
    One position a consumer and partition, kept in the transaction of the effects.

    Both calls belong to the caller's transaction and raise what `Transaction.execute` does.
    """

    async def held(
        self, tx: Transaction, consumer: str, partitions: Collection[Partition]
    ) -> Mapping[Partition, int]:
        """The last position applied of each partition that has one. One round trip."""
        ...

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
        """
        Move one partition's watermark from *seen* (None: there was none) to *to*.

        The write itself decides: of two transactions that saw the same mark the second
        waits for the first to end, and then is told False. One round trip.

        Returns:
            False when the mark is no longer where it was seen; nothing changed.
        """
        ...
