"""The promises of `Ledger`."""

from dataclasses import replace
from itertools import count
from typing import Any, Final, cast

from onefold.ports.ledger import Begun, DeadLetter, Ledger, PositionSpan, letter_message
from onefold.ports.transport import Partition
from onefold.testing.contracts.stores import (
    NOON,
    Contract,
    RollBack,
    Stores,
    rolled_back,
    together,
)

HERE, THERE = Partition("topic", 0), Partition("topic", 1)
_CALLS = count(1)

_LETTER: Final = DeadLetter(
    consumer="c",
    partition=HERE,
    position=7,
    event_id="e",
    event_type="order.placed",
    key=b"k",
    value=b"\xff",
    headers=[("h", b"\x00\xff")],
    reason="ValueError",
    detail="no",
    attempts=3,
    parked_at=NOON,
)


class LedgerContract(Contract):
    """Starts are counted once, spans say what was not settled, letters wait for somebody."""

    def _ledger(self, stores: Stores) -> Ledger:
        return cast("Ledger", stores.ledger)

    async def _count(
        self,
        stores: Stores,
        token: str,
        *,
        consumer: str = "c",
        partition: Partition = HERE,
        position: int = 7,
    ) -> int:
        ledger = self._ledger(stores)
        return await ledger.count(consumer, partition, position, token=token, now=NOON)

    async def test_each_start_counts(self) -> None:
        """Whoever begins a message again learns how often that was."""
        async with self.fresh() as stores:
            counted = [await self._count(stores, token) for token in ("one", "two", "three")]

            assert counted == [1, 2, 3], counted

    async def test_a_start_counts_once_however_often_it_is_told(self) -> None:
        """A commit whose answer was lost is begun again under its token: no start is made up."""
        async with self.fresh() as stores:
            told = ("one", "one", "two", "two", "two")

            counted = [await self._count(stores, token) for token in told]

            assert counted == [1, 1, 2, 2, 2], counted

    async def test_starts_of_other_messages_and_consumers_are_their_own(self) -> None:
        """One message is never parked for another's failures."""
        async with self.fresh() as stores:
            await self._count(stores, "one")

            others = [
                await self._count(stores, "two", consumer="d"),
                await self._count(stores, "three", partition=THERE),
                await self._count(stores, "four", position=8),
            ]

            assert others == [1, 1, 1], others

    async def test_starts_at_once_are_all_counted(self) -> None:
        """Two workers that begin the same message at the same time count two starts."""
        async with self.fresh() as stores:
            tokens = [f"token {n}" for n in range(5)]

            counted = await together(
                *(lambda token=token: self._count(stores, token) for token in tokens)
            )

            assert sorted(counted) == [1, 2, 3, 4, 5], counted

    async def _begin(
        self,
        stores: Stores,
        *spans: tuple[Partition, int, int],
        consumer: str = "c",
        call: str | None = None,
    ) -> set[PositionSpan]:
        call = call or f"call {next(_CALLS)}"
        return {span for span, _ in await self._begun(stores, call, *spans, consumer=consumer)}

    async def _begun(
        self,
        stores: Stores,
        call: str,
        *spans: tuple[Partition, int, int],
        consumer: str = "c",
    ) -> set[Begun]:
        noted = [PositionSpan(*span) for span in spans]
        return set(await self._ledger(stores).begin(consumer, noted, token=call, now=NOON))

    async def test_a_span_begun_again_is_told(self) -> None:
        """Overlapping by one message is enough: that one may have killed its worker."""
        async with self.fresh() as stores:
            first = await self._begin(stores, (HERE, 3, 5))

            again = await self._begin(stores, (HERE, 5, 9))

            assert (first, again) == (set(), {PositionSpan(HERE, 3, 5)})

    async def test_a_span_that_follows_is_not_suspected(self) -> None:
        """What was settled is not begun again: the next span starts behind it."""
        async with self.fresh() as stores:
            await self._begin(stores, (HERE, 3, 5), (THERE, 3, 5))

            found = await self._begin(stores, (HERE, 6, 9), (THERE, 0, 2))
            found |= await self._begin(stores, (HERE, 6, 9), consumer="d")

            assert found == set()

    async def test_the_last_span_counts(self) -> None:
        """A partition has one span: the one begun last."""
        async with self.fresh() as stores:
            await self._begin(stores, (HERE, 3, 5))
            await self._begin(stores, (HERE, 6, 9), (THERE, 1, 1))

            found = await self._begin(stores, (HERE, 5, 6), (THERE, 2, 2))

            assert found == {PositionSpan(HERE, 6, 9)}

    async def test_spans_say_by_whom_they_were_begun(self) -> None:
        """So that what one call noted is told from what others did."""
        async with self.fresh() as stores:
            await self._begun(stores, "one", (HERE, 3, 5), (THERE, 1, 4))
            await self._begun(stores, "two", (HERE, 6, 9))

            found = await self._begun(stores, "three", (HERE, 6, 6), (THERE, 4, 9))

            assert found == {
                Begun(PositionSpan(HERE, 6, 9), "two"),
                Begun(PositionSpan(THERE, 1, 4), "one"),
            }

    async def test_a_call_does_not_suspect_itself(self) -> None:
        """A commit whose answer was lost is begun again under its token: nobody died."""
        async with self.fresh() as stores:
            told = [
                await self._begin(stores, (HERE, 3, 5), (THERE, 1, 1), call="t") for _ in range(3)
            ]

            assert told == [set()] * 3, told

    async def test_a_suspect_is_told_again_to_who_did_not_hear_of_it(self) -> None:
        """The lost answer was about a message that may kill: it must not be forgotten."""
        async with self.fresh() as stores:
            await self._begin(stores, (HERE, 3, 5), (THERE, 1, 1))

            told = [
                await self._begin(stores, (HERE, 5, 9), (THERE, 2, 2), call="t") for _ in range(3)
            ]

            assert told == [{PositionSpan(HERE, 3, 5)}] * 3, told

    async def test_who_began_meanwhile_is_suspected(self) -> None:
        """Between a lost answer and its repetition another worker took one of the partitions."""
        async with self.fresh() as stores:
            await self._begin(stores, (HERE, 3, 5), (THERE, 1, 4), call="t")
            await self._begin(stores, (HERE, 3, 3))

            found = await self._begin(stores, (HERE, 3, 5), (THERE, 1, 4), call="t")

            assert found == {PositionSpan(HERE, 3, 3)}

    async def _park(self, stores: Stores, letter: DeadLetter) -> None:
        async with stores.uow.begin() as tx:
            await self._ledger(stores).park(tx, letter)

    async def _letters(self, stores: Stores, **wanted: Any) -> list[Any]:
        return list(await self._ledger(stores).letters(**wanted))

    async def test_a_letter_has_all_that_is_needed_to_run_it_again(self) -> None:
        """Bytes, headers and place, whatever they are; and why it lies there."""
        async with self.fresh() as stores:
            await self._park(stores, _LETTER)

            (letter,) = await self._letters(stores)
            message = letter_message(letter)

            assert (message.partition, message.position) == (HERE, 7)
            assert (message.key, message.value) == (b"k", b"\xff")
            assert list(message.headers) == [("h", b"\x00\xff")]
            told = [letter[n] for n in ("event_id", "event_type", "reason", "detail", "attempts")]
            assert told == ["e", "order.placed", "ValueError", "no", 3]
            assert letter["state"] == "parked"

    async def test_parking_again_changes_nothing(self) -> None:
        """A message that comes again after it was parked leaves one letter, the first."""
        async with self.fresh() as stores:
            await self._park(stores, _LETTER)
            await self._park(stores, replace(_LETTER, reason="other"))

            assert [one["reason"] for one in await self._letters(stores)] == ["ValueError"]

    async def test_a_letter_is_the_transactions(self) -> None:
        """Parked with everything else of it, or not at all."""
        async with self.fresh() as stores:
            with rolled_back():
                async with stores.uow.begin() as tx:
                    await self._ledger(stores).park(tx, _LETTER)
                    raise RollBack

            assert await self._letters(stores) == []

    async def test_letters_are_found_by_what_they_say(self) -> None:
        """The oldest first, and no more than were asked for."""
        async with self.fresh() as stores:
            for position in (1, 2, 3):
                await self._park(stores, replace(_LETTER, position=position))
            await self._park(stores, replace(_LETTER, consumer="d", reason="other"))

            async def positions(**wanted: Any) -> list[int]:
                return sorted(one["position"] for one in await self._letters(stores, **wanted))

            assert await positions(consumer="c") == [1, 2, 3]
            assert await positions(reason="other") == [7]
            assert await positions(state="asked") == []
            assert len(await self._letters(stores, limit=2)) == 2

    async def test_a_replay_is_asked_for_and_told_in_its_transaction(self) -> None:
        """Asked for, applied with the effect; what was applied is asked for no more."""
        async with self.fresh() as stores:
            ledger = self._ledger(stores)
            await self._park(stores, _LETTER)
            (letter,) = await self._letters(stores)
            id_ = letter["id"]

            moved = await ledger.move([id_, "nobody"], to="asked", note="n", now=NOON)
            with rolled_back():
                async with stores.uow.begin() as tx:
                    await ledger.replayed(tx, id_, now=NOON)
                    raise RollBack
            asked = await self._letters(stores, state="asked")
            async with stores.uow.begin() as tx:
                await ledger.replayed(tx, id_, now=NOON)
            again = await ledger.move([id_], to="asked", note="n", now=NOON)

            assert list(moved) == [id_]
            assert [(one["id"], one["note"], one["moved_at"]) for one in asked] == [
                (id_, "n", NOON)
            ]
            assert list(again) == []
            assert [one["state"] for one in await self._letters(stores)] == ["replayed"]
