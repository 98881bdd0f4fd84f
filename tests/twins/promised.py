"""Twins for the contracts: adapters that break one promise each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from tests.twins.gallery import gallery
from tests.twins.test_contract_twins import (
    ClaimsOutside,
    Faulty,
    ForgetsTheConsumer,
    LooksAway,
    RollbackIsNothing,
)

from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import MemoryDeadlines, MemoryUnitOfWork
from onefold.ports.guard import Confirmation, Lease
from onefold.testing.contracts import (
    InboxContract,
    RecordEffects,
    Stores,
    UnitOfWorkContract,
)
from onefold.testing.contracts.guard import GuardContract


def _stores(uow: MemoryUnitOfWork) -> Any:
    @asynccontextmanager
    async def fresh() -> AsyncIterator[Stores]:
        yield Stores(
            uow=uow,
            outbox=MemoryOutbox(uow),
            deadlines=MemoryDeadlines(uow),
            effects=RecordEffects(),
        )

    return fresh()


@asynccontextmanager
async def _guard(guard: MemoryGuard) -> AsyncIterator[MemoryGuard]:
    yield guard


def _with(kind: type[Any]) -> Any:
    return _stores(type("Twin", (Faulty,), {"kind": kind})())


@gallery.breaks(
    "the inbox forgets whose claim it is",
    InboxContract,
    says="test_every_consumer_has_its_own_claims",
)
def forgotten_consumer_name() -> object:
    return _with(ForgetsTheConsumer)


@gallery.breaks(
    "the inbox is kept beside the transaction",
    InboxContract,
    says="test_a_claim_rolled_back_is_forgotten",
)
def claim_outside_the_transaction() -> object:
    return _with(ClaimsOutside)


@gallery.breaks(
    "after an error the transaction goes on and commits",
    UnitOfWorkContract,
    says="test_a_failed_call_cannot_be_swallowed",
)
def retry_inside_a_poisoned_transaction() -> object:
    return _stores(LooksAway())


@gallery.breaks(
    "an exception undoes nothing",
    UnitOfWorkContract,
    says="test_an_exception_rolls_everything_back",
)
def rollback_is_nothing() -> object:
    return _stores(RollbackIsNothing())


@gallery.breaks("the inbox and the transactions of the memory adapter", InboxContract)
def memory_inbox() -> object:
    return _stores(MemoryUnitOfWork())


@gallery.breaks("the unit of work of the memory adapter", UnitOfWorkContract)
def memory_unit_of_work() -> object:
    return _stores(MemoryUnitOfWork())


class _LosesTheFingerprint(MemoryGuard):
    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        answers = await super().confirm(confirmations, now=now, keep=keep)
        for confirmation in confirmations:
            record = self.records.get(confirmation.lease.key)
            if record is not None:
                self.records[confirmation.lease.key] = replace(record, fingerprint=b"")
        return answers


class _ConfirmsWithoutAFence(MemoryGuard):
    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        current = [
            replace(c.lease, fence=self.records[c.lease.key].fence)
            if c.lease.key in self.records
            else c.lease
            for c in confirmations
        ]
        return await super().confirm(
            [
                Confirmation(lease, c.result)
                for lease, c in zip(current, confirmations, strict=True)
            ],
            now=now,
            keep=keep,
        )


class _ReleasesAnybody(MemoryGuard):
    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        for lease in leases:
            self.records.pop(lease.key, None)
        return [True] * len(leases)


class _StartsFencesOver(MemoryGuard):
    async def forget(self, *, now: datetime, limit: int) -> int:
        removed = await super().forget(now=now, limit=limit)
        if removed:
            self._fences = count(1)
        return removed


@gallery.breaks(
    "a completed record no longer knows its content",
    GuardContract,
    says="test_other_content_under_a_done_id_is_told",
)
def fingerprint_lost_on_completion() -> object:
    return _guard(_LosesTheFingerprint())


@gallery.breaks(
    "confirm asks for the key and not for the fence",
    GuardContract,
    says="test_a_zombie_changes_nothing_after_the_completion",
)
def confirm_without_a_fence() -> object:
    return _guard(_ConfirmsWithoutAFence())


@gallery.breaks(
    "release is a DEL of the key",
    GuardContract,
    says="test_a_zombie_changes_nothing_while_the_claim_is_held",
)
def release_is_a_delete() -> object:
    return _guard(_ReleasesAnybody())


@gallery.breaks(
    "fences begin at one again when records are forgotten",
    GuardContract,
    says="test_fences_go_on_after_forgetting",
)
def fences_start_over() -> object:
    return _guard(_StartsFencesOver())


@gallery.breaks("the guard of the memory adapter", GuardContract)
def memory_guard() -> object:
    return _guard(MemoryGuard())
