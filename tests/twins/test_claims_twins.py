"""Deadlines with a fault in them: the suite of claims names each by the case that it breaks."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from msgspec.structs import replace

from onefold.adapters.memory.unit_of_work import MemoryDeadlines, MemoryUnitOfWork
from onefold.ports.deadlines import Deadline, Deadlines
from onefold.testing.contracts import ClaimsContract, failures

_AGES = timedelta(days=36_500)
_LOOKS = "test_what_is_looked_for_again_and_again_stays_as_it_was_armed"


class Unfenced(MemoryDeadlines):
    """Whoever says so completes a deadline."""

    async def complete(self, claimed: Sequence[Deadline]) -> Sequence[bool]:
        armed = self._uow.committed.deadlines
        present = [armed.get((one.kind, one.key), (None, b"", one.fence)) for one in claimed]
        return await super().complete(
            [replace(one, fence=now[2]) for one, now in zip(claimed, present, strict=True)]
        )


class NeverReclaims(MemoryDeadlines):
    """A lease lasts for ever: who dies takes the deadline along."""

    async def claim(
        self, kind: str, *, now: datetime, lease: timedelta, limit: int
    ) -> Sequence[Deadline]:
        return await super().claim(kind, now=now, lease=_AGES, limit=limit)


class GivesToAll(MemoryDeadlines):
    """Reads what is due and calls it claimed."""

    async def claim(
        self, kind: str, *, now: datetime, lease: timedelta, limit: int
    ) -> Sequence[Deadline]:
        return await self.due(kind, now=now, limit=limit)


class WearsOut(MemoryDeadlines):
    """Whatever was put off ten times is given up: who only waits is taken for who fails."""

    def __init__(self, uow: MemoryUnitOfWork) -> None:
        super().__init__(uow)
        self._times = Counter[str]()

    async def postpone(self, claimed: Sequence[tuple[Deadline, datetime]]) -> Sequence[bool]:
        self._times.update(one.key for one, _ in claimed)
        held = await super().postpone(claimed)
        for one in [key for key, times in self._times.items() if times >= 10]:
            self._uow.committed.deadlines.pop((claimed[0][0].kind, one), None)
        return held


class LooksAtTheLeasesEnd(MemoryDeadlines):
    """Whatever is put off comes when its lease would have ended, or later."""

    async def postpone(self, claimed: Sequence[tuple[Deadline, datetime]]) -> Sequence[bool]:
        ends = [self._uow.committed.deadlines[one.kind, one.key][0] for one, _ in claimed]
        later = [(one, max(at, end)) for (one, at), end in zip(claimed, ends, strict=True)]
        return await super().postpone(later)


@pytest.mark.parametrize(
    ("twin", "caught_by"),
    [
        (Unfenced, "test_arming_again_ends_a_lease"),
        (NeverReclaims, "test_a_lease_that_ended_is_claimed_again_under_a_higher_fence"),
        (GivesToAll, "test_of_many_claimants_each_deadline_goes_to_one"),
        (WearsOut, _LOOKS),
        (LooksAtTheLeasesEnd, _LOOKS),
    ],
)
async def test_a_fault_is_caught(twin: type[MemoryDeadlines], caught_by: str) -> None:
    """And the case that catches it says what is wrong."""

    class Suite(ClaimsContract):
        @asynccontextmanager
        async def fresh(self) -> AsyncIterator[Deadlines]:
            yield twin(MemoryUnitOfWork())

    assert caught_by in await failures(cast("Any", Suite))
