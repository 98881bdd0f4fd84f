"""The promises of `Transaction.schedule` and of `Deadlines`."""

from datetime import datetime, timedelta, timezone
from typing import Any

from onefold.errors import InvalidInput
from onefold.ports.deadlines import Deadline
from onefold.testing.contracts.stores import (
    NOON,
    Contract,
    RollBack,
    Stores,
    raises,
    rolled_back,
)

KIND = "contract"
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)


class DeadlinesContract(Contract):
    """A deadline is due at its instant, as it was armed last, and not before."""

    async def _arm(
        self, stores: Stores, key: str, due_at: datetime, kind: str = KIND, **payload: Any
    ) -> None:
        async with stores.uow.begin() as tx:
            await tx.schedule(kind, key, due_at=due_at, payload=payload)

    async def _due(self, stores: Stores, now: datetime, limit: int = 100) -> list[str]:
        return [one.key for one in await stores.deadlines.due(KIND, now=now, limit=limit)]

    async def test_a_deadline_is_due_at_its_instant_and_not_before(self) -> None:
        """Not a microsecond early."""
        at = NOON.replace(microsecond=654_321)
        async with self.fresh() as stores:
            await self._arm(stores, "a", at)

            assert await self._due(stores, at - MICROSECOND) == []
            assert await self._due(stores, at) == ["a"]

    async def test_a_deadline_reads_back_as_it_was_armed(self) -> None:
        """Who acts is told the kind, the key, the instant and the payload."""
        payload = {"n": 1, "list": [1.5, None, True], "text": "\N{PARTY POPPER}", "deep": {"a": {}}}
        at = NOON.replace(microsecond=1)
        async with self.fresh() as stores:
            await self._arm(stores, "k" * 200, at, kind="n" * 64, **payload)

            (read,) = await stores.deadlines.due("n" * 64, now=at, limit=1)

            assert (read.kind, read.key, read.due_at) == ("n" * 64, "k" * 200, at), read
            assert read.payload == payload, read

    async def test_an_instant_of_any_zone_is_the_same_instant(self) -> None:
        """A zone is spelling."""
        async with self.fresh() as stores:
            await self._arm(stores, "a", NOON.astimezone(timezone(timedelta(hours=-9))))

            assert await self._due(stores, NOON - MICROSECOND) == []
            assert await self._due(stores, NOON.astimezone(timezone(timedelta(hours=5)))) == ["a"]

    async def test_arming_again_moves_it_later(self) -> None:
        """A deadline put off is not due at its earlier instant, and due once."""
        async with self.fresh() as stores:
            await self._arm(stores, "a", NOON, n=1)
            await self._arm(stores, "a", NOON + SECOND, n=2)

            assert await self._due(stores, NOON) == []
            read = await stores.deadlines.due(KIND, now=NOON + SECOND, limit=10)
            assert [one.payload for one in read] == [{"n": 2}], read

    async def test_arming_again_moves_it_earlier(self) -> None:
        """A deadline brought forward is due at its new instant."""
        async with self.fresh() as stores:
            await self._arm(stores, "a", NOON + SECOND)
            await self._arm(stores, "a", NOON)

            assert await self._due(stores, NOON) == ["a"]

    async def test_arming_again_in_the_same_transaction_moves_it(self) -> None:
        """The last word counts."""
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                await tx.schedule(KIND, "a", due_at=NOON, payload={})
                await tx.schedule(KIND, "a", due_at=NOON + SECOND, payload={})

            assert await self._due(stores, NOON) == []

    async def test_a_move_rolled_back_leaves_it_where_it_was(self) -> None:
        """A handler that failed has put nothing off."""
        async with self.fresh() as stores:
            await self._arm(stores, "a", NOON)
            with rolled_back():
                async with stores.uow.begin() as tx:
                    await tx.schedule(KIND, "a", due_at=NOON + SECOND, payload={})
                    raise RollBack

            assert await self._due(stores, NOON) == ["a"]

    async def test_the_longest_due_comes_first(self) -> None:
        """In the order of their instants, and of their keys where those are equal."""
        async with self.fresh() as stores:
            for key, seconds in (("d", 1), ("a", 3), ("c", 2), ("b", 2)):
                await self._arm(stores, key, NOON + seconds * SECOND)

            assert await self._due(stores, NOON + 3 * SECOND) == ["d", "b", "c", "a"]

    async def test_the_limit_takes_the_longest_due(self) -> None:
        """Who takes few takes those that waited longest."""
        async with self.fresh() as stores:
            for seconds, key in enumerate("cab"):
                await self._arm(stores, key, NOON + seconds * SECOND)

            assert await self._due(stores, NOON + 9 * SECOND, limit=2) == ["c", "a"]

    async def test_kinds_are_apart(self) -> None:
        """The same key in two kinds is two deadlines."""
        async with self.fresh() as stores:
            await self._arm(stores, "a", NOON)
            await self._arm(stores, "a", NOON + SECOND, kind="other")

            assert await self._due(stores, NOON + SECOND) == ["a"]
            assert await self._due(stores, NOON) == ["a"]

    async def test_reading_changes_nothing(self) -> None:
        """Who dies after reading finds the same deadlines again."""
        async with self.fresh() as stores:
            await self._arm(stores, "a", NOON)

            assert await self._due(stores, NOON) == await self._due(stores, NOON) == ["a"]

    async def test_what_cannot_be_kept_is_refused(self) -> None:
        """A name empty or too long, or a naive instant, is refused and the transaction goes on."""
        wrong = (("", "a", NOON), ("k" * 65, "a", NOON), (KIND, "", NOON), (KIND, "a" * 201, NOON))
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                for kind, key, at in (*wrong, (KIND, "a", NOON.replace(tzinfo=None))):
                    with raises(InvalidInput):
                        await tx.schedule(kind, key, due_at=at, payload={})
                await tx.schedule(KIND, "a", due_at=NOON, payload={})

            assert await self._due(stores, NOON) == ["a"]

    async def test_many_are_armed_as_one_by_one(self) -> None:
        """Of several kinds, some there already; of a key that comes twice the last counts."""
        many = [
            Deadline(kind=kind, key=key, due_at=NOON + late * SECOND, payload={"n": late})
            for kind, key, late in (
                (KIND, "b", 5),
                (KIND, "a", 2),
                ("other", "a", 1),
                (KIND, "b", 1),
            )
        ]
        async with self.fresh() as stores:
            await self._arm(stores, "a", NOON)
            async with stores.uow.begin() as tx:
                await tx.schedule_many([])
                await tx.schedule_many(many)

            assert await self._due(stores, NOON) == []
            due = await stores.deadlines.due(KIND, now=NOON + 2 * SECOND, limit=9)
            assert {one.key: one.payload for one in due} == {"b": {"n": 1}, "a": {"n": 2}}
            (other,) = await stores.deadlines.due("other", now=NOON + SECOND, limit=9)
            assert (other.kind, other.key, other.payload) == ("other", "a", {"n": 1})

    async def test_many_are_armed_or_none(self) -> None:
        """One that cannot be kept refuses all of the call, and the transaction goes on."""
        good = Deadline(kind=KIND, key="a", due_at=NOON, payload={})
        wrong = Deadline(kind=KIND, key="", due_at=NOON, payload={})
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                with raises(InvalidInput):
                    await tx.schedule_many([good, wrong])
                await tx.schedule(KIND, "b", due_at=NOON, payload={})

            assert await self._due(stores, NOON) == ["b"]
