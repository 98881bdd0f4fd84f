"""The promises of `Transaction.publish` and of `Outbox`."""

from datetime import datetime, timedelta

from msgspec.structs import replace

from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.ports.outbox import SendFailure, Shipment
from onefold.testing.contracts.stores import (
    NOON,
    Contract,
    RollBack,
    Stores,
    event,
    rolled_back,
    together,
)

LEASE = timedelta(seconds=30)
INSTANT = timedelta(microseconds=1)


def keyed(name: str, key: str) -> Event:
    """An event of that key."""
    return replace(event(name), key=key)


async def lease(
    stores: Stores, now: datetime = NOON, *, owner: str = "relay", limit: int = 100
) -> Shipment | None:
    """Lease a shard, if there is one to be sent."""
    return await stores.outbox.lease(owner, now=now, lease=LEASE, limit=limit)


async def leased(stores: Stores, now: datetime = NOON, *, limit: int = 100) -> list[Shipment]:
    """Lease every shard that can be leased now."""
    shipments = []
    while (shipment := await lease(stores, now, limit=limit)) is not None:
        shipments.append(shipment)
        assert len(shipments) < 100, "shards that are in hand are leased again"
    return shipments


def named(*shipments: Shipment | None) -> list[str]:
    """The ids in these shipments, in their order."""
    return [one.event.id for s in shipments if s is not None for one in s.waiting]


async def marked(
    stores: Stores,
    shipment: Shipment,
    *,
    now: datetime = NOON,
    failed: timedelta | None = None,
    dead: bool = False,
) -> bool:
    """Mark all of a shipment: as sent; or as failed, to be tried after that; or as dead."""
    positions = [one.position for one in shipment.waiting]
    if failed is None and not dead:
        return await stores.outbox.mark(shipment, sent=positions, failed=[], now=now)
    again = None if failed is None else now + failed
    failures = [SendFailure(position, "refused", again) for position in positions]
    return await stores.outbox.mark(shipment, sent=[], failed=failures, now=now)


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

    # -- shipments -------------------------------------------------------------------------

    async def test_shipments_hold_everything_once_in_the_order_of_keys(self) -> None:
        """Of one shard each; two events of one key never go different ways."""
        events = [keyed(f"{n}", f"key {n % 7}") for n in range(40)]
        async with self.fresh() as stores:
            await self._publish(stores, *events)

            shipments = await leased(stores)

            ids = named(*shipments)
            assert sorted(ids) == sorted(one.id for one in events)
            assert len({shipment.shard for shipment in shipments}) == len(shipments)
            for key in range(7):
                wanted = [one.id for one in events if one.key == f"key {key}"]
                assert [id_ for id_ in ids if id_ in wanted] == wanted
            shards = {one.event.key: s.shard for s in shipments for one in s.waiting}
            assert all(shards[w.event.key] == s.shard for s in shipments for w in s.waiting)

    async def test_nothing_to_send_is_no_shipment(self) -> None:
        """Neither of an empty outbox, nor when all was sent."""
        async with self.fresh() as stores:
            assert await lease(stores) is None
            await self._publish(stores, keyed("a", "k"))
            (shipment,) = await leased(stores)

            assert await marked(stores, shipment)

            assert await leased(stores, NOON + LEASE) == []
            assert await stores.published() == []

    async def test_a_shard_in_hand_is_left_alone_until_its_lease_ends(self) -> None:
        """A relay that died is replaced; a live one never has company."""
        async with self.fresh() as stores:
            await self._publish(stores, keyed("a", "k"), keyed("b", "k"))
            first = await lease(stores)

            early = await lease(stores, NOON + LEASE - INSTANT, owner="other")
            later = await lease(stores, NOON + LEASE, owner="other")

            assert first is not None
            assert later is not None
            assert early is None
            assert named(later) == named(first)
            assert later.fence > first.fence

    async def test_a_lease_that_was_lost_marks_nothing(self) -> None:
        """A slow relay learns it; what it sent is sent again, under the same ids."""
        async with self.fresh() as stores:
            await self._publish(stores, keyed("a", "k"))
            slow = await lease(stores)
            fast = await lease(stores, NOON + LEASE, owner="other")
            assert slow is not None
            assert fast is not None

            assert not await marked(stores, slow, now=NOON + LEASE)

            assert await stores.published() == [event("a").id]
            assert await lease(stores, NOON + LEASE) is None  # still in the other's hands
            assert await marked(stores, fast, now=NOON + LEASE)
            assert await stores.published() == []

    async def test_marking_gives_the_shard_back(self) -> None:
        """What was published meanwhile need not wait for the end of the lease."""
        async with self.fresh() as stores:
            await self._publish(stores, keyed("a", "k"))
            (shipment,) = await leased(stores)
            await self._publish(stores, keyed("b", "k"))

            await marked(stores, shipment)

            assert named(await lease(stores)) == [event("b").id]

    async def test_a_failed_event_waits_and_holds_up_its_key(self) -> None:
        """Until its next attempt, which knows of the ones before; in the order of the key."""
        pause = timedelta(seconds=5)
        async with self.fresh() as stores:
            await self._publish(stores, keyed("a", "k"))
            (shipment,) = await leased(stores)
            await marked(stores, shipment, failed=pause)
            await self._publish(stores, keyed("b", "k"), *(keyed(f"{n}", f"{n}") for n in range(9)))

            meanwhile = await leased(stores, NOON + pause - INSTANT)
            for one in meanwhile:
                await marked(stores, one, now=NOON + pause - INSTANT)
            then = await leased(stores, NOON + pause)

            assert sorted(named(*meanwhile)) == sorted(event(f"{n}").id for n in range(9))
            assert named(*then) == [event("a").id, event("b").id]
            assert [one.attempts for s in then for one in s.waiting] == [1, 0]

    async def test_a_dead_event_holds_up_its_key_alone(self) -> None:
        """Kept, and never sent by itself again, however late it is."""
        later = NOON + timedelta(days=400)
        async with self.fresh() as stores:
            await self._publish(stores, keyed("a", "k"))
            (shipment,) = await leased(stores)
            await marked(stores, shipment, dead=True)
            await self._publish(stores, keyed("b", "k"), keyed("c", "other"))

            assert named(*await leased(stores, later)) == [event("c").id]
            assert event("a").id in await stores.published()

    async def test_a_lease_takes_at_most_its_limit_the_oldest_first(self) -> None:
        """A relay that takes few takes those that waited longest."""
        async with self.fresh() as stores:
            await self._publish(stores, *(keyed(name, "k") for name in "abcd"))

            first = await lease(stores, limit=3)
            assert first is not None
            await marked(stores, first)

            assert named(first) == [event(name).id for name in "abc"]
            assert named(await lease(stores)) == [event("d").id]

    async def test_relays_at_once_share_out_the_shards(self) -> None:
        """However many ask at the same time, each shard goes to one of them."""
        events = [keyed(f"{n}", f"key {n}") for n in range(12)]
        async with self.fresh() as stores:
            await self._publish(stores, *events)

            shipments = await together(
                *(lambda n=n: lease(stores, owner=f"relay {n}") for n in range(6))
            )

            taken = [shipment.shard for shipment in shipments if shipment is not None]
            assert taken
            assert len(set(taken)) == len(taken), taken
            assert len(set(named(*shipments))) == len(named(*shipments))
