"""Watermarks with one fault each: the contract catches every one, by the case about it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import MemoryDeadlines, MemoryUnitOfWork
from onefold.adapters.memory.watermarks import MemoryWatermarks
from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Transaction
from onefold.testing.contracts import RecordEffects, Stores, WatermarksContract, failures


class Blind(MemoryWatermarks):
    """Moves the mark whatever it is by now."""

    async def advance(
        self, tx: Transaction, consumer: str, partition: Partition, **named: Any
    ) -> bool:
        held = await self.held(tx, consumer, [partition])
        named["seen"] = held.get(partition)
        return await super().advance(tx, consumer, partition, **named)


class Apart(MemoryWatermarks):
    """Keeps marks beside the transaction."""

    records: dict[str, Any]

    def __init__(self) -> None:
        self.records = {}

    async def held(self, tx: Any, *args: Any) -> Any:
        return await super().held(self, *args)  # type: ignore[arg-type]

    async def advance(self, tx: Any, *args: Any, **named: Any) -> bool:
        return await super().advance(self, *args, **named)  # type: ignore[arg-type]


class Shared(MemoryWatermarks):
    """Forgets whose mark it is."""

    async def held(self, tx: Any, consumer: str, partitions: Any) -> Any:
        return await super().held(tx, "all", partitions)

    async def advance(self, tx: Any, consumer: str, *args: Any, **named: Any) -> bool:
        return await super().advance(tx, "all", *args, **named)


CAUGHT = {
    Blind: {"test_a_mark_moves_only_from_where_it_is", "test_of_two_that_saw_the_same_mark_one"},
    Apart: {"test_a_mark_is_the_transactions"},
    Shared: {"test_consumers_and_partitions_have_marks_of_their_own"},
}


@pytest.mark.parametrize("twin", CAUGHT, ids=lambda each: each.__name__)
async def test_a_faulty_watermark_is_caught(twin: type[MemoryWatermarks]) -> None:
    """By the cases about its fault, and by no other."""

    class Suite(WatermarksContract):
        @asynccontextmanager
        async def fresh(self) -> AsyncIterator[Stores]:
            uow = MemoryUnitOfWork()
            yield Stores(
                uow=uow,
                outbox=MemoryOutbox(uow),
                deadlines=MemoryDeadlines(uow),
                effects=RecordEffects(),
                watermarks=twin(),
            )

    found = await failures(Suite)

    assert {name.partition("_moves_it")[0] for name in found} == CAUGHT[twin]
