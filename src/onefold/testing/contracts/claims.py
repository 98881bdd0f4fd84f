"""The promises of `Deadlines` to those who act on what is due."""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

from onefold.ports.deadlines import Deadline, Deadlines
from onefold.testing.contracts.stores import NOON, together

KIND = "claimed"
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
LEASE = timedelta(seconds=30)


def one(key: str, at: datetime = NOON, kind: str = KIND, **payload: Any) -> Deadline:
    """A deadline to arm."""
    return Deadline(kind=kind, key=key, due_at=at, payload=payload)


def keys(found: Any) -> list[str]:
    """Their keys."""
    return [deadline.key for deadline in found]


class ClaimsContract:
    """What is due is given to one, for as long as its lease lasts, and never lost."""

    __test__ = False  # subclasses that name their adapter are collected

    def fresh(self) -> AbstractAsyncContextManager[Deadlines]:
        """Deadlines that nobody else uses, empty; let go of at the end."""
        raise NotImplementedError

    async def test_what_is_due_is_claimed_and_no_more(self) -> None:
        """At its instant and not before, the longest due first, within the limit."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("b", NOON), one("c", NOON + SECOND), one("a", NOON - SECOND)])

            first = await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=1)
            rest = await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9)

            assert (keys(first), keys(rest)) == (["a"], ["b"])

    async def test_a_claim_reads_back_as_it_was_armed(self) -> None:
        """Who acts is told when it was due, and the payload."""
        at = NOON.replace(microsecond=123_457)
        payload: dict[str, Any] = {"n": 1, "deep": {"a": [None, "\N{PARTY POPPER}"]}}
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a", at, **payload)])

            (read,) = await deadlines.claim(KIND, now=at, lease=LEASE, limit=9)

            assert (read.kind, read.key, read.due_at, read.payload) == (KIND, "a", at, payload)

    async def test_of_many_claimants_each_deadline_goes_to_one(self) -> None:
        """However many claim at once."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one(f"k{n:02}") for n in range(20)])

            def claim() -> Callable[[], Coroutine[Any, Any, Any]]:
                return lambda: deadlines.claim(KIND, now=NOON, lease=LEASE, limit=7)

            taken = [key for found in await together(*(claim() for _ in range(5))) for key in found]
            taken += await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=20)

            assert sorted(keys(taken)) == [f"k{n:02}" for n in range(20)]

    async def test_what_is_leased_is_not_due_until_the_lease_ends(self) -> None:
        """Neither to claim nor to read."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a")])
            await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9)
            almost = NOON + LEASE - MICROSECOND

            assert await deadlines.claim(KIND, now=almost, lease=LEASE, limit=9) == []
            assert await deadlines.due(KIND, now=almost, limit=9) == []
            assert keys(await deadlines.due(KIND, now=NOON + LEASE, limit=9)) == ["a"]

    async def test_a_lease_that_ended_is_claimed_again_under_a_higher_fence(self) -> None:
        """Its holder may have died."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a")])
            (first,) = await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9)

            (second,) = await deadlines.claim(KIND, now=NOON + LEASE, lease=LEASE, limit=9)

            assert second.fence > first.fence
            assert await deadlines.complete([first]) == [False]
            assert await deadlines.postpone([(first, NOON)]) == [False]
            assert await deadlines.complete([second]) == [True]

    async def test_of_two_claims_of_one_key_the_later_holds(self) -> None:
        """Also where both are settled by one call."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a"), one("b")])
            first = {d.key: d for d in await self._claim(deadlines, NOON)}
            second = {d.key: d for d in await self._claim(deadlines, NOON + LEASE)}

            claims = [first["a"], second["a"]]
            assert await deadlines.complete(claims) == [False, True]
            late = [(second["b"], NOON), (first["b"], NOON)]
            assert await deadlines.postpone(late) == [True, False]

    async def _claim(self, deadlines: Deadlines, now: datetime) -> Sequence[Deadline]:
        return await deadlines.claim(KIND, now=now, lease=LEASE, limit=9)

    async def test_what_is_completed_is_gone(self) -> None:
        """For good: its lease's end brings it not back, nor does completing it again."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a"), one("b")])
            a, b = await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9)

            assert await deadlines.complete([a]) == [True]
            assert await deadlines.complete([a, b]) == [False, True]
            assert await deadlines.claim(KIND, now=NOON + 2 * LEASE, lease=LEASE, limit=9) == []

    async def test_what_is_postponed_is_due_at_its_new_instant(self) -> None:
        """And the claim is over."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a", n=1)])
            claimed = await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9)

            assert await deadlines.postpone([(claimed[0], NOON + SECOND)]) == [True]
            assert await deadlines.complete(claimed) == [False]
            assert await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9) == []
            later = await deadlines.claim(KIND, now=NOON + SECOND, lease=LEASE, limit=9)
            assert [(d.key, d.payload) for d in later] == [("a", {"n": 1})]

    async def test_what_is_looked_for_again_and_again_stays_as_it_was_armed(self) -> None:
        """A wait of days is hundreds of looks: none wears it out, each has its own fence."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a", n=1)])
            at, given_up = NOON, list[Deadline]()
            for _ in range(20):
                assert await self._claim(deadlines, at - MICROSECOND) == []
                found = await self._claim(deadlines, at)
                looks = [(look.key, look.due_at, look.payload) for look in found]
                assert looks == [("a", at, {"n": 1})], f"{len(given_up)} looks, then {found}"
                given_up += found
                assert await deadlines.complete(given_up[-2:-1]) == [False] * len(given_up[-2:-1])
                at += SECOND
                assert await deadlines.postpone([(given_up[-1], at)]) == [True]

            fences = [look.fence for look in given_up]
            assert fences == sorted(set(fences)), fences
            assert dict(await deadlines.next_due([KIND])) == {KIND: at}

    async def test_arming_again_ends_a_lease(self) -> None:
        """Who armed it knows more than who holds it; the holder learns it."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a", n=1)])
            claimed = await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9)

            await deadlines.arm([one("a", n=2)])

            assert await deadlines.complete(claimed) == [False]
            again = await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9)
            assert [d.payload for d in again] == [{"n": 2}]

    async def test_a_key_armed_again_after_its_end_does_not_fit_an_old_fence(self) -> None:
        """A claim of its earlier life cannot end the new one."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a")])
            (old,) = await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9)
            (new,) = await deadlines.claim(KIND, now=NOON + LEASE, lease=LEASE, limit=9)
            await deadlines.complete([new])
            await deadlines.arm([one("a")])
            await deadlines.claim(KIND, now=NOON + 2 * LEASE, lease=LEASE, limit=9)

            assert await deadlines.complete([old, new]) == [False, False]

    async def test_next_due_is_the_first_of_each_kind(self) -> None:
        """Leases' ends included, kinds without any left out."""
        async with self.fresh() as deadlines:
            await deadlines.arm([one("a"), one("b", NOON + SECOND), one("c", NOON, kind="other")])

            async def next_due() -> Any:
                return dict(await deadlines.next_due([KIND, "other", "none"]))

            assert await next_due() == {KIND: NOON, "other": NOON}
            await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9)
            assert await next_due() == {KIND: NOON + SECOND, "other": NOON}
            await deadlines.claim(KIND, now=NOON + SECOND, lease=LEASE, limit=9)
            assert await next_due() == {KIND: NOON + LEASE, "other": NOON}
            assert await deadlines.next_due([]) == {}

    async def test_nothing_is_nothing(self) -> None:
        """Empty calls do nothing."""
        async with self.fresh() as deadlines:
            await deadlines.arm([])

            assert await deadlines.complete([]) == []
            assert await deadlines.postpone([]) == []
            assert await deadlines.claim(KIND, now=NOON, lease=LEASE, limit=9) == []
