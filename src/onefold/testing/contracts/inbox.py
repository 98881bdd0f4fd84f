"""The promises of `Transaction.claim`."""

import asyncio

from onefold.errors import InvalidInput
from onefold.testing.contracts.stores import (
    NOON,
    Contract,
    RollBack,
    Stores,
    raises,
    rolled_back,
    together,
    turn,
)

E1, E2 = "018f0000-0000-7000-8000-000000000001", "018f0000-0000-7000-8000-000000000002"


class InboxContract(Contract):
    """An event is applied once per consumer, however often and concurrently it comes."""

    parallel = 4  # transactions that the adapter can keep open at the same time

    async def _claim(self, stores: Stores, consumer: str, event_id: str) -> bool:
        async with stores.uow.begin() as tx:
            return await tx.claim(consumer, event_id, now=NOON)

    async def test_a_second_claim_is_refused(self) -> None:
        """A redelivered event is applied once."""
        async with self.fresh() as stores:
            first = await self._claim(stores, "grades", E1)
            second = await self._claim(stores, "grades", E1)

            assert (first, second) == (True, False), (first, second)

    async def test_a_second_claim_in_the_same_transaction_is_refused(self) -> None:
        """Two copies of an event in one batch are applied once."""
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                first = await tx.claim("grades", E1, now=NOON)
                second = await tx.claim("grades", E1, now=NOON)

            assert (first, second) == (True, False), (first, second)

    async def test_every_consumer_has_its_own_claims(self) -> None:
        """What one consumer applied is new to the next one."""
        async with self.fresh() as stores:
            await self._claim(stores, "grades", E1)

            assert await self._claim(stores, "mail", E1)

    async def test_every_event_is_claimed_for_itself(self) -> None:
        """One event does not stand for another."""
        async with self.fresh() as stores:
            await self._claim(stores, "grades", E1)

            assert await self._claim(stores, "grades", E2)

    async def test_long_names_are_told_apart(self) -> None:
        """Names and ids count to their last character."""
        consumer, event_id = "c" * 63, "e" * 254
        async with self.fresh() as stores:
            for last in "ab":
                assert await self._claim(stores, consumer + last, event_id + "x")
                assert await self._claim(stores, consumer + "x", event_id + last)

    async def test_a_claim_rolled_back_is_forgotten(self) -> None:
        """An event whose handler failed is applied at its redelivery."""
        async with self.fresh() as stores:
            with rolled_back():
                async with stores.uow.begin() as tx:
                    await tx.claim("grades", E1, now=NOON)
                    raise RollBack

            assert await self._claim(stores, "grades", E1)

    async def test_names_that_cannot_be_kept_are_refused(self) -> None:
        """A name is refused when it is empty or too long, and the transaction goes on."""
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                for consumer, event_id in (("", E1), ("c" * 65, E1), ("c", ""), ("c", "e" * 256)):
                    with raises(InvalidInput):
                        await tx.claim(consumer, event_id, now=NOON)
                with raises(InvalidInput):
                    await tx.claim("c", E1, now=NOON.replace(tzinfo=None))
                await tx.claim("c" * 64, "e" * 255, now=NOON)

            assert await stores.claimed("c" * 64, "e" * 255)

    async def test_a_concurrent_claim_waits_for_the_first_to_commit(self) -> None:
        """While one worker applies an event, a second cannot begin to."""
        async with self.fresh() as stores:
            assert await self._race(stores, first_fails=False) == (True, False)

    async def test_a_concurrent_claim_gets_what_the_first_rolls_back(self) -> None:
        """When the worker that came first fails, the one that waited applies the event."""
        async with self.fresh() as stores:
            assert await self._race(stores, first_fails=True) == (True, True)

    async def _race(self, stores: Stores, *, first_fails: bool) -> tuple[bool, bool]:
        """Two transactions claim the same event; the second asks while the first is open."""
        under_way = asyncio.Event()

        async def claim_second() -> bool:
            if not stores.uow.features.parallel_writers:
                under_way.set()  # it waits for the first already when it begins
            async with stores.uow.begin() as tx:
                under_way.set()
                return await tx.claim("grades", E1, now=NOON)

        with rolled_back():
            async with stores.uow.begin() as tx:
                first = await tx.claim("grades", E1, now=NOON)
                second = asyncio.create_task(claim_second())
                await under_way.wait()
                for _ in range(3):  # round trips in which the second could overtake
                    await stores.effects.add(tx, "first")
                assert not second.done(), "the second claim did not wait for the first"
                if first_fails:
                    raise RollBack
        return first, await second

    async def test_of_concurrent_claims_exactly_one_succeeds(self) -> None:
        """Workers that all got the same event at the same time apply it once."""
        async with self.fresh() as stores:
            gate = asyncio.Barrier(self.parallel)

            async def claim() -> bool:
                if not stores.uow.features.parallel_writers:
                    await gate.wait()
                async with stores.uow.begin() as tx:
                    if stores.uow.features.parallel_writers:
                        await gate.wait()  # all are open now
                    await turn()  # or would be, if they did not wait
                    return await tx.claim("grades", E1, now=NOON)

            claims = await together(*[claim] * self.parallel)

            assert sorted(claims) == [False] * (self.parallel - 1) + [True], claims
