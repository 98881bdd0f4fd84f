"""The promises of `UnitOfWork`: all or nothing, one after the other where it matters."""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import Column, Integer, MetaData, Table, select

from onefold.errors import (
    ConstraintViolated,
    IllegalTransition,
    InvalidInput,
    StoreUnavailable,
    Unsupported,
)
from onefold.ports.unit_of_work import Transaction, in_transaction
from onefold.testing.contracts.stores import (
    ALL,
    NOON,
    NOTHING,
    Contract,
    RollBack,
    apart,
    event,
    raises,
    rolled_back,
    together,
    turn,
)

_TABLE = Table("contract_refused", MetaData(), Column("id", Integer, primary_key=True))


class UnitOfWorkContract(Contract):
    """The domain's rows, the inbox, the outbox and the deadlines change together or not."""

    writers = 20  # tasks that write at the same time

    async def test_a_commit_shows_everything(self) -> None:
        """After the block all four are there."""
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                await stores.do_all(tx)

            assert await stores.seen() == ALL, await stores.seen()

    async def test_nothing_is_seen_before_the_commit(self) -> None:
        """Nobody sees the half of a transaction."""
        async with self.fresh() as stores:

            async def look() -> tuple[int, list[str], list[str]]:
                return await stores.effect("one"), await stores.published(), await stores.armed()

            async with stores.uow.begin() as tx:
                await stores.do_all(tx)
                seen = await apart(look)

            assert seen == (0, [], []), seen

    async def test_a_transaction_sees_what_it_wrote(self) -> None:
        """A handler reads its own effect."""
        async with self.fresh() as stores, stores.uow.begin() as tx:
            await stores.effects.add(tx, "effect", by=2)

            assert await stores.effects.read(tx, "effect") == 2

    async def test_an_exception_rolls_everything_back(self) -> None:
        """A handler that fails has done nothing."""
        async with self.fresh() as stores:
            with rolled_back():
                async with stores.uow.begin() as tx:
                    await stores.do_all(tx)
                    raise RollBack

            assert await stores.seen() == NOTHING, await stores.seen()

    async def test_an_exception_passes_unchanged(self) -> None:
        """What a handler raises is what its caller gets."""
        mine = RollBack()
        caught: BaseException | None = None
        async with self.fresh() as stores:
            try:
                async with stores.uow.begin():
                    raise mine
            except RollBack as error:
                caught = error

        assert caught is mine, caught

    async def test_a_cancellation_in_the_middle_rolls_everything_back(self) -> None:
        """A handler that is stopped has done nothing, and the store goes on."""
        async with self.fresh() as stores:
            done = asyncio.Event()

            async def work() -> None:
                async with stores.uow.begin() as tx:
                    await stores.do_all(tx)
                    done.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(work())
            await done.wait()
            task.cancel()
            with raises(asyncio.CancelledError):
                await task

            assert await stores.seen() == NOTHING, await stores.seen()

    async def test_one_transaction_after_another_adds_up(self) -> None:
        """What is committed stays, whatever is rolled back after it."""
        async with self.fresh() as stores:
            for name in ("one", "two"):
                async with stores.uow.begin() as tx:
                    await stores.do_all(tx, name)
            with rolled_back():
                async with stores.uow.begin() as tx:
                    await stores.do_all(tx, "three")
                    raise RollBack

            seen = [await stores.seen(name) for name in ("one", "two", "three")]
            assert seen == [ALL, ALL, NOTHING], seen

    async def test_concurrent_writers_lose_nothing(self) -> None:
        """As many effects as there were writers."""
        async with self.fresh() as stores:

            async def add(tx: Transaction) -> None:
                await turn()  # where the others begin too, if they do not wait
                await stores.effects.add(tx, "effect")
                await turn()

            async def write() -> None:
                await in_transaction(stores.uow, add)

            await together(*[write] * self.writers)

            assert await stores.effect() == self.writers

    async def test_reading_sees_one_consistent_state(self) -> None:
        """Two looks in one reading transaction agree, whatever is committed between them."""
        async with self.fresh() as stores:

            async def write() -> None:
                async with stores.uow.begin() as tx:
                    for name in ("a", "b"):
                        await stores.effects.add(tx, name)

            await write()
            async with stores.uow.read() as tx:
                a = await stores.effects.read(tx, "a")
                await apart(write)
                b = await stores.effects.read(tx, "b")

            assert (a, b) == (1, 1), (a, b)
            assert (await stores.effect("a"), await stores.effect("b")) == (2, 2)

    async def test_reading_refuses_to_write(self) -> None:
        """A reading transaction claims, publishes and arms nothing, and goes on."""
        async with self.fresh() as stores:
            async with stores.uow.read() as tx:
                for write in _writes(tx):
                    with raises(IllegalTransition):
                        await write()
                assert await stores.effects.read(tx, "one") == 0

            assert await stores.seen() == NOTHING, await stores.seen()

    async def test_a_transaction_is_over_after_its_block(self) -> None:
        """Whoever kept it cannot write into what is committed."""
        async with self.fresh() as stores:
            async with stores.uow.begin() as kept:
                pass

            for write in _writes(kept):
                with raises(IllegalTransition):
                    await write()

    async def test_a_transaction_rolled_back_is_over_too(self) -> None:
        """Whoever kept it cannot write after the rollback."""
        async with self.fresh() as stores:
            with rolled_back():
                async with stores.uow.begin() as kept:
                    raise RollBack

            for write in _writes(kept):
                with raises(IllegalTransition):
                    await write()

    async def test_a_failed_call_cannot_be_swallowed(self) -> None:
        """A transaction in which something failed is not committed by looking away."""
        async with self.fresh() as stores:
            with raises(IllegalTransition):
                async with stores.uow.begin() as tx:
                    await stores.do_all(tx)
                    with raises(ConstraintViolated):
                        await tx.schedule("contract", "x", due_at=NOON, payload={"no": object()})
                    with raises(IllegalTransition):
                        await stores.effects.add(tx, "one")

            assert await stores.seen() == NOTHING, await stores.seen()

    async def test_a_refused_call_changes_nothing(self) -> None:
        """Wrong arguments are told before anything is done: the transaction goes on."""
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                await stores.do_all(tx)
                with raises(InvalidInput):
                    await tx.claim("", "x", now=NOON)

            assert await stores.seen() == ALL, await stores.seen()

    async def test_a_task_has_one_transaction_at_a_time(self) -> None:
        """A second one is refused at once, before it waits for the first; the first goes on."""
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                await stores.effects.add(tx, "effect")
                for another in (stores.uow.begin, stores.uow.read):
                    with raises(IllegalTransition):
                        async with another():
                            pass
                await stores.effects.add(tx, "effect")
            async with stores.uow.read():
                with raises(IllegalTransition):
                    async with stores.uow.begin():
                        pass

            assert await stores.effect() == 2

    async def test_closing_twice_is_once(self) -> None:
        """Letting go is safe twice, and nothing begins after it."""
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                await stores.do_all(tx)

            await stores.uow.aclose()
            await stores.uow.aclose()

            for begin in (stores.uow.begin, stores.uow.read):
                with raises(IllegalTransition):
                    async with begin():
                        pass

    async def test_closing_before_use_is_fine(self) -> None:
        """What was never opened can be let go of."""
        async with self.fresh() as stores:
            await stores.uow.aclose()

    async def test_closing_stops_open_transactions(self) -> None:
        """A transaction that is open at the end of the process is told, and not committed."""
        async with self.fresh() as stores:
            under_way, closed = asyncio.Event(), asyncio.Event()

            async def work() -> None:
                async with stores.uow.begin() as tx:
                    await stores.do_all(tx)
                    under_way.set()
                    await closed.wait()

            task = asyncio.create_task(work())
            await under_way.wait()
            await stores.uow.aclose()
            closed.set()

            with raises(StoreUnavailable):
                await task

    async def test_what_the_adapter_cannot_do_is_told(self) -> None:
        """Without SQL, statements are refused by name; the features are those of the adapter."""
        async with self.fresh() as stores, stores.uow.begin() as tx:
            assert tx.features == stores.uow.features
            if not tx.features.sql:
                with raises(Unsupported):
                    await tx.execute(select(_TABLE))
                with raises(Unsupported):
                    await tx.insert_new(_TABLE, [{"id": 1}])


def _writes(tx: Transaction) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: tx.claim("contract", "one", now=NOON),
        lambda: tx.publish(event("one"), now=NOON),
        lambda: tx.schedule("contract", "one", due_at=NOON, payload={}),
    ]
