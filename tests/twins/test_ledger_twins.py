"""Ledgers with one fault each: the contract catches every one, by the cases about it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import pytest

from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import MemoryDeadlines, MemoryUnitOfWork
from onefold.ports.ledger import Begun, DeadLetter
from onefold.ports.unit_of_work import Transaction
from onefold.testing.contracts import LedgerContract, RecordEffects, Stores, failures


class CountsWhatIsAskedAgain(MemoryLedger):
    """Takes every call for a start."""

    async def count(self, *where: Any, token: str, **named: Any) -> int:
        return await super().count(*where, token=token_hex(16), **named)


class CountsByPartition(MemoryLedger):
    """Forgets which message it was."""

    async def count(self, consumer: str, partition: Any, position: int, **named: Any) -> int:
        return await super().count(consumer, partition, 0, **named)


class TrustsTheNext(MemoryLedger):
    """Thinks that whoever was begun was also settled."""

    async def begin(self, *args: Any, **named: Any) -> Any:
        await super().begin(*args, **named)
        return []


class SuspectsItself(MemoryLedger):
    """Takes a call that comes again for another worker's."""

    async def begin(self, *args: Any, token: str, **named: Any) -> Any:
        return await super().begin(*args, token=token_hex(16), **named)


class ForgetsTheSuspect(MemoryLedger):
    """Knows its own call again, and has nothing more to say."""

    def _begin(self, place: Any, new: Begun) -> Begun | None:
        known, _ = self._spans.get(place, (None, None))
        return None if known and known.token == new.token else super()._begin(place, new)


class ParksAtOnce(MemoryLedger):
    """Parks in a transaction of its own."""

    async def park(self, tx: Transaction, letter: DeadLetter) -> None:
        await super().park(self._uow, letter)


class AtOnce(MemoryUnitOfWork):
    """Lets `ParksAtOnce` write beside an open transaction."""

    @property
    def records(self) -> Any:
        return self.committed.records

    def _commit(self, draft: Any) -> None:
        kept = self.committed.records.get("dead letters")
        super()._commit(draft)
        if kept is not None:
            self.committed.records["dead letters"] = kept


CAUGHT = {
    CountsWhatIsAskedAgain: "test_a_start_counts_once_however_often_it_is_told",
    CountsByPartition: "test_starts_of_other_messages_and_consumers_are_their_own",
    TrustsTheNext: "test_a_span_begun_again_is_told",
    SuspectsItself: "test_a_call_does_not_suspect_itself",
    ForgetsTheSuspect: "test_a_suspect_is_told_again_to_who_did_not_hear_of_it",
    ParksAtOnce: "test_a_letter_is_the_transactions",
}


@pytest.mark.parametrize("twin", CAUGHT, ids=lambda each: each.__name__)
async def test_a_faulty_ledger_is_caught(twin: type[MemoryLedger]) -> None:
    """By the case about its fault."""

    class Suite(LedgerContract):
        @asynccontextmanager
        async def fresh(self) -> AsyncIterator[Stores]:
            uow = AtOnce() if twin is ParksAtOnce else MemoryUnitOfWork()
            yield Stores(
                uow=uow,
                outbox=MemoryOutbox(uow),
                deadlines=MemoryDeadlines(uow),
                effects=RecordEffects(),
                ledger=twin(uow),
            )

    assert CAUGHT[twin] in await failures(Suite)
