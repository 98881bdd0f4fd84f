"""`in_transaction`: again from the start when the store chose another, and only then."""

import pytest

from onefold.adapters.memory.unit_of_work import MemoryTransaction, MemoryUnitOfWork
from onefold.errors import OnefoldError, StoreContended, StoreUnavailable
from onefold.ports.unit_of_work import Transaction, in_transaction


class Work:
    """Counts its runs in the transaction, and fails as often as it is told."""

    def __init__(self, *failures: OnefoldError) -> None:
        self._failures = list(failures)
        self.runs = 0

    async def __call__(self, tx: Transaction) -> int:
        self.runs += 1
        assert isinstance(tx, MemoryTransaction)
        tx.records["effect"] = tx.records.get("effect", 0) + 1
        if self._failures:
            raise self._failures.pop(0)
        return self.runs


async def test_a_lucky_run_is_the_only_one() -> None:
    """Its result is what the caller gets."""
    uow, work = MemoryUnitOfWork(), Work()

    assert await in_transaction(uow, work) == 1
    assert uow.committed.records == {"effect": 1}


async def test_a_contended_run_is_repeated_from_its_start() -> None:
    """Nothing of the runs that were chosen against is left."""
    uow, work = MemoryUnitOfWork(), Work(StoreContended("a"), StoreContended("b"))

    assert await in_transaction(uow, work) == 3
    assert uow.committed.records == {"effect": 1}


async def test_the_last_failure_is_told() -> None:
    """Whoever never gets its turn is told so, after as many attempts as were allowed."""
    uow, work = MemoryUnitOfWork(), Work(*[StoreContended(f"{n}") for n in range(3)])

    with pytest.raises(StoreContended, match="2"):
        await in_transaction(uow, work, attempts=3)

    assert (work.runs, uow.committed.records) == (3, {})


async def test_one_attempt_is_no_retry() -> None:
    """Then the first failure is the last."""
    work = Work(StoreContended("a"))

    with pytest.raises(StoreContended):
        await in_transaction(MemoryUnitOfWork(), work, attempts=1)

    assert work.runs == 1


async def test_other_failures_are_not_repeated() -> None:
    """An outage is the caller's to wait for."""
    work = Work(StoreUnavailable("gone"))

    with pytest.raises(StoreUnavailable):
        await in_transaction(MemoryUnitOfWork(), work)

    assert work.runs == 1
