"""The promises of `ports.guard.Guard`, for every adapter and for yours."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

from onefold.ports.guard import Busy, Claim, ClaimKey, Confirmation, Done, Guard, Lease, Verdict

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)
KEEP = timedelta(days=14)
INSTANT = timedelta(microseconds=1)

CONTENT = sha256(b"content").digest()
OTHER_CONTENT = sha256(b"other content").digest()

_owners = count(1)


def claim_of(
    event_id: str, *, consumer: str = "grades", source: str = "", fingerprint: bytes = CONTENT
) -> Claim:
    """A claim on that event."""
    return Claim(ClaimKey(consumer, source, event_id), fingerprint)


async def claim_all(
    guard: Guard, claims: Sequence[Claim], *, owner: str = "", now: datetime = NOW
) -> Sequence[Verdict]:
    """Claim for LEASE, as a new owner unless one is named."""
    owner = owner or f"worker {next(_owners)}"
    return await guard.claim(claims, owner=owner, now=now, lease=LEASE)


async def claim_one(guard: Guard, claim: Claim, *, owner: str = "", now: datetime = NOW) -> Verdict:
    """Claim one event for LEASE, as a new owner unless one is named."""
    (verdict,) = await claim_all(guard, [claim], owner=owner, now=now)
    return verdict


async def lease_one(guard: Guard, claim: Claim, *, owner: str = "", now: datetime = NOW) -> Lease:
    """Claim one event that is free."""
    verdict = await claim_one(guard, claim, owner=owner, now=now)
    assert isinstance(verdict, Lease), verdict
    return verdict


async def confirm_one(
    guard: Guard, lease: Lease, *, result: bytes | None = None, now: datetime = NOW
) -> bool:
    """Confirm one lease."""
    (answer,) = await guard.confirm([Confirmation(lease, result)], now=now, keep=KEEP)
    return answer


async def release_one(guard: Guard, lease: Lease, *, now: datetime = NOW) -> bool:
    """Give one lease back."""
    (answer,) = await guard.release([lease], now=now)
    return answer


async def renew_one(guard: Guard, lease: Lease, *, now: datetime = NOW) -> Lease | None:
    """Prolong one lease by LEASE."""
    (answer,) = await guard.renew([lease], now=now, lease=LEASE)
    return answer


def kind_of(verdict: Verdict) -> type[Verdict]:
    """Which of the three it is; an adapter may give classes derived from them."""
    return next(kind for kind in (Lease, Busy, Done) if isinstance(verdict, kind))


class GuardContract:
    """
    Subclass, return a fresh guard, and pytest does the rest.

    Every case gets a guard that has seen nothing; all instants are made up, so a store
    whose own clock had a say would fail here.
    """

    __test__ = False  # only subclasses are collected

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__test__ = True

    def fresh(self) -> AbstractAsyncContextManager[Guard]:
        """A guard that knows no claim."""
        raise NotImplementedError

    # -- one worker ------------------------------------------------------------------------

    async def test_the_first_claim_gets_the_lease(self) -> None:
        """A new event may be applied at once, until the lease ends."""
        async with self.fresh() as guard:
            verdict = await claim_one(guard, claim_of("e1"))

        assert isinstance(verdict, Lease)
        assert verdict.key == ClaimKey("grades", "", "e1")
        assert verdict.until == NOW + LEASE
        assert verdict.attempt == 1
        assert verdict.fingerprint == CONTENT

    async def test_a_leased_event_is_busy_and_not_done(self) -> None:
        """Another claimant learns until when it must wait; it is never told "done" (B4)."""
        async with self.fresh() as guard:
            held = await lease_one(guard, claim_of("e1"))

            verdict = await claim_one(guard, claim_of("e1"), now=NOW + LEASE - INSTANT)

        assert verdict == Busy(key=held.key, until=held.until)

    async def test_a_confirmed_event_is_done(self) -> None:
        """A redelivered event is a repeat, with the instant at which it was applied."""
        applied_at = NOW + timedelta(seconds=3)
        async with self.fresh() as guard:
            held = await lease_one(guard, claim_of("e1"))
            confirmed = await confirm_one(guard, held, now=applied_at)

            verdict = await claim_one(guard, claim_of("e1"), now=NOW + 2 * LEASE)

        assert confirmed is True
        assert verdict == Done(
            key=held.key, completed_at=applied_at, same_content=True, result=None
        )

    async def test_a_stored_result_is_given_to_repeats(self) -> None:
        """Any bytes can be kept with the record, also none at all and those of no text."""
        async with self.fresh() as guard:
            for n, result in enumerate((b"", b"\x00\xff \r\n|", b"x" * 100_000)):
                held = await lease_one(guard, claim_of(f"e{n}"))
                await confirm_one(guard, held, result=result)

                verdict = await claim_one(guard, claim_of(f"e{n}"))

                assert isinstance(verdict, Done)
                assert verdict.result == result

    async def test_other_content_under_a_done_id_is_told(self) -> None:
        """The fingerprint outlives the completion: a conflict is seen, a repeat is none."""
        async with self.fresh() as guard:
            await confirm_one(guard, await lease_one(guard, claim_of("e1")))

            repeat = await claim_one(guard, claim_of("e1"))
            conflict = await claim_one(guard, claim_of("e1", fingerprint=OTHER_CONTENT))

        assert isinstance(repeat, Done)
        assert repeat.same_content
        assert isinstance(conflict, Done)
        assert not conflict.same_content

    async def test_a_released_event_is_free_at_once(self) -> None:
        """A failure gives the claim back; the next attempt has the next fence and number."""
        async with self.fresh() as guard:
            first = await lease_one(guard, claim_of("e1"))
            released = await release_one(guard, first)

            second = await lease_one(guard, claim_of("e1"))

        assert released is True
        assert second.attempt == 2
        assert second.fence > first.fence

    async def test_attempts_survive_deaths_and_releases(self) -> None:
        """An event that kills its worker is counted, however the leases ended."""
        now = NOW
        async with self.fresh() as guard:
            attempts = []
            for n in range(6):
                held = await lease_one(guard, claim_of("e1"), now=now)
                attempts.append(held.attempt)
                if n % 2:
                    await release_one(guard, held, now=now)
                else:  # died: the lease runs out
                    now += LEASE

        assert attempts == [1, 2, 3, 4, 5, 6]

    async def test_the_content_of_a_released_event_may_differ(self) -> None:
        """Nothing was applied, so nothing conflicts; the last content claimed is kept."""
        async with self.fresh() as guard:
            await release_one(guard, await lease_one(guard, claim_of("e1")))
            changed = claim_of("e1", fingerprint=OTHER_CONTENT)
            held = await lease_one(guard, changed)
            await confirm_one(guard, held)

            verdict = await claim_one(guard, changed)

        assert held.fingerprint == OTHER_CONTENT
        assert isinstance(verdict, Done)
        assert verdict.same_content

    async def test_the_same_owner_gets_the_same_lease_back(self) -> None:
        """A claim whose reply was lost is asked again, and is the claimant's (B14)."""
        async with self.fresh() as guard:
            lost = await lease_one(guard, claim_of("e1"), owner="me")

            again = await claim_one(
                guard, claim_of("e1"), owner="me", now=NOW + timedelta(seconds=1)
            )

        assert again == lost

    async def test_the_same_owner_learns_that_it_confirmed(self) -> None:
        """Claiming again after a confirmation reads the completion back."""
        async with self.fresh() as guard:
            held = await lease_one(guard, claim_of("e1"), owner="me")
            await confirm_one(guard, held)

            verdict = await claim_one(guard, claim_of("e1"), owner="me")

        assert isinstance(verdict, Done)

    async def test_renewing_moves_the_end(self) -> None:
        """A slow handler keeps its lease; others are told the new end."""
        later = NOW + timedelta(seconds=20)
        async with self.fresh() as guard:
            held = await lease_one(guard, claim_of("e1"))

            prolonged = await renew_one(guard, held, now=later)
            verdict = await claim_one(guard, claim_of("e1"), now=NOW + LEASE)

        assert prolonged is not None
        assert prolonged.until == later + LEASE
        assert prolonged.fence == held.fence
        assert verdict == Busy(key=held.key, until=later + LEASE)

    async def test_confirming_twice_changes_nothing(self) -> None:
        """A confirmation whose reply was lost is asked again: True, and the first one stands."""
        async with self.fresh() as guard:
            held = await lease_one(guard, claim_of("e1"))
            first = await confirm_one(guard, held, result=b"1")

            second = await confirm_one(guard, held, result=b"2", now=NOW + LEASE)
            verdict = await claim_one(guard, claim_of("e1"))

        assert (first, second) == (True, True)
        assert verdict == Done(key=held.key, completed_at=NOW, same_content=True, result=b"1")

    async def test_releasing_twice_changes_nothing(self) -> None:
        """A release whose reply was lost is asked again."""
        async with self.fresh() as guard:
            held = await lease_one(guard, claim_of("e1"))

            answers = [await release_one(guard, held), await release_one(guard, held)]

        assert answers == [True, True]

    async def test_a_released_lease_can_do_nothing_more(self) -> None:
        """After giving it back, neither confirming nor renewing works."""
        async with self.fresh() as guard:
            held = await lease_one(guard, claim_of("e1"))
            await release_one(guard, held)

            confirmed = await confirm_one(guard, held)
            prolonged = await renew_one(guard, held)
            verdict = await claim_one(guard, claim_of("e1"))

        assert confirmed is False
        assert prolonged is None
        assert isinstance(verdict, Lease)

    async def test_completed_is_final(self) -> None:
        """Its own late failure does not make a completed event run again (B3)."""
        async with self.fresh() as guard:
            held = await lease_one(guard, claim_of("e1"))
            await confirm_one(guard, held)

            released = await release_one(guard, held)
            prolonged = await renew_one(guard, held)
            verdict = await claim_one(guard, claim_of("e1"), now=NOW + 2 * LEASE)

        assert released is False
        assert prolonged is None
        assert isinstance(verdict, Done)

    async def test_what_was_never_claimed_cannot_be_confirmed(self) -> None:
        """A lease of a key that the store does not know is lost."""
        unknown = Lease(
            key=ClaimKey("grades", "", "e1"), fence=1, until=NOW, attempt=1, fingerprint=CONTENT
        )
        async with self.fresh() as guard:
            assert await confirm_one(guard, unknown) is False
            assert await release_one(guard, unknown) is False
            assert await renew_one(guard, unknown) is None

            assert isinstance(await claim_one(guard, claim_of("e1")), Lease)

    # -- leases that end -------------------------------------------------------------------

    async def test_an_expired_lease_is_taken_over_at_once(self) -> None:
        """Not an instant before its end, and at the very instant of it."""
        async with self.fresh() as guard:
            first = await lease_one(guard, claim_of("e1"))

            before = await claim_one(guard, claim_of("e1"), now=first.until - INSTANT)
            second = await claim_one(guard, claim_of("e1"), now=first.until)

        assert isinstance(before, Busy)
        assert isinstance(second, Lease)
        assert second.fence > first.fence
        assert second.attempt == 2
        assert second.until == first.until + LEASE

    async def test_an_expired_lease_that_nobody_took_is_still_good(self) -> None:
        """No other worker has begun, so the slow one may finish."""
        late = NOW + 10 * LEASE
        async with self.fresh() as guard:
            slow = await lease_one(guard, claim_of("e1"))
            renewed = await renew_one(guard, slow, now=late)
            late += 10 * LEASE
            confirmed = await confirm_one(guard, slow, now=late)
            other = await lease_one(guard, claim_of("e2"))

            released = await release_one(guard, other, now=late)

        assert renewed is not None
        assert confirmed is True
        assert released is True

    async def test_a_clock_that_runs_ahead_takes_over_and_fences_the_first(self) -> None:
        """Two workers hold one event then; only the later one can confirm."""
        async with self.fresh() as guard:
            first = await lease_one(guard, claim_of("e1"))
            ahead = await lease_one(guard, claim_of("e1"), owner="ahead", now=first.until)

            refused = await confirm_one(guard, first, now=NOW)
            recorded = await confirm_one(guard, ahead, now=first.until)

        assert ahead.fence > first.fence
        assert (refused, recorded) == (False, True)

    async def test_a_zombie_changes_nothing_while_the_claim_is_held(self) -> None:
        """A worker whose lease was taken can neither confirm, release nor renew (B10)."""
        async with self.fresh() as guard:
            zombie = await lease_one(guard, claim_of("e1"))
            holder = await lease_one(guard, claim_of("e1"), now=zombie.until)
            now = zombie.until + INSTANT

            assert await confirm_one(guard, zombie, now=now) is False
            assert await release_one(guard, zombie, now=now) is False
            assert await renew_one(guard, zombie, now=now) is None

            verdict = await claim_one(guard, claim_of("e1"), now=now)
            assert verdict == Busy(key=holder.key, until=holder.until)
            assert await confirm_one(guard, holder, now=now) is True

    async def test_a_zombie_changes_nothing_after_the_completion(self) -> None:
        """Its late failure never deletes the record of the worker that finished (B3, B10)."""
        async with self.fresh() as guard:
            zombie = await lease_one(guard, claim_of("e1"))
            holder = await lease_one(guard, claim_of("e1"), now=zombie.until)
            await confirm_one(guard, holder, result=b"holder", now=zombie.until)

            assert await release_one(guard, zombie, now=zombie.until) is False
            assert await confirm_one(guard, zombie, result=b"zombie", now=zombie.until) is False
            assert await renew_one(guard, zombie, now=zombie.until) is None

            verdict = await claim_one(guard, claim_of("e1"), now=zombie.until + 10 * LEASE)
            assert isinstance(verdict, Done)
            assert verdict.result == b"holder"

    async def test_a_zombie_changes_nothing_after_a_release(self) -> None:
        """A fence that fitted once never fits again, also when nobody holds the claim."""
        async with self.fresh() as guard:
            zombie = await lease_one(guard, claim_of("e1"))
            second = await lease_one(guard, claim_of("e1"), now=zombie.until)
            await release_one(guard, second, now=zombie.until)

            assert await confirm_one(guard, zombie, now=zombie.until) is False
            assert await release_one(guard, zombie, now=zombie.until) is False
            assert await renew_one(guard, zombie, now=zombie.until) is None

            third = await lease_one(guard, claim_of("e1"), now=zombie.until)
            assert third.attempt == 3
            assert third.fence > second.fence > zombie.fence

    async def test_an_owner_whose_lease_was_taken_gets_no_lease_back(self) -> None:
        """Asking again helps only him who still holds it."""
        async with self.fresh() as guard:
            zombie = await lease_one(guard, claim_of("e1"), owner="me")
            await lease_one(guard, claim_of("e1"), owner="other", now=zombie.until)

            verdict = await claim_one(guard, claim_of("e1"), owner="me", now=zombie.until)

        assert isinstance(verdict, Busy)

    async def test_only_the_caller_knows_what_time_it_is(self) -> None:
        """Instants far from the store's own clock work; a live lease is never stolen (B12)."""
        async with self.fresh() as guard:
            for n, year in enumerate((1971, 2026, 2999)):
                now = datetime(year, 1, 1, tzinfo=UTC)
                held = await lease_one(guard, claim_of(f"e{n}"), now=now)

                early = await claim_one(guard, claim_of(f"e{n}"), now=now + LEASE - INSTANT)
                late = await claim_one(guard, claim_of(f"e{n}"), now=now + LEASE)

                assert early == Busy(key=held.key, until=now + LEASE)
                assert isinstance(late, Lease)

    # -- records that are forgotten --------------------------------------------------------

    async def test_records_are_kept_until_their_time(self) -> None:
        """`forget` removes what is over, and not an instant earlier."""
        async with self.fresh() as guard:
            await confirm_one(guard, await lease_one(guard, claim_of("e1")))

            early = await guard.forget(now=NOW + KEEP - INSTANT, limit=10)
            still = await claim_one(guard, claim_of("e1"), now=NOW + KEEP - INSTANT)
            over = await guard.forget(now=NOW + KEEP, limit=10)
            again = await claim_one(guard, claim_of("e1"), now=NOW + KEEP)

        assert (early, over) == (0, 1)
        assert isinstance(still, Done)
        assert isinstance(again, Lease)

    async def test_forgetting_spares_what_is_not_completed(self) -> None:
        """Leases and attempts are not records of something applied."""
        async with self.fresh() as guard:
            await lease_one(guard, claim_of("leased"))
            await release_one(guard, await lease_one(guard, claim_of("released")))

            assert await guard.forget(now=NOW + 10 * KEEP, limit=10) == 0

            again = await lease_one(guard, claim_of("released"), now=NOW + 10 * KEEP)
            assert again.attempt == 2

    async def test_forgetting_takes_no_more_than_asked(self) -> None:
        """Housekeeping comes in portions."""
        async with self.fresh() as guard:
            claims = [claim_of(f"e{n}") for n in range(25)]
            leases = [v for v in await claim_all(guard, claims) if isinstance(v, Lease)]
            await guard.confirm([Confirmation(held) for held in leases], now=NOW, keep=KEEP)

            portions = [await guard.forget(now=NOW + KEEP, limit=10) for _ in range(4)]

        assert portions == [10, 10, 5, 0]

    async def test_fences_go_on_after_forgetting(self) -> None:
        """A zombie's fence does not fit a claim that started over: fences rise for ever."""
        async with self.fresh() as guard:
            old = await lease_one(guard, claim_of("e1"))
            await confirm_one(guard, old)
            await guard.forget(now=NOW + KEEP, limit=10)

            new = await lease_one(guard, claim_of("e1"), now=NOW + KEEP)
            stale = await confirm_one(guard, old, now=NOW + KEEP)

        assert new.fence > old.fence
        assert stale is False

    # -- keys ------------------------------------------------------------------------------

    async def test_consumers_and_sources_never_meet(self) -> None:
        """Two groups of one service do not starve each other (B22), nor do two shops."""
        claims = [
            claim_of("17", consumer="grades"),
            claim_of("17", consumer="mails"),
            claim_of("17", source="shop a"),
            claim_of("17", source="shop b"),
        ]
        async with self.fresh() as guard:
            for claim in claims:
                await confirm_one(guard, await lease_one(guard, claim))

            verdicts = [await claim_one(guard, claim) for claim in claims]

        assert all(isinstance(verdict, Done) for verdict in verdicts)

    async def test_keys_that_look_alike_are_not_alike(self) -> None:
        """Separators, braces, blanks and other scripts in a key stay what they are."""
        keys = [
            ("a", "b", "c"),
            ("a", "b:c", ""),
            ("a:b", "c", ""),
            ("a", "", "b:c"),
            ("a", "", "b c"),
            ("a", "", "b%20c"),
            ("a}", "{x}", "y"),
            ("{a}", "", "x"),
            ("ä", "", "x"),
            ("a", "", "X"),
            ("a", "", "x"),
        ]
        claims = [Claim(ClaimKey(*key), CONTENT) for key in keys]
        async with self.fresh() as guard:
            first = await claim_all(guard, claims)
            for verdict in first:
                assert isinstance(verdict, Lease)
                await confirm_one(guard, verdict)

            second = await claim_all(guard, claims)

        assert [v.key for v in first] == [claim.key for claim in claims]
        assert [v.key for v in second] == [claim.key for claim in claims]
        assert all(isinstance(verdict, Done) for verdict in second)

    # -- batches ---------------------------------------------------------------------------

    async def test_nothing_asked_is_nothing_answered(self) -> None:
        """Empty calls are allowed and do nothing."""
        async with self.fresh() as guard:
            assert list(await claim_all(guard, [])) == []
            assert list(await guard.renew([], now=NOW, lease=LEASE)) == []
            assert list(await guard.confirm([], now=NOW, keep=KEEP)) == []
            assert list(await guard.release([], now=NOW)) == []

    async def test_a_batch_is_answered_in_its_own_order(self) -> None:
        """Each claim gets its own verdict, whatever becomes of the others."""
        async with self.fresh() as guard:
            await confirm_one(guard, await lease_one(guard, claim_of("done")), result=b"r")
            await lease_one(guard, claim_of("busy"))
            await release_one(guard, await lease_one(guard, claim_of("released")))
            batch = ["released", "new", "done", "busy"]

            verdicts = await claim_all(guard, [claim_of(id_) for id_ in batch])

        assert [verdict.key.event_id for verdict in verdicts] == batch
        assert [kind_of(verdict) for verdict in verdicts] == [Lease, Lease, Done, Busy]

    async def test_a_batch_confirms_each_for_itself(self) -> None:
        """One lost lease of a batch does not keep the others from being completed."""
        async with self.fresh() as guard:
            leases = [await lease_one(guard, claim_of(id_)) for id_ in ("c", "a", "b")]
            await lease_one(guard, claim_of("a"), now=NOW + LEASE)
            batch = [Confirmation(held, held.key.event_id.encode()) for held in leases]

            answers = await guard.confirm(batch, now=NOW + LEASE, keep=KEEP)
            verdicts = await claim_all(
                guard, [claim_of(id_) for id_ in ("a", "b", "c")], now=NOW + LEASE
            )

        assert list(answers) == [True, False, True]
        assert [kind_of(verdict) for verdict in verdicts] == [Busy, Done, Done]
        assert [v.result for v in verdicts if isinstance(v, Done)] == [b"b", b"c"]

    async def test_a_batch_renews_and_releases_each_for_itself(self) -> None:
        """Lost leases are told apart from those still held, in the order asked."""
        async with self.fresh() as guard:
            leases = [await lease_one(guard, claim_of(id_)) for id_ in ("c", "a", "b")]
            await lease_one(guard, claim_of("a"), now=NOW + LEASE)

            renewed = await guard.renew(leases, now=NOW + LEASE, lease=LEASE)
            released = await guard.release(leases, now=NOW + LEASE)

        assert [held and held.key.event_id for held in renewed] == ["c", None, "b"]
        assert list(released) == [True, False, True]

    async def test_a_large_batch_is_one_call(self) -> None:
        """A whole poll of a thousand events is claimed and confirmed at once."""
        claims = [claim_of(f"e{n}") for n in range(1000)]
        async with self.fresh() as guard:
            leases = [v for v in await claim_all(guard, claims) if isinstance(v, Lease)]
            answers = await guard.confirm([Confirmation(v) for v in leases], now=NOW, keep=KEEP)
            repeats = await claim_all(guard, claims)

        assert len(leases) == 1000
        assert len({held.fence for held in leases}) == 1000
        assert all(answers)
        assert all(isinstance(verdict, Done) for verdict in repeats)

    # -- many at once ----------------------------------------------------------------------

    async def test_of_fifty_claimants_one_gets_the_lease(self) -> None:
        """The store decides, not the order in which anybody looked."""
        async with self.fresh() as guard:
            verdicts = await asyncio.gather(*(claim_one(guard, claim_of("e1")) for _ in range(50)))

        leases = [verdict for verdict in verdicts if isinstance(verdict, Lease)]
        busy = [verdict for verdict in verdicts if isinstance(verdict, Busy)]
        assert (len(leases), len(busy)) == (1, 49)

    async def test_of_fifty_heirs_of_an_expired_lease_one_wins(self) -> None:
        """A stale lease is replaced in one step: nobody removes the new holder's (B11)."""
        async with self.fresh() as guard:
            dead = await lease_one(guard, claim_of("e1"))
            verdicts = await asyncio.gather(
                *(claim_one(guard, claim_of("e1"), now=dead.until) for _ in range(50))
            )

        leases = [verdict for verdict in verdicts if isinstance(verdict, Lease)]
        assert len(leases) == 1
        assert leases[0].attempt == 2
        assert leases[0].fence > dead.fence

    async def test_confirming_and_taking_over_exclude_each_other(self) -> None:
        """At the end of a lease either its holder completes or an heir begins, never both."""
        async with self.fresh() as guard:
            for n in range(10):
                slow = await lease_one(guard, claim_of(f"e{n}"))

                confirmed, verdict = await asyncio.gather(
                    confirm_one(guard, slow, now=slow.until),
                    claim_one(guard, claim_of(f"e{n}"), now=slow.until),
                )

                assert isinstance(verdict, Done if confirmed else Lease)

    async def test_overlapping_batches_in_opposite_orders_never_deadlock(self) -> None:
        """Keys are taken in one order, whatever order they were asked in."""
        ids = [f"e{n}" for n in range(40)]
        async with self.fresh() as guard:
            for _ in range(5):
                await asyncio.gather(
                    *(
                        self._claim_and_end(guard, ids if n % 2 else ids[::-1], confirm=False)
                        for n in range(6)
                    )
                )
            await asyncio.gather(
                *(
                    self._claim_and_end(guard, ids if n % 2 else ids[::-1], confirm=True)
                    for n in range(6)
                )
            )
            await self._claim_and_end(guard, ids, confirm=True)
            verdicts = await claim_all(guard, [claim_of(id_) for id_ in ids])

        assert all(isinstance(verdict, Done) for verdict in verdicts)

    async def _claim_and_end(self, guard: Guard, ids: Sequence[str], *, confirm: bool) -> None:
        verdicts = await claim_all(guard, [claim_of(id_) for id_ in ids])
        leases = [verdict for verdict in verdicts if isinstance(verdict, Lease)]
        await guard.renew(leases, now=NOW, lease=LEASE)
        if confirm:
            ended = await guard.confirm([Confirmation(v) for v in leases], now=NOW, keep=KEEP)
        else:
            ended = await guard.release(leases, now=NOW)
        assert all(ended)
