"""The promises of `Watermarks`."""

from typing import cast

from onefold.ports.transport import Partition
from onefold.ports.unit_of_work import Transaction
from onefold.ports.watermarks import Watermarks
from onefold.testing.contracts.stores import (
    NOON,
    Contract,
    RollBack,
    Stores,
    rolled_back,
    together,
    turn,
)

HERE, THERE = Partition("topic", 0), Partition("topic", 1)


class WatermarksContract(Contract):
    """A mark moves from where it was seen, with the transaction, by one writer at a time."""

    def _marks(self, stores: Stores) -> Watermarks:
        return cast("Watermarks", stores.watermarks)

    async def _advance(
        self,
        stores: Stores,
        seen: int | None,
        to: int,
        *,
        consumer: str = "c",
        partition: Partition = HERE,
        tx: Transaction | None = None,
    ) -> bool:
        marks = self._marks(stores)
        if tx is not None:
            return await marks.advance(tx, consumer, partition, seen=seen, to=to, now=NOON)
        async with stores.uow.begin() as own:
            return await marks.advance(own, consumer, partition, seen=seen, to=to, now=NOON)

    async def _held(
        self, stores: Stores, *partitions: Partition, consumer: str = "c"
    ) -> dict[Partition, int]:
        async with stores.uow.begin() as tx:
            return dict(await self._marks(stores).held(tx, consumer, partitions))

    async def test_there_is_no_mark_before_the_first(self) -> None:
        """A partition of which nothing was applied is not there; 0 would be its first message."""
        async with self.fresh() as stores:
            assert await self._held(stores, HERE, THERE) == {}

            assert await self._advance(stores, None, 0)

            assert await self._held(stores, HERE, THERE) == {HERE: 0}

    async def test_a_mark_moves_only_from_where_it_is(self) -> None:
        """Who saw it elsewhere is told so, and changes nothing."""
        async with self.fresh() as stores:
            await self._advance(stores, None, 3)

            moved = [
                await self._advance(stores, None, 9),
                await self._advance(stores, 2, 9),
                await self._advance(stores, 3, 7),
            ]

            assert moved == [False, False, True], moved
            assert await self._held(stores, HERE) == {HERE: 7}

    async def test_consumers_and_partitions_have_marks_of_their_own(self) -> None:
        """What one has applied is new to the next one."""
        async with self.fresh() as stores:
            await self._advance(stores, None, 3)

            assert await self._advance(stores, None, 4, partition=THERE)
            assert await self._advance(stores, None, 5, consumer="d")

            assert await self._held(stores, HERE, THERE) == {HERE: 3, THERE: 4}
            assert await self._held(stores, HERE, consumer="d") == {HERE: 5}

    async def test_a_mark_is_the_transactions(self) -> None:
        """Rolled back with everything else, and committed with it."""
        async with self.fresh() as stores:
            await self._advance(stores, None, 3)
            with rolled_back():
                async with stores.uow.begin() as tx:
                    await self._advance(stores, 3, 4, tx=tx)
                    await stores.effects.add(tx, "effect")
                    raise RollBack

            assert (await self._held(stores, HERE), await stores.effect()) == ({HERE: 3}, 0)

    async def test_of_two_that_saw_the_same_mark_one_moves_it(self) -> None:
        """Two workers that both think the partition theirs: the second is told False."""
        async with self.fresh() as stores:
            await self._advance(stores, None, 3, partition=THERE)
            for partition, seen in ((HERE, None), (THERE, 3)):

                async def worker(where: Partition = partition, seen: int | None = seen) -> bool:
                    async with stores.uow.begin() as tx:
                        moved = await self._advance(stores, seen, 5, partition=where, tx=tx)
                        await turn()  # the other one comes to its write
                        return moved

                moved = await together(worker, worker)

                assert sorted(moved) == [False, True], moved
            assert await self._held(stores, HERE, THERE) == {HERE: 5, THERE: 5}
