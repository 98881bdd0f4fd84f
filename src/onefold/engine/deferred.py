"""
Plain inserts of the events that share a transaction, held back to travel together.

A handler that inserts a row waits for a round trip; two hundred events that share a
transaction, for two hundred. Held back, the rows of a run become one statement. They are
written before anything else of the transaction is, and before its end, so statements keep
their order and reads see what was written.

What is lost is only the place where a refused row is told: at the end, not in the handler
that wrote it. So nothing is held back for an event that stands alone, and every event whose
transaction failed comes to stand alone: its handler then meets the error itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import CursorResult, Executable, insert

from onefold.ports.inserts import Inserted, PlainInsert, plain_insert
from onefold.ports.unit_of_work import Transaction

__all__ = ["DeferredInserts"]


class DeferredInserts:
    """
    Runs a transaction's statements in their order, the inserts of one table at once.

    Args:
        tx: Where to write.
        hold: False runs every statement at once.
    """

    def __init__(self, tx: Transaction, *, hold: bool) -> None:
        self._tx, self._hold = tx, hold
        self._held: PlainInsert | None = None  # what the rows are for
        self._rows: list[dict[str, Any]] = []

    async def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """As `Transaction.execute`; a plain insert is held back instead."""
        plain = plain_insert(statement, parameters) if self._hold else None
        if plain is None:
            await self.write()
            return await self._tx.execute(statement, parameters)
        if self._held is not None and self._held[:2] != plain[:2]:
            await self.write()
        self._held = plain
        self._rows += map(dict, plain.rows)  # a handler may reuse its own
        return Inserted(len(plain.rows))  # type: ignore[return-value]

    async def write(self) -> None:
        """Write what is held back. One round trip, none when there is nothing."""
        held, rows = self._held, self._rows
        self._held, self._rows = None, []
        if held is not None:
            await self._tx.execute(insert(held.table), rows)
