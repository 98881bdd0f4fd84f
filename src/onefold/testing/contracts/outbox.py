"""The promises of `Transaction.publish` and of `Outbox`."""

from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.testing.contracts.stores import (
    NOON,
    Contract,
    RollBack,
    Stores,
    event,
    rolled_back,
)


class OutboxContract(Contract):
    """Events leave with the transaction that published them, once and in order."""

    async def _publish(self, stores: Stores, *events: Event) -> None:
        async with stores.uow.begin() as tx:
            await tx.publish(*events, now=NOON)

    async def test_an_event_is_there_after_the_commit(self) -> None:
        """What was published waits to be sent."""
        async with self.fresh() as stores:
            await self._publish(stores, event("a"))

            assert await stores.published() == [event("a").id]

    async def test_an_event_is_not_there_before_the_commit(self) -> None:
        """Nobody hears of what may still be undone."""
        async with self.fresh() as stores:
            with rolled_back():
                async with stores.uow.begin() as tx:
                    await tx.publish(event("a"), now=NOON)
                    raise RollBack

            assert await stores.published() == []

    async def test_the_same_id_twice_is_one_event(self) -> None:
        """A handler that runs again does not publish again, and the first content stands."""
        async with self.fresh() as stores:
            await self._publish(stores, event("a", data={"try": 1}), event("a", data={"try": 2}))
            await self._publish(stores, event("a", data={"try": 3}))

            assert [one.data for one in await stores.outbox.unsent(limit=10)] == [{"try": 1}]

    async def test_a_repeat_does_not_keep_new_events_back(self) -> None:
        """Events beside a repeated one are published."""
        async with self.fresh() as stores:
            await self._publish(stores, event("b"))
            await self._publish(stores, event("a"), event("b"), event("c"))

            assert await stores.published() == [event(name).id for name in "bac"]

    async def test_publishing_nothing_is_fine(self) -> None:
        """A handler without news need not ask."""
        async with self.fresh() as stores:
            await self._publish(stores)

            assert await stores.published() == []

    async def test_order_is_kept_within_a_transaction(self) -> None:
        """Events of one handler are told in the order in which it told them."""
        names = [f"{n * 7 % 50}" for n in range(50)]  # neither sorted nor reversed
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                await tx.publish(*map(event, names[:30]), now=NOON)
                await tx.publish(*map(event, names[30:]), now=NOON)

            assert await stores.published() == [event(name).id for name in names]

    async def test_order_is_kept_across_transactions(self) -> None:
        """What was committed before is sent before, whatever the clock said."""
        async with self.fresh() as stores:
            for hour, name in ((12, "c"), (11, "a"), (10, "b")):
                async with stores.uow.begin() as tx:
                    await tx.publish(event(name), now=NOON.replace(hour=hour))

            assert await stores.published() == [event(name).id for name in "cab"]

    async def test_the_limit_takes_the_oldest(self) -> None:
        """A relay that takes few takes those that waited longest."""
        async with self.fresh() as stores:
            await self._publish(stores, *map(event, "abc"))

            oldest = await stores.outbox.unsent(limit=2)

            assert [one.id for one in oldest] == [event("a").id, event("b").id]

    async def test_reading_changes_nothing(self) -> None:
        """A relay that dies after reading finds the same events again."""
        async with self.fresh() as stores:
            await self._publish(stores, *map(event, "ab"))

            assert await stores.published() == await stores.published()

    async def test_an_event_reads_back_as_it_was(self) -> None:
        """Every field survives, and the bytes that leave are the same at every attempt."""
        told = Event(
            id="Q29kZQ/ü-" + "x" * 503,
            type="t" * 512,
            version=2**31 - 1,
            source="s" * 512,
            key="k" * 511 + "ß",
            occurred_at=NOON.replace(microsecond=123_456),
            correlation_id="c" * 512,
            causation_id="d" * 512,
            data={
                "text": "nul \0, quote ' and \N{PARTY POPPER}",
                "deep": [1, 1.5, None, {"a": []}],
            },
            metadata={"trace": "00-1"},
            extra={"tenant": "a"},
        )
        async with self.fresh() as stores:
            await self._publish(stores, told)

            (read,) = await stores.outbox.unsent(limit=1)

            assert read == told, read
            assert encode_native(read) == encode_native(told)

    async def test_what_was_published_no_longer_changes(self) -> None:
        """Changing an object after publishing it does not change what leaves."""
        data = {"n": 1}
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                await tx.publish(event("a", data=data), now=NOON)
                data["n"] = 2

            (read,) = await stores.outbox.unsent(limit=1)

            assert read.data == {"n": 1}, read.data
