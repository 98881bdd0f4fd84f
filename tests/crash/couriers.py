"""Couriers that the explorer can kill, and a database that none of them knows of another by."""

from itertools import count
from typing import Any

from sqlalchemy import delete
from tests.support import School, new_school

from onefold.adapters.sql.schema import deadlines
from onefold.engine.courier import Courier
from onefold.ports.delivery_book import Route
from onefold.ports.tables import metadata
from onefold_server.installation import Installation

_numbers = count(1)


class OneAtATime(Courier):
    """Waits for its attempts within the step: a death in one is a death of the process."""

    def __init__(self, *parts: Any, **how: Any) -> None:
        super().__init__(*parts, **how)
        # Not together with others, in a task of its own that a death would end unseen.
        self._settle = lambda order: self._settle_all([order])  # type: ignore[assignment]

    async def _begin(self, route: Route, most: int) -> int:
        begun = await super()._begin(route, most)
        for task in list(self._tasks):
            await task
        return begun


async def school_alone(onefold: Installation) -> School:
    """A fresh school; what others had to deliver is gone."""
    async with onefold.uow.begin() as tx:
        for table in reversed(metadata.sorted_tables):
            if table.name.startswith("trace_") or table is deadlines:
                await tx.execute(delete(table))
    return await new_school(onefold, str(next(_numbers)))
